"""A training of all images, and beside it folds: networks that have not seen a part of them.

For a learning curve a fold has several networks, which learn from all and from fewer of its images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unet_med.data.checksum import sha256
from unet_med.data.split_file import of_file, splits_in
from unet_med.data.splits import (
    Item,
    cross_validation,
    nested_subsets,
    parts_at_most,
    split_validation,
)
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.plan import Decision
from unet_med.planning.splits import IN_BUNDLE, entries_of, items_of

Split = Mapping[str, Any]
FEWEST = 3  # images of a learning curve: one is held out, and one is a part of two


@dataclass(frozen=True)
class Folds:
    """What `configs/split.json`, `folds.json` and `subsets.json` hold, and the ids that say so."""

    split: Split
    folds: Sequence[Split]
    ids: Mapping[str, Decision]
    subsets: Sequence[Split] = ()


def has_folds(ids: Mapping[str, Any]) -> bool:
    """Whether networks judge each other's images, by the values of ids."""
    return ids.get("folds") is not None or bool(ids.get("learning_curve"))


def decide_folds(
    found: Fingerprint,
    ids: Mapping[str, Any],
    asked: Mapping[str, Any],
    file: str | None,
    *,
    begun: Mapping[str, Any] = MappingProxyType({}),
) -> Folds:
    """Folds of what is trained on; what a list or a file keeps apart is in none of them.

    Args:
        found: what the files say.
        ids: what was decided besides, by id.
        asked: what the user chose, by id.
        file: the user's own split: of folds, or of what stays apart.
        begun: what the training starts from, as `Source.described` has it.

    Raises:
        ValueError: there are not so many parts, or an option has no effect.
    """
    _refuse_other_splits(ids, asked)
    planes, kind = bool(ids["slice_stacks"]), ids["label_kind"]
    group, items = ids.get("group"), items_of(found.cases, planes=planes, kind=kind)
    items, apart = _apart(items, file)
    curve = bool(ids.get("learning_curve"))
    if curve:
        _require_curve(items, group, begun)
    listed = file if file is not None and splits_in(Path(file)) is not None else None
    folds = cross_validation(items, ids.get("folds"), group=group, file=listed)
    smaller = nested_subsets(folds, group=group, seed=ids["seed"]) if curve else []
    shown = apart or split_validation(items, ids["validation_fraction"], group=group)[1]
    main = {
        "fold": None,
        "group": group,
        "from": file and {"name": Path(file).name, "sha256": sha256(file)},
        "seen": not apart,
        **_sides(items, shown, found),
    }
    sides = [_sides(training, held, found) for training, held in folds]
    subsets = [
        {"fold": k, "share": share, **_sides(part, folds[k][1], found)}
        for share, k, part in smaller
    ]
    what = "planes" if "slice" in items[0] else "images"
    how = f"all {len(items)} {what} are learned from, and held out in one of {len(folds)} folds"
    if apart:
        how += f"; {len(apart)} stay apart"
    fit = Decision(False, "what the folds hold out chooses how objects are made")
    decided = {"split_file": Decision(IN_BUNDLE, how), "fit": fit}
    if ids.get("folds") is None:
        decided["folds"] = Decision(len(folds), "what a learning curve takes, unless told")
    return Folds(main, tuple(sides), decided, tuple(subsets))


def _sides(training: Sequence[Item], held: Sequence[Item], found: Fingerprint) -> dict[str, Any]:
    return {
        "training": entries_of(training, found.cases),
        "validation": entries_of(held, found.cases),
    }


def _require_curve(items: Sequence[Item], group: str | None, begun: Mapping[str, Any]) -> None:
    """Refuse what gives no curve: too few images, or images that all its networks have seen."""
    if (count := parts_at_most(items, group)) < FEWEST:
        raise ValueError(
            f"--learning-curve takes at least {FEWEST} images, or groups of them, and there "
            f"{'is' if count == 1 else 'are'} {count}: leave it out"
        )
    if begun.get("seen"):
        raise ValueError(
            f"--learning-curve asks what images are worth that a network has not seen, and "
            f"{begun['name']} has seen {begun['seen']} of these: leave --from out, or these images"
        )


def _refuse_other_splits(ids: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    folds = ids.get("folds")
    name = "--learning-curve" if folds is None else f"--folds {folds}"
    for id, option in (("validation_fraction", "--validation"), ("fold", "--fold")):
        if asked.get(id) is not None:
            raise ValueError(
                f"{name} holds each image out once, so {option} has no effect: leave it out"
            )
    if any(id.partition("::")[0] in ("pairs", "split") for id in ids):
        raise ValueError(
            f"{name.split()[0]} has no effect where an override file sets `pairs` or `split`"
        )


def _apart(items: list[Item], file: str | None) -> tuple[list[Item], list[Item]]:
    """What is cut into folds, and what stays apart from all of them."""
    if file is not None and splits_in(Path(file)) is None:
        training, held = of_file(items, Path(file))
        return training, held
    held = [item for item in items if item.get("section") == "validation"]
    return [item for item in items if item.get("section") != "validation"], held
