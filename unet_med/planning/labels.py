"""What label values mean, how many classes there are, and the smallest object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from unet_med import data
from unet_med.data.class_names import name_of, told_names
from unet_med.data.label_checks import listed
from unet_med.data.label_kind import name_classes
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.planning.fingerprints import Case, Fingerprint, unknown_marks
from unet_med.planning.plan import ASKED, Decision, Decisions
from unet_med.planning.rare import OUTPUT
from unet_med.planning.sizes import median_size

LOOK_LIKE = {
    "mask": "the labels hold at most two values",
    "classes": "the labels hold few integers, which repeat from image to image",
    "instances": "the labels hold a number for each object",
}
NO_END = (
    "; each annotated plane holds an object, so nothing shows where objects end: annotate also "
    "planes beyond them, which hold none"
)


def decide_labels(
    found: Fingerprint,
    kind: str | None = None,
    classes: int | None = None,
    told: Sequence[str] | None = None,
) -> Decisions:
    """`label_kind`, `out_channels`, `class_values` and `unknown`.

    Args:
        found: what the files say.
        kind: what the user says; None or `"auto"`: as the values look.
        classes: number of classes, where the user says it.
        told: names of classes, as the user says them; see `told_names`.

    Raises:
        ValueError: labels that are no classes, or values that leave some out; or these may be
            several things, and nobody says which; or nobody annotated a pixel of a label.
    """
    asked = kind not in (None, "auto")
    if classes and asked and kind != "classes":
        raise ValueError(f"--classes is for labels that are classes, these are {kind}")
    if asked:
        if kind == "instances" and found.masks:
            raise ValueError(
                f"the labels are masks: {found.masks}; say --label-kind mask, of which predict "
                "--instances numbers the pieces, or number the objects"
            )
        decided = Decision(kind, ASKED)
    elif classes:
        decided = Decision("classes", "as their number was given")
    elif namer := _namer(found, told):
        decided = Decision("classes", f"{namer} names their values")
    elif found.label_kind is None:
        raise ValueError(found.doubt)
    else:
        decided = Decision(found.label_kind, LOOK_LIKE[found.label_kind])
    count, own = Decision(2, "background and foreground"), None
    if decided.value == "classes":
        own = data.class_values(_values(found), [c.label.name for c in found.cases], classes)
        why = ASKED if classes else "counted in the labels, background included"
        count = Decision(len(own), why)
    gaps = own is not None and own != list(range(len(own)))
    why = "values of the labels, which results carry too" if gaps else "0 to out_channels - 1"
    mapped = Decision(own if gaps else None, why)
    unknown = _unknown(found, decided.value)
    return {
        "label_kind": decided,
        "out_channels": count,
        "class_values": mapped,
        "unknown": unknown,
    }


def decide_tiles(found: Fingerprint, kind: str) -> Decisions:
    """`augment::crop`: which pixels are unknown, and where in a tile one that is known lies."""
    if not found.unknown_share(kind):
        return {}
    mark = IGNORED if kind == "classes" else UNKNOWN
    why = "each tile's output holds a pixel that is known"
    return {
        "augment::crop::ignore": Decision(mark, why),
        "augment::crop::middle": Decision(OUTPUT, f"{why}, anywhere in it"),
    }


def _unknown(found: Fingerprint, kind: str) -> Decision:
    """The files' value of pixels that nobody annotated, and what there is of them."""
    for case in found.cases:
        if (held := case.label_values) and held <= unknown_marks(kind):
            raise ValueError(
                f"nobody annotated a pixel of label {case.label.name}: paint some, or leave image "
                "and label out"
            )
    if kind == "instances" and found.stand_out and found.unknown is None:
        raise ValueError(
            f"label {found.stand_out[0]} holds 255, which covers far more than any of its objects: "
            "say --unknown 255 if nobody annotated there, or --unknown -1 if it is an object"
        )
    share = found.unknown_share(kind)
    if share:
        why = f"nobody annotated {share:.3g} of the pixels"
        return Decision(found.unknown, why + NO_END * _is_endless(found, kind))
    why = "every pixel of the labels is known"
    if kind == "instances" and found.marked:
        why += "; 255 is an object like any other"
    return Decision(found.unknown, why)


def _is_endless(found: Fingerprint, kind: str) -> bool:
    """Whether planes are missing, and each that is there holds an object, in all labels."""
    stacks = [case for case in found.cases if case.image.plane_count > 1]
    missing = any(case.blank_planes(kind) for case in stacks)
    return missing and all(case.empty == 0 for case in stacks)


def decide_names(
    found: Fingerprint, labels: Mapping[str, Decision], told: Sequence[str] | None
) -> Decision:
    """`class_names`: of each class but the background, in order.

    Args:
        found: what the files say; a data list may name classes.
        labels: as `decide_labels` decided.
        told: what the user says; see `told_names`.

    Raises:
        ValueError: a class without a name among those that are told, or a name without a class.
    """
    values = labels["class_values"].value or range(labels["out_channels"].value)
    classes = list(values)[1:]
    if told:
        names = told_names(told)
        for value in sorted(set(classes) ^ set(names)):
            what = (
                f"{value}={names[value]} names no class"
                if value in names
                else f"no name for {value}"
            )
            raise ValueError(
                f"--class-names {' '.join(told)}: {what}; the classes of the labels are "
                f"{', '.join(map(str, classes))}: write VALUE=NAME for each, or say --classes"
            )
        return Decision([names[value] for value in classes], ASKED)
    names = {int(value): name for value, name in found.class_names.items()}
    if not names:
        return Decision(None, "no file names the classes")
    own = [names.get(value, name_of(value)) for value in classes]
    return Decision(own, f"as {found.images} names them")


def about_untaught(learned: Collection[int], cases: Sequence[Case], kind: str) -> str:
    """What is to be known of classes, or objects, that no image that is learned from holds."""
    if kind != "classes":
        if any(cases[k].holds_object for k in learned):
            return ""
        return "; no image that is learned from holds an object: choose the sides with --split"
    held = [case.label_values or set() for case in cases]
    taught = set().union(*(held[k] for k in learned), {0, IGNORED, UNKNOWN})
    missing = sorted(set().union(*held) - taught)
    if not missing:
        return ""
    named = listed([name_of(value) for value in missing])
    return f"; no image that is learned from holds {named}: choose the sides with --split"


def min_size(found: Fingerprint, kind: str, dims: int, pixels: Mapping[str, Any]) -> Decision:
    """Smallest instance that a prediction keeps, px: a tenth of the median one.

    Args:
        found: what the files say.
        kind: what labels mean.
        dims: axes of the network.
        pixels: `element_size`, `element_unit` and `scale`, as decided.
    """
    if kind != "instances":
        return Decision(0, "no result is dropped for being small")
    if found.instances is None:
        return Decision(0, "no label holds an object")
    median = median_size(found.instances, found.cases[0].image, dims, pixels)
    return Decision(int(median / 10), f"a tenth of the median object, {median:.4g} px")


def _values(found: Fingerprint) -> list[set[int]]:
    for case in found.cases:
        if case.label_values is None:
            raise ValueError(
                f"label {case.label.name} holds fractions, or more values than there are "
                "classes: say --label-kind instances, or correct it"
            )
    return [case.label_values or set() for case in found.cases]


def _namer(found: Fingerprint, told: Sequence[str] | None) -> str | None:
    """What names several values, where the labels hold no others."""
    names = told_names(told) if told else {int(value): n for value, n in found.class_names.items()}
    named = name_classes(names, [case.label_values for case in found.cases])
    return ("--class-names" if told else found.images) if named else None
