"""Which values of labels are classes: 0 to K-1, or values with gaps; a stray one is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from unet_med.data.label_checks import listed
from unet_med.instances import IGNORED

STEP = 255 // 12  # between values as far as a dozen greys lie apart


def class_values(
    labels: Iterable[np.ndarray | set[int]], names: Sequence[str], given: int | None = None
) -> list[int]:
    """The value of each class in the labels, background first; 255 marks ignored pixels.

    They are 0 to K-1 where the labels leave none out. Values with gaps, such as 0, 1, 2, 4, are
    classes if more than one file holds each of them: one alone is rather a stray value, which
    would make an output that nothing trains.

    Args:
        labels: label images of any shape, or the values of each; taken one at a time.
        names: their files.
        given: K, where the caller knows it.

    Returns:
        K values, two at least.

    Raises:
        ValueError: a value above K-1, a stray value, 255 as the only foreground of a label, or
            among greys (`refuse_greys`); names the file and the value.

    >>> class_values([np.array([0, 1, 255]), np.array([0, 2])], ["a.tif", "b.tif"])
    [0, 1, 2]
    >>> class_values([np.array([0, 2, 4]), np.array([0, 2, 4])], ["a.tif", "b.tif"])
    [0, 2, 4]
    """
    found = [
        label if isinstance(label, set) else set(np.unique(label).astype(int).tolist())
        for label in labels
    ]
    union = set().union(*found)
    _check_ignored(found, names)
    refuse_greys(found, names)
    classes = sorted(value for value in union - {IGNORED} if value > 0)
    if given is not None and len(classes) + 1 == given:
        return [0, *classes]
    largest = classes[-1] if classes else 1
    if given is not None and largest >= given:
        raise ValueError(
            f"label {_holder(largest, found, names)} holds the value {largest}: classes are 0 to "
            f"{given - 1}, and {IGNORED} for ignored pixels; correct it, or raise --classes"
        )
    gaps = [] if given or len(classes) in (0, largest) else _gaps(classes)
    stray = [v for v in classes if gaps and v > gaps[0] and _rare(v, found)]
    if stray:
        missing = f"{gaps[0]}" if len(gaps) == 1 else f"{gaps[0]} to {gaps[-1]}"
        raise ValueError(
            f"label {_holder(stray[0], found, names)} holds the value {stray[0]}, and no label "
            f"holds {missing}: correct it, number the classes 0, 1, 2, ..., or say how many there "
            f"are (--classes {len(classes) + 1} for these values)"
        )
    return [0, *classes] if gaps else list(range(given or max(2, largest + 1)))


def refuse_greys(values: Sequence[set[int]], names: Sequence[str]) -> None:
    """Refuse 255 among values that are greys of a picture, of which it may be the brightest class.

    Numbers of classes lie close together, and 255 marks ignored pixels there. Greys such as 0,
    128, 255 and 0, 85, 170, 255 lie apart, so that a viewer shows them.

    Args:
        values: of each label; those of nobody's annotation are -1.
        names: their files.

    Raises:
        ValueError: names the file and the values.
    """
    union = set().union(*values)
    classes = sorted(value for value in union - {IGNORED} if value > 0)
    steps = [high - low for low, high in zip([0, *classes], classes, strict=False)]
    if IGNORED in union and steps and min(steps) >= STEP:
        raise ValueError(
            f"label {_holder(IGNORED, values, names)} holds {IGNORED} beside {listed(classes)}, as "
            f"greys of a picture lie apart: among classes {IGNORED} marks ignored pixels; say "
            f"--unknown {IGNORED} if nobody annotated there, else number the classes 0, 1, 2, ..."
        )


def _check_ignored(found: Sequence[set[int]], names: Sequence[str]) -> None:
    """Refuse 255 as foreground: alone in all labels, or in some in place of a class."""
    if any({IGNORED} < values - {0} for values in found):
        return  # it lies beside a class
    for values, name in zip(found, names, strict=True):
        if values - {0} == {IGNORED}:
            raise ValueError(
                f"label {name} holds no class besides 0: among classes "
                f"{IGNORED} marks ignored pixels; where it is the foreground use --label-kind mask"
            )


def _gaps(classes: Sequence[int]) -> list[int]:
    """First and last whole number that the values of classes leave out, or the only one."""
    last = classes[-1]
    while last in classes:
        last -= 1
    return sorted({next(k for k, value in enumerate(classes, 1) if value != k), last})


def _rare(value: int, found: Sequence[set[int]]) -> bool:
    """Whether one label of several holds a value."""
    return len(found) > 1 and sum(value in values for values in found) == 1


def _holder(value: int, found: Sequence[set[int]], names: Sequence[str]) -> str:
    return next(name for name, values in zip(names, found, strict=True) if value in values)
