"""Metrics against the challenges' own implementations, hand checks and slow oracles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage.io import imread

from unet_med import metrics
from unet_med.metrics import objects, warping
from unet_med.metrics.contingency import contingency_table
from unet_med.metrics.isbi import _v_rows
from unet_med.metrics.overlap import Overlap
from unet_med.metrics.slices import OLD_THRESHOLDS, THRESHOLDS
from unet_med.metrics.thinning import thinned_segments
from unet_med.metrics.warping import SIMPLE, WARPING_ERROR
from unet_med.scoring import scores

GOLDEN = Path(__file__).parent / "golden" / "isbi_metrics"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
OURS = ("pixel_error", "rand_error", "warping_error", "v_rand", "v_info", "seg")

ISBI = ("v_rand", "v_info", "rand_error", "pixel_error", "warping_error")

masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))
label_pairs = arrays.array_shapes(min_dims=1, max_dims=3, max_side=5).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.int16, shape, elements=st.integers(0, 4)),
        arrays.arrays(np.int16, shape, elements=st.integers(-1, 4)),
    )
)


def golden_cases() -> list[tuple[str, str]]:
    return [(name, key) for name, values in EXPECTED.items() for key in OURS if key in values]


def renumbered(labels: np.ndarray) -> list[int]:
    """Labels in the order of their first pixel, so that equal partitions are equal; 0 stays."""
    order = {0: 0}
    return [order.setdefault(int(label), len(order)) for label in labels.flat]


class TestGolden:
    def test_there_are_pairs(self):
        assert len(list(GOLDEN.glob("*.npz"))) == len(EXPECTED) == 13
        assert len(golden_cases()) == 5 * 10 + 3

    @pytest.mark.parametrize(("name", "key"), golden_cases())
    def test_is_the_organisers(self, name, key):
        pair = np.load(GOLDEN / f"{name}.npz")
        ours = getattr(metrics, key)(pair["proposal"], pair["truth"])
        assert isinstance(ours, float)
        assert ours == pytest.approx(EXPECTED[name][key], abs=1e-9, rel=0)

    @pytest.mark.data
    def test_every_pair_at_every_threshold(self, shared):
        golden = shared / "golden" / "isbi_metrics"
        by_threshold = json.loads((golden / "by_threshold.json").read_text())["pairs"]
        expected = json.loads((golden / "expected.json").read_text())
        assert len(by_threshold) == 15
        for name, values in by_threshold.items():
            prediction, truth = self.read(shared, golden / f"{name}.npz")
            found = _v_rows(prediction, truth).mean(axis=0)
            np.testing.assert_allclose(found[:, 0], values["v_rand"], rtol=0, atol=1e-9)
            np.testing.assert_allclose(found[:, 1], values["v_info"], rtol=0, atol=1e-9)
            for key in ("pixel_error", "rand_error"):
                ours = getattr(metrics, key)(prediction, truth)
                assert ours == pytest.approx(expected[name][key], abs=1e-9, rel=0), name

    @pytest.mark.data
    def test_every_split_and_merge_pixel(self, shared):
        golden = shared / "golden" / "isbi_metrics"
        by_threshold = json.loads((golden / "by_threshold.json").read_text())["pairs"]
        expected = json.loads((golden / "expected.json").read_text())
        for name, values in by_threshold.items():
            prediction, truth = self.read(shared, golden / f"{name}.npz")
            counts = WARPING_ERROR.count(prediction, truth)
            split, merge, pixels = counts.sum(axis=0).T
            assert split.tolist() == values["warping_split_pixels"][:10], name
            assert merge.tolist() == values["warping_merge_pixels"][:10], name
            assert (pixels == truth.size).all()
            assert (split + merge).min() == expected[name]["warping_split_merge_pixels"], name
            assert metrics.warping_error(prediction, truth) == pytest.approx(
                expected[name]["warping_error"], abs=1e-15, rel=0
            )

    def read(self, shared: Path, file: Path) -> tuple[np.ndarray, np.ndarray]:
        pair = np.load(file)
        if "truth" in pair:
            return pair["proposal"], pair["truth"]
        y0, y1, x0, x1 = pair["crop"]
        label = imread(shared / "data" / "isbi2012" / "label" / f"{int(pair['slice'])}.png")
        return pair["proposal"], label[y0:y1, x0:x1]


class TestThinning:
    @given(masks)
    def test_is_the_queue_pixel_by_pixel(self, mask):
        assert renumbered(thinned_segments(mask)) == renumbered(oracles.flooded(mask))

    @pytest.mark.parametrize("share", [-0.3, 0.0, 0.3, 1.5])
    def test_on_blobs_far_apart_and_near(self, rng, share):
        for _ in range(5):
            mask = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2) > share * 0.14
            assert renumbered(thinned_segments(mask)) == renumbered(oracles.flooded(mask))

    def test_a_flat_map_is_one_basin(self):
        assert (thinned_segments(np.zeros((3, 4), bool)) == 1).all()
        assert (thinned_segments(np.ones((3, 4), bool)) == 1).all()

    def test_columns_come_first(self):
        gap = np.array([[1, 0, 0, 1]], bool)
        assert thinned_segments(gap).tolist() == [[1, 1, 0, 2]]
        assert thinned_segments(gap.T).tolist() == [[1], [1], [0], [2]]
        corner = np.array([[1, 0], [0, 1]], bool)
        assert thinned_segments(corner).tolist() == [[1, 0], [0, 2]]


class TestWarping:
    @given(
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
            lambda shape: st.tuples(
                arrays.arrays(np.float32, shape, elements=st.sampled_from([0, 0.3, 0.5, 0.7, 1])),
                arrays.arrays(bool, shape),
            )
        )
    )
    def test_is_the_description_rule_by_rule(self, pair):
        self.check(*pair)

    @pytest.mark.parametrize("share", [-0.4, 0.0, 0.4])
    def test_on_blobs(self, rng, share):
        """Wider than the window, with rings that only the window cuts."""
        relief = ndimage.gaussian_filter(rng.normal(size=(50, 30)), 2)
        found = ndimage.gaussian_filter(relief + 0.2 * rng.normal(size=relief.shape), 1)
        self.check((1 / (1 + np.exp(-20 * found))).astype(np.float32), relief > share * 0.14)

    def check(self, probability, truth):
        counts = WARPING_ERROR.count(probability, truth)[0]
        for threshold, (split, merge, pixels) in zip(OLD_THRESHOLDS, counts, strict=True):
            double = probability.astype(np.float64)
            expected = oracles.warped_splits_and_mergers(double, truth, threshold)
            assert (split, merge) == expected
            assert pixels == truth.size

    def test_simple_points(self):
        """By the number of pieces around the pixel, for all 256 neighbourhoods."""
        ring = [(1, 0), (0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0)]
        for code in range(256):
            around = np.zeros((3, 3), bool)
            for place, where in enumerate(ring):
                around[where] = code >> place & 1
            ground = ~around
            ground[1, 1] = False
            labels = ndimage.label(around)[0]
            beside = {labels[ring[place]] for place in (0, 2, 4, 6)} - {0}
            pieces = ndimage.label(ground, np.ones((3, 3)))[1]
            assert SIMPLE[code] == (len(beside) == 1 and pieces == 1), code

    def test_moved_and_lost_borders_are_free(self):
        truth = np.ones((9, 12), int)
        truth[:, 5] = 0
        moved = np.ones_like(truth)
        moved[:, 4] = 0  # by 2 px it would not touch the old border
        assert metrics.warping_error(moved, truth) == 0.0
        merged = np.ones_like(truth)
        assert metrics.warping_error(merged, truth) == 9 / truth.size
        merged[:4, 5] = 0
        assert metrics.warping_error(merged, truth) == 5 / truth.size
        assert metrics.warping_error(truth, merged) == pytest.approx(1 / truth.size)

    @pytest.mark.parametrize(("depth", "split"), [(20, 0), (21, 1)])
    def test_a_ring_is_cut_where_the_window_does_not_see_it_close(self, depth, split):
        truth = np.zeros((60, 60), int)
        truth[30 : 31 + depth, 20:27] = 1
        truth[31 : 30 + depth, 21:26] = 0
        cut = truth.copy()
        cut[30, 23] = 0
        for turns in range(4):
            pair = np.rot90(cut, turns), np.rot90(truth, turns)
            assert metrics.warping_error(*pair) == split / truth.size

    @pytest.mark.parametrize("batch", [1, 2])
    def test_windows_are_looked_at_however_many_at_once(self, batch, monkeypatch):
        monkeypatch.setattr(warping, "BATCH", batch)
        ring = np.zeros((60, 30), int)
        ring[5:53, 2:9] = 1
        ring[6:52, 3:8] = 0
        truth = np.tile(ring, 3)
        cut = truth.copy()
        cut[5, [5, 35, 65]] = 0
        assert metrics.warping_error(cut, truth) == 3 / truth.size

    def test_slices_are_pooled(self, rng):
        truth = rng.random((3, 12, 14)) > 0.3
        found = ndimage.gaussian_filter(truth + rng.normal(0, 0.3, truth.shape), (0, 0.7, 0.7))
        found = np.clip(found, 0, 1)
        each = sum(WARPING_ERROR.count(f, t)[0, :, :2] for f, t in zip(found, truth, strict=True))
        assert metrics.warping_error(found, truth) == each.sum(axis=1).min() / truth.size

    def test_degenerate_truths(self):
        nothing, everything = np.zeros((4, 5), int), np.ones((4, 5), int)
        line = everything.copy()
        line[:, 2] = 0
        for found in (nothing, everything, line):
            assert metrics.warping_error(found, nothing) == 0.0
        assert metrics.warping_error(everything, everything) == 0.0
        assert metrics.warping_error(line, everything) == 1 / 20
        assert metrics.warping_error(nothing, everything) == 0.0
        for found, truth in ((0, 0), (0, 1), (1, 0), (1, 1)):
            assert metrics.warping_error([[found]], [[truth]]) == 0.0


class TestScoresOfLabels:
    """`metrics.md`, hand checks on labels that are thinned already."""

    @pytest.mark.parametrize(
        ("truth", "proposal", "squares", "v_rand", "v_info"),
        [
            ("1122", "1122", (0.5, 0.5, 0.5), 1, 1),
            ("1122", "1111", (0.5, 0.5, 1), 2 / 3, 0),
            ("1122", "1123", (0.375, 0.5, 0.375), 6 / 7, 0.8),
            ("1122", "1100", (0.375, 0.5, 0.375), 6 / 7, 0.8),
            ("11122200", "11002212", (0.277778, 0.5, 0.277778), 5 / 7, 0.685331),
        ],
    )
    def test_by_hand(self, truth, proposal, squares, v_rand, v_info):
        truth, proposal = np.array([*map(int, truth)]), np.array([*map(int, proposal)])
        overlap = Overlap.of(truth, proposal)
        both, each = (number / overlap.pixels**2 for number in overlap.squares())
        assert both == pytest.approx(squares[0], abs=1e-6)
        assert each == pytest.approx(squares[1] + squares[2], abs=1e-6)
        assert overlap.v_rand() == pytest.approx(v_rand)
        assert overlap.v_info() == pytest.approx(v_info, abs=1e-6)

    @given(label_pairs)
    def test_over_all_pairs_of_pixels(self, pair):
        proposal, truth = pair
        assume((truth > 0).any())
        overlap = Overlap.of(truth, proposal)
        v_rand, v_info = oracles.v_rand_and_v_info(np.maximum(truth, 0), proposal)
        assert overlap.v_rand() == pytest.approx(v_rand)
        assert overlap.v_info() == pytest.approx(v_info, abs=1e-9)


class TestIsbi:
    @pytest.fixture
    def two_cells(self):
        """Truth of two cells and a prediction that sees the line between them half-heartedly."""
        truth = np.ones((9, 12), np.uint8)
        truth[:, 5] = 0
        return np.where(truth, 0.95, 0.45).astype(np.float32), truth

    def test_perfect(self, two_cells):
        prediction, truth = two_cells
        assert metrics.v_scores(prediction, truth) == (1.0, 1.0)
        assert metrics.pixel_error(prediction, truth) == 0.0
        assert metrics.rand_error(prediction, truth) == 0.0

    def test_v_scores_is_both(self, rng):
        pair = rng.random((2, 20, 20)), rng.random((2, 20, 20)) > 0.3
        assert metrics.v_scores(*pair) == (metrics.v_rand(*pair), metrics.v_info(*pair))

    def test_mean_over_slices_before_the_maximum(self, two_cells):
        prediction, truth = two_cells
        stack = np.stack([prediction, prediction / 3])  # no threshold suits both lines
        each = [metrics.v_rand(one, truth) for one in stack]
        assert each == [1.0, 1.0]
        assert metrics.v_rand(stack, np.stack([truth, truth])) < 0.9

    def test_one_slice_is_a_stack_of_one(self, two_cells):
        prediction, truth = two_cells
        truth[3, 2] = 0
        for key in ISBI:
            metric = getattr(metrics, key)
            assert metric(prediction[None], truth[None]) == metric(prediction, truth)

    def test_truth_and_binary_predictions_in_any_coding(self, two_cells):
        _, truth = two_cells
        wrong = truth.copy()
        wrong[4, 5] = 1  # a gap in the line
        for key in ISBI:
            metric = getattr(metrics, key)
            expected = metric(wrong.astype(np.float32), truth)
            assert metric(wrong, truth) == expected
            assert metric(wrong.astype(bool), 255 * truth) == expected
            assert metric(255 * wrong, truth.astype(bool)) == expected
            assert metric(torch.from_numpy(wrong), torch.from_numpy(truth)) == expected

    def test_values_are_rounded_to_float32_and_compared_in_float64(self):
        """51/255 is 0.2 in float64, but above it once it has been float32."""
        truth = np.array([[1, 0, 1]])
        prediction = np.array([[0.2, 0.2 - 1e-6, 0.2]])
        assert metrics.pixel_error(prediction, truth) == 0.0
        assert metrics.pixel_error(prediction.astype(np.float32), truth) == 0.0

    def test_thresholds_are_accumulated(self):
        prediction = np.array([[1.0, np.nextafter(np.float32(1), 0)]], np.float32)
        assert (THRESHOLDS[-1], len(THRESHOLDS)) == (0.9999999999999999, 11)
        assert _v_rows(prediction, np.ones((1, 2)))[0, -1, 0] == 1.0  # 1.0 is interior

    def test_nothing_above_the_threshold_is_one_segment(self, two_cells):
        _, truth = two_cells
        n = truth.sum()
        sizes = np.array([9 * 5, 9 * 6])
        squares = (sizes**2).sum()
        assert metrics.v_rand(np.zeros(truth.shape), truth) == pytest.approx(
            2 * squares / (squares + n**2)
        )
        assert metrics.v_info(np.zeros(truth.shape), truth) == 0.0
        assert metrics.rand_error(np.zeros(truth.shape), truth) == pytest.approx(
            1 - 2 * n / (squares + n)  # not thinned: every pixel a segment
        )
        assert metrics.pixel_error(np.zeros(truth.shape), truth) == 1.0

    def test_single_object_has_no_information(self):
        truth = np.zeros((5, 5), int)
        truth[1:4, 1:4] = 1
        assert metrics.v_scores(truth, truth) == (1.0, 0.0)

    def test_slice_without_true_interior(self, two_cells):
        prediction, truth = two_cells
        empty = np.zeros_like(truth)
        pair = np.stack([prediction, prediction]), np.stack([truth, empty])
        assert metrics.v_scores(*pair) == (0.5, 0.5)
        assert metrics.rand_error(*pair) == 1.0
        assert metrics.v_scores(empty, empty) == (0.0, 0.0)
        assert metrics.rand_error(empty, empty) == metrics.pixel_error(empty, empty) == 1.0

    def test_transposed_pair_differs(self):
        pair = np.load(GOLDEN / "shifted.npz")
        as_is = metrics.v_rand(pair["proposal"], pair["truth"])
        transposed = metrics.v_rand(pair["proposal"].T, pair["truth"].T)
        assert 1e-3 < abs(as_is - transposed) < 2e-2

    @pytest.mark.parametrize(
        ("prediction", "message"),
        [
            (np.zeros((3, 4)), r"\(3, 4\) against truth \(4, 4\)"),
            (np.full((4, 4), np.nan), "values from nan .*without NaN"),
            (np.full((4, 4), -0.1), r"values from -0\.1 to -0\.1"),
            (np.arange(16).reshape(4, 4), "values from 0 to 15.*divide 8-bit maps by 255"),
        ],
    )
    def test_refuses_other_maps(self, prediction, message):
        for key in ISBI:
            with pytest.raises(ValueError, match=message):
                getattr(metrics, key)(prediction, np.ones((4, 4)))

    @pytest.mark.parametrize("shape", [(4,), (1, 1, 4, 4), (0, 4)])
    def test_refuses_other_numbers_of_axes(self, shape):
        with pytest.raises(ValueError, match=r"one slice .*or a stack .*drop channel"):
            metrics.v_rand(np.zeros(shape), np.zeros(shape))


def boxes(*spans: tuple[int, int, int], size: int = 400) -> np.ndarray:
    """Labels on a line of pixels, `(first, last + 1, label)`."""
    labels = np.zeros(size, np.uint16)
    for first, stop, label in spans:
        labels[first:stop] = label
    return labels


class TestContingency:
    @given(label_pairs)
    def test_counts_pixel_by_pixel(self, pair):
        rows, columns = (np.maximum(labels, 0) for labels in pair)
        expected = np.zeros((rows.max(initial=0) + 1, columns.max(initial=0) + 1), np.int64)
        np.add.at(expected, (rows.ravel(), columns.ravel()), 1)
        table = contingency_table(rows, columns)
        assert (table.dtype, table.nnz) == (np.int64, np.count_nonzero(expected))
        np.testing.assert_array_equal(table.toarray(), expected)

    @pytest.mark.parametrize("family", [scores.INSTANCES, scores.CTC, scores.AP])
    def test_scores_of_a_family_share_one_table(self, family, monkeypatch, rng):
        counted = []
        monkeypatch.setattr(
            objects,
            "contingency_table",
            lambda *pair: counted.append(1) or contingency_table(*pair),
        )
        found, truth = rng.integers(0, 5, (2, 8, 8))
        rows = scores.count_scores(found, truth, family)[0]
        assert len(counted) == 1
        pooled = {name: score.pool(rows[name]) for name, score in family.items()}
        alone = {name: score(found, truth) for name, score in family.items()}
        assert pooled == alone


class TestSeg:
    """`metrics.md`, section 4; the hand checks."""

    @pytest.mark.parametrize(
        ("prediction", "truth", "expected"),
        [
            (boxes((40, 120, 9)), boxes((0, 100, 1)), 0.5),
            (boxes((50, 100, 1)), boxes((0, 100, 1)), 0.0),
            (boxes((0, 200, 3)), boxes((0, 100, 1), (100, 200, 2)), 0.5),
            (
                boxes((0, 100, 4), *((200 + 2 * i, 201 + 2 * i, 10 + i) for i in range(10))),
                boxes((0, 100, 1)),
                1.0,
            ),
        ],
    )
    def test_by_hand(self, prediction, truth, expected):
        assert metrics.seg(prediction, truth) == pytest.approx(expected)

    def test_pools_objects_over_frames(self):
        frames = [boxes((0, 10, 1)), boxes((0, 10, 1), (20, 30, 2), (40, 50, 3))]
        found = [boxes(), frames[1]]
        assert metrics.seg(found, frames) == 0.75  # the mean of the means is 0.5
        assert metrics.seg(tuple(found), tuple(frames)) == 0.75
        assert metrics.seg([boxes(), *found], [boxes(), *frames]) == 0.75  # an empty frame is free

    def test_a_volume_is_one_image(self):
        """An object of two slices, half of it found: no match; as frames, one of two."""
        truth = np.ones((2, 3, 3), int)
        found = np.stack([np.ones((3, 3), int), np.zeros((3, 3), int)])
        assert metrics.seg(found, truth) == 0.0
        assert metrics.seg(list(found), list(truth)) == 0.5
        assert metrics.seg(found.tolist(), truth.tolist()) == 0.0

    def test_an_object_is_a_label(self):
        truth = boxes((0, 10, 1), (50, 60, 1))
        assert metrics.seg(boxes((0, 10, 1), (50, 60, 2)), truth) == 0.0


class TestDet:
    """`metrics.md`, section 5."""

    truth = boxes((0, 100, 1), (100, 200, 2))

    @pytest.mark.parametrize(
        ("prediction", "expected"),
        [
            (boxes((0, 200, 7)), 0.75),
            (boxes((0, 100, 7)), 0.5),
            (boxes((0, 100, 7), (100, 200, 8), (300, 310, 9)), 0.95),
            (boxes(), 0.0),
            (boxes((0, 100, 7), (100, 151, 8), (151, 200, 9)), 0.95),  # a piece above half
            (boxes((0, 100, 7), (100, 150, 8), (150, 200, 9)), 0.4),  # no piece above half
        ],
    )
    def test_by_hand(self, prediction, expected):
        assert metrics.det(prediction, self.truth) == pytest.approx(expected)

    def test_costs_no_more_than_building_anew(self):
        many = np.arange(400) // 4 + 1
        assert metrics.det(many, self.truth) == 0.0

    def test_pools_costs_over_frames(self):
        noise = boxes(*((2 * i, 2 * i + 1, i + 1) for i in range(30)))  # 30 of 20
        pooled = metrics.det([noise, self.truth], [boxes(), self.truth])
        assert pooled == 0.0
        assert metrics.det([boxes((0, 10, 1)), self.truth], [boxes(), self.truth]) == 0.95

    @given(label_pairs)
    def test_object_by_object(self, pair):
        prediction, truth = pair
        assume((truth > 0).any())
        seg, det = oracles.seg_and_det(prediction, truth)
        assert metrics.seg(prediction, truth) == pytest.approx(seg)
        assert metrics.det(prediction, truth) == pytest.approx(det)


class TestAveragePrecision:
    @given(label_pairs, st.sampled_from([0.2, 0.5, 0.7, 1.0]))
    def test_over_every_assignment(self, pair, threshold):
        prediction, truth = pair
        prediction = np.where(truth < 0, 0, prediction)
        true = [truth == r for r in np.unique(truth) if r > 0]
        found = [prediction == s for s in np.unique(prediction) if s > 0]
        assume(true or found)
        table = np.array([[(r & s).sum() / (r | s).sum() for s in found] for r in true])
        hits = oracles.most_matches(table.reshape(len(true), len(found)), threshold)
        assert metrics.average_precision(prediction, truth, threshold) == pytest.approx(
            hits / (len(true) + len(found) - hits)
        )

    def test_two_halves_are_one_match(self):
        """Both reach an IoU of exactly 0.5 with the same object; one is a false positive."""
        assert metrics.average_precision([1, 2], [1, 1]) == 0.5
        # no more than half: no IoU counts; missed and two added; a match; objects of both
        assert objects.count_objects([1, 2], [1, 1]).tolist() == [[0, 12, 1, 2, 1]]

    def test_pools_frames(self):
        frames = [np.array([1, 0]), np.array([0, 0]), np.array([2, 1])]
        found = [np.array([0, 1]), np.array([0, 0]), np.array([1, 2])]
        assert metrics.average_precision(found, frames) == 0.5  # 2 hits, 1 missed, 1 added

    def test_refuses_nothing_and_foreign_thresholds(self):
        with pytest.raises(ValueError, match="neither truth nor prediction has an object"):
            metrics.average_precision([0, 0], [0, -1])
        with pytest.raises(ValueError, match="iou_threshold 0; it must be above 0"):
            metrics.average_precision([1], [1], 0)
        assert metrics.average_precision([0, 1], [0, 0]) == 0.0


@pytest.mark.parametrize("metric", [metrics.seg, metrics.det, metrics.average_precision])
class TestObjects:
    def test_ignored_pixels_are_outside(self, metric):
        """Two of three pixels of an object are ignored, and an object lies there alone."""
        truth = np.array([1, 1, 0, 0, 2, -1, -1, -1])
        found = np.array([3, 0, 0, 0, 4, 4, 4, 5])
        assert metric(found, truth) == metric(found[:5], truth[:5])

    def test_label_numbers_mean_nothing(self, metric, rng):
        truth = rng.integers(0, 5, (8, 8))
        found = np.where(rng.random((8, 8)) < 0.2, 0, truth)
        expected = metric(found, truth)
        assert expected > 0
        numbers = np.array([0, 2**62, 3, 2**62 + 1, 7])  # two are one in float64
        assert metric(numbers[found], truth) == expected
        assert metric(found.astype(np.uint64), numbers[truth].astype(np.uint64)) == expected
        assert metric(found.astype(np.float32), torch.from_numpy(truth)) == expected
        full = truth + 1  # no background at all
        assert metric(numbers[full - 1] + 1, full) == metric(full, full) == 1.0

    def test_refuses_what_is_no_pair_of_labels(self, metric):
        one = np.ones((3, 3), int)
        with pytest.raises(ValueError, match="1 frames of prediction for 2 of truth"):
            metric([one], [one, one])
        with pytest.raises(ValueError, match=r"\(3, 3\) against truth \(2, 3\) in frame 1"):
            metric([one, one], [one, one[:2]])
        with pytest.raises(ValueError, match="prediction has the label -1"):
            metric(-one, one)
        with pytest.raises(ValueError, match=r"0\.5 is not a whole number"):
            metric(one - 0.5, one)


@pytest.mark.parametrize("metric", [metrics.seg, metrics.det])
def test_no_true_object_is_an_error(metric):
    nothing = np.zeros((0, 4), int)
    for found, truth in (([0, 1], [0, 0]), ([1, 0], [-1, 0]), (nothing, nothing), ([], [])):
        with pytest.raises(ValueError, match="truth has no object in any frame"):
            metric(found, truth)
        with pytest.raises(ValueError, match="truth has no object in any frame"):
            metric([np.array(found)] * 2, [np.array(truth)] * 2)
