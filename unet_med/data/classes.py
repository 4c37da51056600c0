"""How many classes a set of labels has, or why that cannot be told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IGNORED = 255


def count_classes(
    labels: Sequence[np.ndarray], names: Sequence[str], given: int | None = None
) -> int:
    """Classes 0 to K-1 of labels; 255 marks ignored pixels, and there are two at least.

    A stray value would make a network with outputs that nothing trains, and 255 as foreground
    one that sees no foreground.

    Args:
        labels: label images of any shape.
        names: their files.
        given: K, where the caller knows it.

    Raises:
        ValueError: a value above K-1, values between 1 and the largest that no label holds,
            or 255 alone beside 0; names the file and the value.

    >>> count_classes([np.array([0, 1, 255]), np.array([0, 2])], ["a.tif", "b.tif"])
    3
    """
    found = [set(np.unique(label).astype(int).tolist()) for label in labels]
    union = set().union(*found)
    if union - {0} == {IGNORED}:
        raise ValueError(
            f"label {_holder(IGNORED, found, names)} holds no class besides 0: among classes "
            f"{IGNORED} marks ignored pixels; where it is the foreground use --label-kind mask"
        )
    classes = sorted(value for value in union - {IGNORED} if value > 0)
    largest = classes[-1] if classes else 1
    if given is not None and largest >= given:
        raise ValueError(
            f"label {_holder(largest, found, names)} holds the value {largest}: classes are 0 to "
            f"{given - 1}, and {IGNORED} for ignored pixels; correct it, or raise --classes"
        )
    gaps = sorted(set(range(1, largest)) - union)
    if given is None and gaps and classes:
        stray = next(value for value in classes if value > gaps[0])
        missing = f"{gaps[0]}" if len(gaps) == 1 else f"{gaps[0]} to {gaps[-1]}"
        raise ValueError(
            f"label {_holder(stray, found, names)} holds the value {stray}, and no label holds "
            f"{missing}: correct it, number the classes 0, 1, 2, ..., or say how many there are "
            f"(--classes {largest + 1})"
        )
    return given or max(2, largest + 1)


def _holder(value: int, found: Sequence[set[int]], names: Sequence[str]) -> str:
    return next(name for name, values in zip(names, found, strict=True) if value in values)
