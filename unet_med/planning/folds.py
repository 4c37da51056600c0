"""A training of all images, and beside it folds: networks that have not seen a part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_med.data.checksum import sha256
from unet_med.data.split_file import of_file, splits_in
from unet_med.data.splits import Item, cross_validation, split_validation
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.plan import Decision
from unet_med.planning.splits import IN_BUNDLE, entries_of, items_of

Split = Mapping[str, Any]


@dataclass(frozen=True)
class Folds:
    """What `configs/split.json` and `configs/folds.json` hold, and the ids that say so."""

    split: Split
    folds: Sequence[Split]
    ids: Mapping[str, Decision]


def decide_folds(
    found: Fingerprint, ids: Mapping[str, Any], asked: Mapping[str, Any], file: str | None
) -> Folds:
    """Folds of what is trained on; what a list or a file keeps apart is in none of them.

    Args:
        found: what the files say.
        ids: what was decided besides, by id.
        asked: what the user chose, by id.
        file: the user's own split: of folds, or of what stays apart.

    Raises:
        ValueError: there are not so many parts, or an option has no effect.
    """
    _refuse_other_splits(ids, asked)
    planes, kind = bool(ids["slice_stacks"]), ids["label_kind"]
    group, items = ids.get("group"), items_of(found.cases, planes=planes, kind=kind)
    items, apart = _apart(items, file)
    listed = file if file is not None and splits_in(Path(file)) is not None else None
    folds = cross_validation(items, ids["folds"], group=group, file=listed)
    shown = apart or split_validation(items, ids["validation_fraction"], group=group)[1]
    main = {
        "fold": None,
        "group": group,
        "from": file and {"name": Path(file).name, "sha256": sha256(file)},
        "seen": not apart,
        "training": entries_of(items, found.cases),
        "validation": entries_of(shown, found.cases),
    }
    names = ("training", "validation")
    sides = [
        {name: entries_of(side, found.cases) for name, side in zip(names, split, strict=True)}
        for split in folds
    ]
    what = "planes" if "slice" in items[0] else "images"
    how = f"all {len(items)} {what} are learned from, and held out in one of {len(folds)} folds"
    if apart:
        how += f"; {len(apart)} stay apart"
    fit = Decision(False, "what the folds hold out chooses how objects are made")
    return Folds(main, tuple(sides), {"split_file": Decision(IN_BUNDLE, how), "fit": fit})


def _refuse_other_splits(ids: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for id, option in (("validation_fraction", "--validation"), ("fold", "--fold")):
        if asked.get(id) is not None:
            raise ValueError(
                f"--folds {ids['folds']} holds each image out once, so {option} has no effect: "
                "leave it out"
            )
    if any(id.partition("::")[0] in ("pairs", "split") for id in ids):
        raise ValueError("--folds has no effect where an override file sets `pairs` or `split`")


def _apart(items: list[Item], file: str | None) -> tuple[list[Item], list[Item]]:
    """What is cut into folds, and what stays apart from all of them."""
    if file is not None and splits_in(Path(file)) is None:
        training, held = of_file(items, Path(file))
        return training, held
    held = [item for item in items if item.get("section") == "validation"]
    return [item for item in items if item.get("section") != "validation"], held
