"""Scores of instance labels: the Cell Tracking Challenge's SEG and DET, and average precision.

All take `(prediction, truth)` of integer labels, 1..N objects, 0 background: an array of any
number of axes is one image (a 3-D array one volume), a list or tuple of arrays is a sequence of
frames, pooled. Label numbers mean nothing, and an object is a label, not a connected component.
Pixels where the truth is -1 are ignored: as if they lay outside the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from unet_med.instances import as_integers
from unet_med.metrics.contingency import contingency_table
from unet_med.metrics.score import Score

Labels = ArrayLike | Sequence[ArrayLike]

SPLIT, MISSED, ADDED = 5, 10, 1  # penalties of AOGM-D (Matula et al. 2015)


class Frame(NamedTuple):
    """Overlaps in one frame.

    Attributes:
        truth: sizes of the R true objects, px.
        prediction: sizes of the P predicted objects, px.
        true: true object of every pair that overlaps, 0..R-1.
        predicted: predicted object of every pair, 0..P-1.
        shared: pixels that the pair shares.
    """

    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    true: NDArray[np.intp]
    predicted: NDArray[np.intp]
    shared: NDArray[np.int64]

    def jaccard(self) -> NDArray[np.float64]:
        """Intersection over union of every pair."""
        union = self.truth[self.true] + self.prediction[self.predicted] - self.shared
        return self.shared / union

    def matched(self) -> NDArray[np.bool_]:
        """Pairs that share more than half of the true object: at most one for each of those."""
        return 2 * self.shared > self.truth[self.true]


def seg(prediction: Labels, truth: Labels) -> float:
    """Cell Tracking Challenge SEG: mean intersection over union of the true objects.

    A true object R matches the predicted S with |R & S| > |R| / 2, and counts |R & S| / |R | S|,
    or 0 without a match. The mean is over all true objects of all frames. False positives are
    free, and one S may match several R.

    Args:
        prediction: labels of one image, or a list of frames.
        truth: labels of the same shape; -1 is ignored.

    Returns:
        SEG in [0, 1].

    Raises:
        ValueError: no true object at all, shapes that differ, or labels that are no whole numbers.

    >>> seg([0, 1, 1, 1], [2, 2, 2, 0])
    0.5
    """
    return SEG(prediction, truth)


def det(prediction: Labels, truth: Labels) -> float:
    """Cell Tracking Challenge DET: 1 - the cost of repairing the detection, over building it anew.

    Matches as in `seg`. The cost, AOGM-D, is 5 for each further true object that a predicted one
    matches, 10 for a true object without a match, 1 for a predicted object without one; to build
    all from nothing costs 10 for each true object, and no more is charged.

    Args:
        prediction: labels of one image, or a list of frames.
        truth: markers or labels of the same shape; -1 is ignored.

    Returns:
        DET in [0, 1].

    Raises:
        ValueError: as `seg`.

    >>> det([1, 1, 1, 1], [1, 1, 2, 2])  # both true objects in one: a split, 5 of 20
    0.75
    """
    return DET(prediction, truth)


def average_precision(
    prediction: Labels, truth: Labels, iou_threshold: float | Sequence[float] = 0.5
) -> float:
    """TP / (TP + FP + FN) of objects, pooled over frames; the mean over thresholds, if several.

    The score of the 2018 Data Science Bowl, of StarDist and Cellpose, which call it average
    precision; at one threshold nothing is averaged. A pair whose intersection over union is at
    least the threshold may be matched, each object once, and as many as possible are.

    Args:
        prediction: labels of one image, or a list of frames.
        truth: labels of the same shape; -1 is ignored.
        iou_threshold: least intersection over union of a match, in (0, 1]; one or several.

    Returns:
        Score in [0, 1].

    Raises:
        ValueError: neither truth nor prediction has an object, a threshold outside (0, 1], or as
            `seg`.

    >>> average_precision([1, 1, 0, 2], [1, 1, 1, 0])  # IoU 2/3, and one too many
    0.5
    """
    return precision_score(iou_threshold)(prediction, truth)


def precision_score(iou_threshold: float | Sequence[float] = 0.5) -> Score:
    """Counting and pooling of `average_precision` at these thresholds.

    Raises:
        ValueError: a threshold is not above 0 and at most 1, or there is none.
    """
    thresholds = tuple(np.atleast_1d(iou_threshold).tolist())
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise ValueError(f"iou_threshold {iou_threshold}; it must be above 0 and at most 1")
    return Score(
        partial(_matches, thresholds=thresholds),
        _pooled_precision,
        "neither truth nor prediction has an object: pool frames in one list",
    )


def _matches(prediction: Labels, truth: Labels, thresholds: Sequence[float]) -> NDArray[np.int64]:
    """Matched pairs, and objects of truth and prediction, of each threshold, `(N, T, 2)`."""
    rows = []
    for frame in _frames(prediction, truth):
        jaccard, objects = frame.jaccard(), len(frame.truth) + len(frame.prediction)
        rows.append([(_most_matches(frame, jaccard >= t), objects) for t in thresholds])
    return np.array(rows)


def count_objects(prediction: Labels, truth: Labels) -> NDArray[np.float64]:
    """All that `SEG`, `DET` and numbers of objects pool, so that it is counted once, `(N, 5)`.

    Args:
        prediction: labels of one image, or a list of frames.
        truth: labels of the same shape; -1 is ignored.

    Returns:
        Of each frame the sum of the matched intersections over union, the cost of repairing the
        detection, pairs matched at IoU 0.5, objects of the prediction, and of the truth.
    """
    rows = []
    for frame in _frames(prediction, truth):
        jaccard = frame.jaccard()
        pairs = _most_matches(frame, jaccard >= 0.5)
        total, objects = jaccard[frame.matched()].sum(), (len(frame.prediction), len(frame.truth))
        rows.append((total, _aogm_d(frame), pairs, *objects))
    return np.array(rows, np.float64)


def _pooled_seg(counts: NDArray[np.float64]) -> float:
    total, *_, objects = counts.sum(axis=0).tolist()
    return total / objects if objects else np.nan


def _pooled_det(counts: NDArray[np.float64]) -> float:
    _, cost, *_, objects = counts.sum(axis=0).tolist()
    return 1 - min(cost / (MISSED * objects), 1.0) if objects else np.nan


def _pooled_precision(counts: NDArray[np.int64]) -> float:
    hits, objects = counts.sum(axis=0).T
    return float((hits / (objects - hits)).mean()) if objects.all() else np.nan


def _aogm_d(frame: Frame) -> int:
    """Cost of repairing the detection in one frame."""
    owners = frame.predicted[frame.matched()]
    used = len(np.unique(owners))
    missed, added = len(frame.truth) - len(owners), len(frame.prediction) - used
    return SPLIT * (len(owners) - used) + MISSED * missed + ADDED * added


def _most_matches(frame: Frame, allowed: NDArray[np.bool_]) -> int:
    """Largest number of allowed pairs in which no object occurs twice."""
    pairs = (frame.true[allowed], frame.predicted[allowed])
    shape = (len(frame.truth), len(frame.prediction))
    graph = csr_array((np.ones(len(pairs[0]), np.int8), pairs), shape=shape)
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def _frames(prediction: Labels, truth: Labels) -> Iterator[Frame]:
    """The overlaps, frame after frame."""
    predictions, truths = _as_list(prediction), _as_list(truth)
    if len(predictions) != len(truths):
        raise ValueError(
            f"{len(predictions)} frames of prediction for {len(truths)} of truth; "
            "give a prediction for every annotated frame"
        )
    for number, (labels, true) in enumerate(zip(predictions, truths, strict=True)):
        if labels.shape != true.shape:
            raise ValueError(
                f"prediction of shape {labels.shape} against truth {true.shape} in frame "
                f"{number}: cut or resample the prediction to the truth's grid"
            )
        yield _overlaps(labels, true)


def _as_list(labels: Labels) -> list[NDArray[Any]]:
    """Frames; nested lists of plain numbers are one image, as in `np.asarray`."""
    if isinstance(labels, list | tuple) and any(getattr(one, "shape", ()) for one in labels):
        return [as_integers(one) for one in labels]
    return [as_integers(np.asarray(labels))]


def _overlaps(prediction: NDArray[Any], truth: NDArray[Any]) -> Frame:
    if prediction.size and prediction.min() < 0:
        raise ValueError(
            f"prediction has the label {prediction.min()}: objects are 1..N and background 0; "
            "only a truth may ignore pixels"
        )
    counted = truth >= 0
    table = contingency_table(*(_numbered(labels[counted]) for labels in (truth, prediction)))
    rows, columns = table.sum(axis=1)[1:], table.sum(axis=0)[1:]
    pairs = table[1:, 1:].tocoo()
    true, predicted = pairs.coords
    return Frame(rows, columns, true, predicted, pairs.data)


def _numbered(labels: NDArray[Any]) -> NDArray[np.intp]:
    """The labels present as 1..N without gaps, 0 staying background; `(n,)`."""
    if labels.max(initial=0) > labels.size + 2**16:  # a table over their numbers would be large
        labels = np.unique(np.append(labels.dtype.type(0), labels), return_inverse=True)[1][1:]
    present = np.bincount(labels.astype(np.intp, copy=False)) > 0
    present[:1] = False
    return np.cumsum(present)[labels]


NO_TRUTH = (
    "truth has no object in any frame, the score is not defined: "
    "0 is background and -1 ignored; pool empty frames with others in one list"
)
SEG = Score(count_objects, _pooled_seg, NO_TRUTH)
DET = Score(count_objects, _pooled_det, NO_TRUTH)
SEG_AND_DET = Score(  # half of each: what the Cell Segmentation Benchmark ranks by
    count_objects,
    lambda counts: (_pooled_seg(counts) + _pooled_det(counts)) / 2,
    NO_TRUTH,
)
