"""What the values of truths mean: as somebody says, else as they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med import data
from unet_med.data.bars import with_bar
from unet_med.data.class_names import ClassNames
from unet_med.data.classes import refuse_greys
from unet_med.data.file_reader import Volume, is_unreadable
from unet_med.data.label_kind import UndecidedLabels, name_classes
from unet_med.data.label_reader import look_and_head, refuse_masks
from unet_med.data.labels import LOOKED_AT, MAX_CLASSES, LabelSummary
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.scoring.asked import AUTO, Asked


def look_at(truths: Mapping[str, str], asked: Asked) -> dict[str, tuple[LabelSummary, Volume]]:
    """What each truth holds that can be read, and its header; what cannot be a label is refused.

    Where somebody said what they hold, nothing is looked for that would tell.

    Raises:
        FileNotFoundError: none is there.
        ValueError: none can be read, or one is no label.
    """
    looks, failures = {}, []
    for k, (name, file) in enumerate(with_bar([*truths.items()], "looking at labels")):
        blobs = asked.kind == AUTO and k < LOOKED_AT
        try:
            looks[name] = look_and_head(file, blobs=blobs, **asked.reading)
        except (ValueError, OSError) as error:
            if not is_unreadable(error):
                raise
            failures.append(error)  # its case is a row that says so
    if not looks:
        raise failures[0]
    return looks


def kind_of(
    truths: Mapping[str, str],
    looks: Mapping[str, LabelSummary],
    asked: Asked,
    names: ClassNames,
    settings: Mapping[str, Any],
) -> str:
    """What the truths hold, those that can be read.

    What the user says comes first; then several names, of all values; then classes, as the record
    of the results has them; then a guess from the values. Where these speak for both, any name
    decides, and the record.

    Raises:
        ValueError: they may be several things, and nobody says which; or 255 among classes may be
            one (`classes.refuse_greys`).
    """
    values = [set(look.values.tolist()) for look in looks.values()]
    kind = _kind_of(truths, looks, values, asked, names, settings)
    if kind == "classes":
        refuse_greys(values, [Path(truths[name]).name for name in looks])
    return kind


def _kind_of(
    truths: Mapping[str, str],
    looks: Mapping[str, LabelSummary],
    values: Sequence[set[int]],
    asked: Asked,
    names: ClassNames,
    settings: Mapping[str, Any],
) -> str:
    if asked.kind != AUTO:
        return asked.kind
    held = set().union(*values) - {0, UNKNOWN}
    made = settings.get("label_kind")
    if held != {IGNORED}:  # of which, as classes, nothing would be left
        if name_classes(names, values) or (made == "classes" and len(held) < MAX_CLASSES):
            return "classes"
        if made == "classes":
            raise UndecidedLabels(
                f"the truths hold {len(held)} values besides 0, and the results are classes, as "
                "their record says: say --label-kind classes or --label-kind instances"
            )
    try:
        kind = data.guess_label_kind(list(looks.values()))
    except UndecidedLabels:
        kind = "classes" if names else str(made)
        if kind not in ("classes", "instances"):
            raise
    if kind == "instances":
        refuse_masks(list(truths.values()), list(looks.values()), **asked.reading)
    return kind
