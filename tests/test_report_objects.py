"""What becomes of each object: by hand, and against sets of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import fates_by_sets

from unet_med.report.objects import OBJECTS, ObjectErrors, classify_objects

LABELS = hnp.arrays(np.int32, (5, 6), elements=st.integers(-1, 4))
NAMES = list(OBJECTS)


def fates(errors: ObjectErrors) -> tuple[dict[int, str], dict[int, str]]:
    """Names by object number, of both sides."""
    return tuple({k: NAMES[c] for k, c in enumerate(side) if c} for side in errors)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("truth", "result", "of_truth", "of_result"),
    [
        ([1, 1, 0, 2], [7, 7, 0, 3], {1: "correct", 2: "correct"}, {7: "correct", 3: "correct"}),
        ([1, 1, 2, 2], [5, 5, 5, 5], {1: "merged", 2: "merged"}, {5: "merged"}),
        ([1, 1, 1, 1], [5, 5, 6, 6], {1: "split"}, {5: "split", 6: "split"}),
        ([1, 1, 0, 0], [0, 0, 2, 2], {1: "missed"}, {2: "false"}),
        ([1, 1, 1, 1, 1], [2, 2, 0, 0, 0], {1: "inexact"}, {2: "inexact"}),  # IoU 0.4
        ([1, 1, 0, 0, 0], [2, 2, 2, 2, 2], {1: "inexact"}, {2: "inexact"}),
        ([1, 1, 0, 0], [0, 2, 2, 0], {1: "missed"}, {2: "false"}),  # half is not more than half
        ([1, 1, 1, 2, 0, 0], [4, 4, 4, 4, 4, 4], {1: "merged", 2: "merged"}, {4: "merged"}),
        # merged and split at once: 1 and 2 lie in 8, 9 and half of 8 in 1
        ([1, 1, 1, 1, 2], [8, 8, 8, 9, 8], {1: "merged", 2: "merged"}, {8: "merged", 9: "split"}),
        ([-1, -1, 1, 1], [3, 3, 4, 4], {1: "correct"}, {4: "correct"}),  # 3 is in no man's land
        ([0, 0], [0, 0], {}, {}),
    ],
)
def test_fates_by_hand(
    truth: list[int], result: list[int], of_truth: dict[int, str], of_result: dict[int, str]
) -> None:
    assert fates(classify_objects(truth, result)) == (of_truth, of_result)


@given(truth=LABELS, result=LABELS)
def test_fates_are_those_of_the_sets_of_pixels(truth: np.ndarray, result: np.ndarray) -> None:
    assert fates(classify_objects(truth, result)) == fates_by_sets(truth, result)


@given(labels=LABELS.map(lambda a: np.maximum(a, 0)))
def test_the_truth_itself_is_correct_and_sides_mirror(labels: np.ndarray) -> None:
    same = classify_objects(labels, labels)
    assert set(same.truth.tolist()) | set(same.result.tolist()) <= {0, NAMES.index("correct")}
    assert same.counts()["correct"] == len(set(labels[labels > 0].tolist()))


def test_counts_cover_every_true_object_once() -> None:
    truth = np.repeat([1, 2, 3, 4, 0, 5], 8)
    result = truth.copy()
    result[8:24] = 2  # 2 and 3 in one
    result[24:28] = 9  # 4 in two
    result[32:40] = 7  # nothing there
    result[40:48] = 0  # 5 is gone
    counts = classify_objects(truth, result).counts()
    assert counts == {
        "correct": 1, "inexact": 0, "split": 1, "merged": 2, "missed": 1, "false": 1,
    }  # fmt: skip
    assert sum(counts.values()) - counts["false"] == 5


def test_labels_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"label value 0.5 is not a whole number"):
        classify_objects([0.5], [1])
