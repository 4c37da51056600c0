"""The orientation in which the network sees the images, and the axes that must not be mirrored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from unet_med.data.grids import RAS
from unet_med.data.orientation import axis_of, flat_axis
from unet_med.data.pixel_size import MICROMETRES
from unet_med.planning.fingerprints import FileFacts, Fingerprint
from unet_med.planning.plan import Decision

WORDS = ("to the right", "to the front", "to the head")
COARSER = 1.01  # times the others: less is a header's rounding
SIDES = {  # words of class names that differ by the side alone, by the axis they lie on
    "R": ({"left", "l", "lt", "lh"}, {"right", "r", "rt", "rh"}),
    "A": ({"posterior", "post", "back", "rear"}, {"anterior", "ant", "front"}),
    "S": ({"inferior", "inf", "lower", "bottom"}, {"superior", "sup", "upper", "top"}),
}


def decide_orientation(images: Sequence[FileFacts]) -> Decision:
    """`orientation`: RAS with the coarsest axis last; None where no file states its own.

    The coarsest axis is that with the largest median pixel over the files; of a plane it is the
    one that it does not have.
    """
    stated = [image for image in images if image.orientation]
    if not stated:
        return Decision(None, "no file states one: axes stay as they are")
    each = np.array([_sizes(image) for image in stated])  # along R, A, S
    sizes = np.median(each, axis=0)
    last = 2
    for axis in (1, 0):
        last = axis if sizes[axis] > COARSER * sizes[last] else last
    word = RAS.replace(RAS[last], "") + RAS[last]
    kept = Counter(image.orientation for image in stated)
    found = ", ".join(f"{count} {own}" for own, count in kept.most_common(4))
    why = "all axes alike" if _alike(sizes) else f"pixels are coarsest {WORDS[last]}"
    others = 0 if _alike(sizes) else int((each.argmax(axis=1) != last).sum())
    notes = [f"{why}; the files: {found}" + (", ..." if len(kept) > 4 else "")]
    notes += [f"{others} coarsest along another axis"] if others else []
    unstated = len(images) - len(stated)
    notes += [f"{unstated} state none and are taken as they lie"] if unstated else []
    return Decision(word, "; ".join(notes))


def decide_mirroring(found: Fingerprint, kind: str, word: str | None, dims: int) -> Decision:
    """`mirror_axes`: those of the network that may be mirrored; None: all.

    Along an axis on whose sides two classes lie, and which tells them apart, a mirror image has
    its labels the wrong way round.

    Args:
        found: what the files say.
        kind: of the labels.
        word: the planned orientation.
        dims: spatial axes of the network.
    """
    if kind != "classes":
        what = "objects have" if kind == "instances" else "a mask has"
        return Decision(None, f"{what} no sides")
    why = dict(_by_place(found)) | dict(_by_name(found.class_names))
    axes = {}
    for letter, reason in why.items():
        if word is not None:
            axes[[axis_of(each) for each in word].index(axis_of(letter))] = reason
        elif letter == "R":  # pictures are shown with one side on the left
            axes[0] = f"{reason}, taken to be along x"
    if not axes:
        return Decision(None, "no two classes differ by their side alone")
    fixed = "; ".join(axes[axis] for axis in sorted(axes))
    if all(axis >= dims for axis in axes):
        return Decision(None, f"{fixed}: an axis that the network's planes do not have")
    return Decision([axis for axis in range(dims) if axis not in axes], f"{fixed}: not mirrored")


def _sizes(image: FileFacts) -> np.ndarray:
    """Pixel size along R, A and S, um; without end along the axis that a plane does not have."""
    sizes = np.full(3, np.inf)
    assert image.orientation is not None
    for axis, letter in enumerate(image.orientation):
        if axis != flat_axis(image.shape):
            sizes[axis_of(letter)] = image.pixel_size[axis] * MICROMETRES[image.unit]
    return sizes


def _alike(sizes: np.ndarray) -> bool:
    return bool(sizes.max() <= COARSER * sizes.min())


def _by_place(found: Fingerprint) -> Iterator[tuple[str, str]]:
    """Axes along which classes of like size lie apart, each with its reason."""
    for apart in found.apart:
        one, other = (_named(value, found.class_names) for value in apart.values)
        yield (
            apart.axis,
            f"classes {one} and {other} are of like size, and one lies {WORDS[axis_of(apart.axis)]}"
            f" of the other in all {apart.files} files",
        )


def _by_name(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Axes that pairs of names differ by, such as `left kidney` and `right kidney`."""
    for axis, (low, high) in SIDES.items():
        known = {_without(name, low): name for name in names.values() if _without(name, low)}
        pairs = ((known.get(_without(name, high)), name) for name in names.values())
        for one, other in pairs:
            if one is not None:
                yield axis, f"classes '{one}' and '{other}' differ by their side"
                break


def _without(name: str, side: set[str]) -> tuple[str, ...] | None:
    """The words of a name, its side left open; None where it names none of these.

    >>> _without("LeftKidney", {"left"}), _without("kidney_l", {"l"}), _without("lung", {"l"})
    (('', 'kidney'), ('kidney', ''), None)
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)
    open = tuple("" if word.lower() in side else word.lower() for word in words)
    return open if "" in open else None


def _named(value: int, names: Mapping[str, str]) -> str:
    return f"{value} ({names[str(value)]})" if str(value) in names else str(value)
