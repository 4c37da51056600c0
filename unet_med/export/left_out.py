"""What a bundle does at prediction and its exported network does not, by the ids of the plan.

`LISTED` are the ids of `inference.json` that change a result behind the network or before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unet_med.data.grey_values import ROBUST
from unet_med.data.pixel_size import in_words

Ids = Mapping[str, Any]  # of `inference.json`, with their values
VIEWS = {"flips": "mirrored", "rotations": "rotated"}

COMPANIONS = {"element_unit": "element_size", "mirror_axes": "tta"}  # part of another's sentence
OF_OBJECTS = ("threshold", "mask_threshold", "reach", "min_size", "min_part", "grow", "planes")


def _pixels(ids: Ids) -> str:
    if ids.get("element_size") is not None:
        size = in_words(ids["element_size"])
        return f"brought to {size} {ids.get('element_unit') or 'in their own unit'} a pixel"
    return f"scaled by {in_words(ids['scale'])}"


def _seen(ids: Ids) -> str:
    return f"sees images as they come, where the bundle's are {_pixels(ids)}"


def _clipped(ids: Ids) -> str:
    return "them without hot and dead pixels" if ROBUST in ids["intensity"] else "those of CT"


_WORDS: dict[str, Callable[[Ids], str]] = {
    "element_size": _seen,
    "scale": _seen,
    "orientation": lambda ids: (
        f"takes axes as they come, where the bundle turns volumes to {ids['orientation']}"
    ),
    "intensity": lambda ids: (
        f"takes grey values as they come, where the bundle clips and scales {_clipped(ids)} "
        "(`intensity` in its plan)"
    ),
    "statistics": lambda ids: (
        "uses the batch-normalisation statistics recorded in training, where the bundle takes "
        "those of each image"
    ),
    "tta": lambda ids: (
        f"looks at the image once, where the bundle averages over its {VIEWS[ids['tta']]} copies"
    ),
    "calibration": lambda ids: (
        "gives probabilities that are not calibrated, where the bundle's are by a temperature of "
        f"{ids['calibration']['temperature']:g}"
        + (" and a bias a class" if ids["calibration"].get("bias") else "")
    ),
    "class_values": lambda ids: (
        f"numbers classes from 0, where the bundle writes {in_words(ids['class_values'])}"
    ),
}

LISTED = (*_WORDS, *COMPANIONS, *OF_OBJECTS)


def differences(ids: Ids) -> dict[str, str]:
    """What an export does otherwise, a part of a sentence by id; ids that do nothing are no key."""
    found = {id: words(ids) for id, words in _WORDS.items() if _acts(id, ids.get(id))}
    if "element_size" in found:
        found.pop("scale", None)  # which then does nothing
    return found


def about_objects(ids: Ids) -> str:
    """One sentence: how the bundle makes objects, which an export does not; empty: it does not."""
    if ids.get("threshold") is None:
        return ""
    mask = ids["threshold"] if ids.get("mask_threshold") is None else ids["mask_threshold"]
    part = ids.get("min_part")  # a bundle of an earlier version has none
    parts = "of which one that a higher probability parts into pieces of {} px or more is as many, "
    return (
        f"It gives probabilities, of which the bundle makes objects: seeds of at least "
        f"{ids['threshold']:g} foreground, {parts.format(part) if part else ''}"
        f"which take what is at least {mask:g} within {in_words(ids['reach'])} px, "
        f"{ids['min_size']} px or more in all{_counted(ids)}."
    )


def _counted(ids: Ids) -> str:
    """Which pixels these are, where the bundle brings images to others."""
    scaled = any(_acts(id, ids.get(id)) for id in ("element_size", "scale"))
    return ", counted in the pixels that the bundle's network sees" if scaled else ""


def left_out(ids: Ids) -> dict[str, dict[str, Any]]:
    """Every id of the plan that an export leaves out: its `value`, and what that `means`."""
    means = {id: f"it {words}" for id, words in differences(ids).items()}
    means |= {id: f"see {other}" for id, other in COMPANIONS.items() if other in means}
    means |= dict.fromkeys(OF_OBJECTS, "the bundle makes objects of probabilities by it")
    return {id: {"value": ids[id], "means": words} for id, words in means.items() if ids.get(id)}


def sentences(ids: Ids) -> str:
    """The same in a sentence or two; empty where nothing is left out."""
    parts = list(differences(ids).values())
    said = f"The exported network {' and '.join(parts)}: results differ." if parts else ""
    return f"{said} {about_objects(ids)}".strip()


def _acts(id: str, value: Any) -> bool:
    """Whether an id does anything with this value."""
    if id == "intensity":
        return any(value or ())
    if id == "class_values":
        return value is not None and list(value) != list(range(len(value)))
    return value is not None and not (id == "scale" and value == 1)
