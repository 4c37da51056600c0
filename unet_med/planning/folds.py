"""A training of all images, and beside it folds: networks that have not seen a part of them.

For a learning curve a fold has several networks, which learn from all and from fewer of its images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unet_med.data.cases import shown
from unet_med.data.entries import Item
from unet_med.data.split_file import splits_in
from unet_med.data.splits import (
    Split,
    Subset,
    by_section,
    cross_validation,
    nested_subsets,
    parts_of,
    split_validation,
)
from unet_med.planning.copies import about_copies, about_subjects, kept_together
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.learned import Learned
from unet_med.planning.plan import Decision
from unet_med.planning.splits import IN_BUNDLE, Known, items_of, origin_of, sides_of

Content = Mapping[str, Any]
FEWEST = 3  # images of a learning curve: one is held out, and one is a part of two


@dataclass(frozen=True)
class Folds:
    """What `configs/split.json`, `folds.json` and `subsets.json` hold, and the ids that say so."""

    split: Content
    folds: Sequence[Content]
    ids: Mapping[str, Decision]
    subsets: Sequence[Content] = ()


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
        ValueError: there are not so many parts, an option has no effect, or the weights that all
            networks start from have learned from what is held out.
    """
    _refuse_other_splits(ids, asked)
    cut = _cut(found, ids, file)
    _require_unseen(cut, Known(Learned.of(begun), found.cases), ids, begun.get("name", ""))
    smaller: Sequence[Subset] = ()
    if ids.get("learning_curve"):
        smaller = nested_subsets(cut.folds, group=cut.together, seed=ids["seed"])
    main = {
        "fold": None,
        "group": ids.get("group"),
        "from": origin_of(file),
        "seen": not cut.apart,
        **sides_of(cut.items, cut.shown, found.cases),
    }
    sides = [sides_of(training, part, found.cases) for training, part in cut.folds]
    subsets = [
        {"fold": k, "share": share, **sides_of(part, cut.folds[k][1], found.cases)}
        for share, k, part in smaller
    ]
    fit = Decision(False, "what the folds hold out chooses how objects are made")
    decided = {"split_file": Decision(IN_BUNDLE, _in_words(cut, found)), "fit": fit}
    if ids.get("folds") is None:
        decided["folds"] = Decision(len(sides), "what a learning curve takes, unless told")
    return Folds(main, tuple(sides), decided, tuple(subsets))


@dataclass(frozen=True)
class _Cut:
    """What is learned from, cut into folds.

    Attributes:
        items: of the network of all images.
        folds: to learn from and held out, of each fold.
        apart: what validates that network and is in no fold.
        shown: what it is validated on: that, or a part of `items`.
        left: how many of all items are neither learned from nor apart.
        together: key of what is drawn together; see `kept_together`.
    """

    items: Sequence[Item]
    folds: Sequence[Split]
    apart: Sequence[Item]
    shown: Sequence[Item]
    left: int
    together: str | None


def _cut(found: Fingerprint, ids: Mapping[str, Any], file: str | None) -> _Cut:
    group, kind = ids.get("group"), ids["label_kind"]
    every = items_of(found.cases, planes=bool(ids["slice_stacks"]), kind=kind)
    items, apart = _apart(every, file)
    items, together = kept_together(items, found.cases, group)
    if ids.get("learning_curve"):
        _require_enough(items, together)
    listed = file if file is not None and splits_in(Path(file)) is not None else None
    told = listed is not None or any(item.get("fold") is not None for item in items)
    key = group if told else together  # who says what is held out may part copies
    folds = cross_validation(items, ids.get("folds"), group=key, file=listed)
    _require_once(folds)
    known = {id(item) for split in folds for side in split for item in side}
    items = [item for item in items if id(item) in known]
    shown = apart or split_validation(items, ids["validation_fraction"], group=key)[1]
    left = len(every) - len(items) - len(apart)
    return _Cut(items, folds, apart, shown, left, together)


def _require_once(folds: Sequence[Split]) -> None:
    """Refuse what two folds hold out."""
    held = [item for _, part in folds for item in part]
    for k, count in Counter(map(id, held)).items():
        if count > 1:
            image = next(item["image"] for item in held if id(item) == k)
            raise ValueError(
                f"{shown(image)} is held out by {count} folds, and its score would count as often: "
                "leave it in the held-out part of one"
            )


def _in_words(cut: _Cut, found: Fingerprint) -> str:
    what = "planes" if "slice" in cut.items[0] else "images"
    held = sum(len(part) for _, part in cut.folds)
    those = "" if held == len(cut.items) else f"{held} of them are "
    how = f"all {len(cut.items)} {what} are learned from, and {those}held out in one of "
    how += f"{len(cut.folds)} folds"
    how += f"; {len(cut.apart)} stay apart" if cut.apart else ""
    how += f"; {cut.left} in none of them, left out" if cut.left else ""
    sides: list[Split] = [*cut.folds, (list(cut.items), list(cut.apart))]
    return how + about_copies(sides, found.cases) + about_subjects(sides)


def _require_enough(items: Sequence[Item], group: str | None) -> None:
    """Refuse too few images for a learning curve."""
    if (count := len(parts_of(items, group))) < FEWEST:
        raise ValueError(
            f"--learning-curve takes at least {FEWEST} images, or groups of them, and there "
            f"{'is' if count == 1 else 'are'} {count}: leave it out"
        )


def _require_unseen(cut: _Cut, known: Known, ids: Mapping[str, Any], name: str) -> None:
    """Refuse to judge a start by what it has learned from.

    A learning curve asks what images are worth that are new, so it takes none of these at all.
    """
    curve, held = bool(ids.get("learning_curve")), [i for _, part in cut.folds for i in part]
    if not (taught := known.has(cut.items if curve else held)):
        return
    option = "--learning-curve" if curve else _option(ids)
    what = "planes" if "slice" in taught[0] else "images"
    asks = "asks what new images are worth" if curve else "scores images that are new to a network"
    raise ValueError(
        f"{option} {asks}, and {name}, from which all networks start, has learned from "
        f"{len(taught)} of these {what}, such as {shown(taught[0]['image'])}: leave out --from, "
        f"{option.split()[0]}, or these {what}"
    )


def _option(ids: Mapping[str, Any]) -> str:
    """The option that asks for folds."""
    folds = ids.get("folds")
    return "--learning-curve" if folds is None else f"--folds {folds}"


def _refuse_other_splits(ids: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    name = _option(ids)
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
        return split_validation(items, file=file)
    return by_section(items)
