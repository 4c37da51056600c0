"""Classify objects: right, outlined badly, split, merged, missed or false."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unet_med.instances import as_integers
from unet_med.report.differences import DIFFERENCES, Labels, overlaps

Codes = NDArray[np.uint8]

OBJECTS = {
    "none": None,
    "correct": DIFFERENCES["correct"],
    "inexact": DIFFERENCES["wrong class"],
    "split": DIFFERENCES["split border"],
    "merged": DIFFERENCES["merged border"],
    "missed": DIFFERENCES["missed"],
    "false": DIFFERENCES["false"],
}
"""What an object can be, by code; the colours are those of `DIFFERENCES`."""
CORRECT, INEXACT, SPLIT, MERGED, MISSED, FALSE = range(1, len(OBJECTS))


class ObjectErrors(NamedTuple):
    """Class of each object, as position in `OBJECTS`; 0 for numbers that do not occur.

    Attributes:
        truth: of the true objects, by number, `(N + 1)`.
        result: of the objects of the result, by number, `(M + 1)`.
    """

    truth: Codes
    result: Codes

    def counts(self) -> dict[str, int]:
        """Number of objects of each class: the true ones, and the false ones of the result."""
        fates = Counter(self.truth.tolist())
        fates[FALSE] = int((self.result == FALSE).sum())
        return {name: fates[code] for code, name in enumerate(OBJECTS) if code}


def classify_objects(truth: ArrayLike, result: ArrayLike) -> ObjectErrors:
    """Classify each true object, and each object of the result.

    An object *lies in* another if more than half of its pixels do. Several true
    objects that lie in one of the result are merged in it; several of the result
    that lie in one true object are its splits. Of the others a pair whose
    intersection over union is above 0.5 is correct, and one where either lies in
    the other is inexact: found, but outlined badly. What is left is missed, or
    false. An object that is both merged and split counts as merged.

    Args:
        truth: label map `(*S)`, 1..N; pixels of -1 are left out on both sides.
        result: label map `(*S)`, 1..M.

    Returns:
        A code for each object of either side.

    >>> classify_objects([1, 1, 2, 2, 0, 3], [1, 1, 1, 1, 2, 0]).counts()["merged"]
    2
    """
    t, r = as_integers(truth), as_integers(result)
    t, r = np.where(t > 0, t, 0), np.where((t >= 0) & (r > 0), r, 0)
    sizes = np.bincount(t.ravel()), np.bincount(r.ravel())
    (i, j), shared = overlaps(t, r)
    in_result, in_truth = 2 * shared > sizes[0][i], 2 * shared > sizes[1][j]
    merges = np.bincount(j[in_result], minlength=len(sizes[1])) > 1
    splits = np.bincount(i[in_truth], minlength=len(sizes[0])) > 1
    exact = 2 * shared > sizes[0][i] + sizes[1][j] - shared

    fates = ((sizes[0] > 0) * np.uint8(MISSED), (sizes[1] > 0) * np.uint8(FALSE))
    for pairs, code in (  # the later wins
        (in_result | in_truth, INEXACT),
        (exact, CORRECT),
        (in_truth & splits[i], SPLIT),
        (in_result & merges[j], MERGED),
    ):
        fates[0][i[pairs]] = code
        fates[1][j[pairs]] = code
    for side in fates:
        side[0] = 0
    return ObjectErrors(*fates)


def object_codes(truth: Labels, result: Labels, errors: ObjectErrors) -> Codes:
    """Class of the object at each pixel, `(*S)`; where both have one, of the true object."""
    of_truth = errors.truth[np.maximum(truth, 0)]
    of_result = errors.result[np.maximum(result, 0)]
    codes: Codes = np.where(truth > 0, of_truth, np.where(truth == 0, of_result, 0))
    return codes
