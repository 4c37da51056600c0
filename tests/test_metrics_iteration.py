"""MONAI metrics against the functions, in batches, lists, processes and an evaluator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.handlers.utils import write_metrics_reports
from scipy import ndimage

from unet_med import metrics

INTERIOR = {
    metrics.PixelErrorMetric: metrics.pixel_error,
    metrics.RandErrorMetric: metrics.rand_error,
    metrics.WarpingErrorMetric: metrics.warping_error,
    metrics.VRandMetric: metrics.v_rand,
    metrics.VInfoMetric: metrics.v_info,
}
OBJECTS = {
    metrics.SEGMetric: metrics.seg,
    metrics.DETMetric: metrics.det,
    metrics.AveragePrecisionMetric: metrics.average_precision,
}
interior = pytest.mark.parametrize(("metric", "function"), INTERIOR.items())
objects = pytest.mark.parametrize(("metric", "function"), OBJECTS.items())


@pytest.fixture
def slices(rng) -> tuple[np.ndarray, np.ndarray]:
    """Six slices (S, X, Y) with walls, moved and blurred by widths of their own."""
    relief = ndimage.gaussian_filter(rng.normal(size=(6, 40, 32)), (0, 3, 3))
    truth = np.abs(relief) > 0.02
    found = [ndimage.gaussian_filter(t.astype(float), 0.3 * i) for i, t in enumerate(truth)]
    found = np.roll(np.clip(found, 0, 1), (2, -3), axis=(1, 2))
    return found.astype(np.float32), truth.astype(np.uint8)


@pytest.fixture
def labels(rng) -> tuple[np.ndarray, np.ndarray]:
    """Six frames (S, X, Y): cells found in part, one frame without any, numbers above 65535."""
    seeds = ndimage.gaussian_filter(rng.normal(size=(6, 30, 26)), (0, 2, 2))
    truth = np.stack([ndimage.label(s > 0.08)[0] for s in seeds]).astype(np.int64)
    found = np.stack([ndimage.label(s > 0.12)[0] for s in seeds]).astype(np.int64)
    truth[4] = 0
    return np.where(found, found + 70_000, 0), np.where(truth, truth + 2**33, 0)


def batches(*arrays: np.ndarray, sizes: tuple[int, ...] = (3, 1, 2)):
    """Pairs (B, 1, X, Y), batch after batch."""
    tensors = [torch.from_numpy(array)[:, None] for array in arrays]
    return zip(*(tensor.split(sizes) for tensor in tensors), strict=True)


@interior
def test_batches_of_slices_are_the_stack(metric, function, slices):
    found, truth = slices
    seen = metric()
    for prediction, label in batches(found, truth):
        seen(prediction, label)
    stacked = function(found.transpose(0, 2, 1), truth.transpose(0, 2, 1))
    assert seen.aggregate().item() == stacked
    assert seen.aggregate().dtype == torch.float64
    means = np.mean([function(f.T, t.T) for f, t in zip(found, truth, strict=True)])
    assert stacked != pytest.approx(means, abs=1e-6)  # pooled, or averaged before the maximum


def test_axes_are_turned():
    golden = Path(__file__).parent / "golden" / "isbi_metrics"
    pair = np.load(golden / "shifted.npz")
    seen = metrics.VRandMetric()
    seen(*(torch.from_numpy(pair[key].T.copy())[None, None] for key in ("proposal", "truth")))
    expected = json.loads((golden / "expected.json").read_text(encoding="utf-8"))
    assert seen.aggregate().item() == pytest.approx(expected["shifted"]["v_rand"], abs=1e-9)


@interior
def test_volumes_are_stacks_along_z(metric, function, slices):
    found, truth = (array.transpose(1, 2, 0) for array in slices)  # (X, Y, Z)
    seen = metric()
    seen(torch.from_numpy(found)[None, None], torch.from_numpy(truth)[None, None])
    assert seen.aggregate().item() == function(found.T, truth.T)


@objects
def test_batches_of_frames_are_the_sequence(metric, function, labels):
    found, truth = labels
    seen = metric()
    for prediction, label in batches(found, truth):
        seen(prediction, label)
    pooled = function(list(found), list(truth))
    assert 0 < pooled < 1
    assert seen.aggregate().item() == pooled


@objects
def test_volumes_are_one_frame(metric, function, labels):
    found, truth = (array.transpose(1, 2, 0)[None, None] for array in labels)
    seen = metric()
    seen(torch.from_numpy(found), torch.from_numpy(truth))
    assert seen.aggregate().item() == function(found, truth)


def test_average_precision_over_thresholds(labels):
    found, truth = labels
    seen = metrics.AveragePrecisionMetric(iou_threshold=[0.5, 0.75])
    for prediction, label in batches(found, truth):
        seen(prediction, label)
    assert seen.aggregate().item() == metrics.average_precision(
        list(found), list(truth), [0.5, 0.75]
    )


@interior
def test_lists_channels_and_meta_tensors(metric, function, slices):
    """As an evaluator gives them after decollating; softmax and one-hot have two channels."""
    found, truth = (torch.from_numpy(array)[:, None] for array in slices)
    expected = metric()
    expected(found, truth)
    seen = metric()
    seen([MetaTensor(f) for f in torch.cat([1 - found, found], 1)], list(truth))
    assert seen.aggregate() == expected.aggregate()
    seen.reset()
    seen(found, torch.cat([1 - truth, truth], 1))
    assert seen.aggregate() == expected.aggregate()


@pytest.mark.parametrize("metric", [*INTERIOR, *OBJECTS, metrics.HD95Metric])
def test_results_of_a_network_in_bfloat16(metric):
    """NumPy has no such type."""
    truth = torch.zeros(1, 1, 16, 16)
    truth[..., 3:9, 3:9] = 1
    full, half = metric(), metric()
    full(truth.roll(1, -1), truth)
    half(truth.roll(1, -1).bfloat16(), truth.bfloat16())
    assert half.aggregate() == full.aggregate()


def test_reset_forgets(slices):
    found, truth = (torch.from_numpy(array)[:, None] for array in slices)
    seen = metrics.VRandMetric()
    seen(torch.zeros_like(found), truth)
    seen.reset()
    with pytest.raises(ValueError, match="VRandMetric has seen no image"):
        seen.aggregate()
    seen(found[:2], truth[:2])
    assert len(seen) == 2
    assert seen.aggregate().item() == metrics.v_rand(
        found[:2, 0].transpose(1, 2), truth[:2, 0].transpose(1, 2)
    )


@pytest.mark.parametrize("truth", [0, -1])
@pytest.mark.parametrize("metric", OBJECTS)
def test_images_without_an_object_have_no_score(metric, truth, labels):
    """Nor does a validation of such images end a training, which an error would."""
    empty = torch.full((1, 1, 8, 8), truth)
    seen = metric()
    seen(torch.zeros_like(empty), empty)
    assert seen.aggregate().isnan()
    found, true = (torch.from_numpy(array)[:, None] for array in labels)
    seen(found, true)
    alone = metric()
    alone(found, true)
    assert seen.aggregate() == alone.aggregate()


@pytest.mark.parametrize("metric", [*INTERIOR, *OBJECTS])
def test_processes_share_counts(metric, slices, labels, monkeypatch):
    """Two processes, one with four images and one with two: what each gathers is all."""
    found, truth = slices if metric in INTERIOR else labels
    both = [metric(), metric()]
    for rank, (prediction, label) in zip(both, batches(found, truth, sizes=(4, 2)), strict=True):
        rank(prediction, label)
    everything = metric()
    everything(torch.from_numpy(found)[:, None], torch.from_numpy(truth)[:, None])
    expected = everything.aggregate()

    def gather(own: torch.Tensor, concat: bool) -> torch.Tensor:
        [which] = {
            k
            for rank in both
            for k, buffer in enumerate(rank._buffers)
            if torch.equal(torch.stack(buffer).nan_to_num(), own.nan_to_num())
        }
        return torch.cat([torch.stack(rank._buffers[which]) for rank in both])

    monkeypatch.setattr("monai.metrics.metric.evenly_divisible_all_gather", gather)
    assert [rank.aggregate() for rank in both] == [expected, expected]
    np.testing.assert_array_equal(both[1].get_buffer(), everything.get_buffer())


@interior
def test_details_are_scores_of_images(metric, function, slices, tmp_path):
    """MONAI's `MetricsSaver` writes a line an image; volumes have several slices each."""
    found, truth = (array.reshape(2, 3, 40, 32).transpose(0, 2, 3, 1) for array in slices)
    seen = metric()
    returned = seen(*(torch.from_numpy(array)[:, None] for array in (found, truth)))
    expected = [[function(f.T, t.T)] for f, t in zip(found, truth, strict=True)]
    assert returned.tolist() == expected
    assert seen.get_buffer().tolist() == expected
    write_metrics_reports(tmp_path, ["a", "b"], {}, {"score": seen.get_buffer()}, None)
    lines = (tmp_path / "score_raw.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [f"{n},{s:.4f},{s:.4f}" for n, [s] in zip("ab", expected, strict=True)]


@objects
def test_an_image_without_objects_has_no_score(metric, function, labels):
    found, truth = labels
    seen = metric()
    returned = torch.cat([seen(*batch) for batch in batches(found, truth)])
    own = [function(f, t) for f, t in zip(found[:4], truth[:4], strict=True)]
    np.testing.assert_array_equal(returned[:4, 0], own)
    assert returned[4].isnan().item() != (metric is metrics.AveragePrecisionMetric)
    np.testing.assert_array_equal(seen.get_buffer(), returned)


def test_refuses():
    one = torch.ones(1, 1, 4, 4)
    with pytest.raises(ValueError, match=r"SEGMetric needs the truth: call it with \(y_pred, y\)"):
        metrics.SEGMetric()(one)
    with pytest.raises(ValueError, match="SEGMetric was given 2 predictions and 1 truths"):
        metrics.SEGMetric()(torch.cat([one, one]), one)
    with pytest.raises(ValueError, match="2 channels; instance labels have one: put unet_med"):
        metrics.SEGMetric()(torch.ones(1, 2, 4, 4), one)
    with pytest.raises(ValueError, match="must be a probability in"):
        metrics.VRandMetric()(one - 3, one)
    with pytest.raises(ValueError, match="iou_threshold 0; it must be above 0"):
        metrics.AveragePrecisionMetric(iou_threshold=0)
    with pytest.raises(ValueError, match="truth has no object in any frame"):
        metrics.det(one[0, 0].numpy(), one[0, 0].numpy() * 0)


def handler(name: str) -> dict:
    return {
        "_target_": "monai.handlers.IgniteMetricHandler",
        "metric_fn": {"_target_": f"unet_med.metrics.{name}"},
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }


def test_evaluator_from_a_config(slices):
    found, truth = slices
    logits = np.log(np.clip(found, 1e-6, 1 - 1e-6) / (1 - np.clip(found, 1e-6, 1 - 1e-6)))
    items = [
        {"image": np.float32(image[None]), "label": label[None]}
        for image, label in zip(logits, truth, strict=True)
    ]
    config = {
        "evaluator": {
            "_target_": "monai.engines.SupervisedEvaluator",
            "device": "$torch.device('cpu')",
            "val_data_loader": DataLoader(Dataset(items), batch_size=4),
            "network": {"_target_": "torch.nn.Identity"},
            "postprocessing": {
                "_target_": "monai.transforms.Activationsd",
                "keys": "pred",
                "sigmoid": True,
            },
            "key_val_metric": {"v_rand": handler("VRandMetric")},
            "additional_metrics": {"v_info": handler("VInfoMetric")},
        }
    }
    evaluator = ConfigParser(config).get_parsed_content("evaluator")
    evaluator.run()
    evaluator.run()  # nothing is left of the first
    seen = torch.sigmoid(torch.from_numpy(np.float32(logits))).numpy()
    pair = seen.transpose(0, 2, 1), truth.transpose(0, 2, 1)
    assert evaluator.state.metrics["v_rand"] == metrics.v_rand(*pair)
    assert evaluator.state.metrics["v_info"] == metrics.v_info(*pair)
    assert evaluator.state.best_metric == metrics.v_rand(*pair)
    own = [[metrics.v_rand(f, t)] for f, t in zip(*pair, strict=True)]
    assert evaluator.state.metric_details["v_rand"].tolist() == own


def test_functions_load_neither_torch_nor_monai():
    code = (
        "import sys; from unet_med import metrics; metrics.v_rand([[1, 0]], [[1, 0]]);"
        "metrics.seg([1], [1]); assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, encoding="utf-8")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = metrics.nothing
