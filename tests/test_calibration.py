"""Probabilities that mean what they say, against slow counts and networks of known error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from unet_med import Segmenter, bundle
from unet_med.cli import main
from unet_med.export.left_out import left_out, sentences
from unet_med.fitting import HeldOut, NearBorders, calibrate, pixels_of, write_calibration
from unet_med.fitting.calibration import Calibration, fitted
from unet_med.metrics import expected_calibration_error, near_borders
from unet_med.metrics.calibration import CALIBRATION
from unet_med.transforms import Calibrate

RULE = {"temperature": 2.0, "bias": [0.0, -0.7]}


# --- the error


@given(st.integers(0, 2**31), st.integers(2, 4))
def test_the_error_is_that_of_counting(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(count), (5, 4)).transpose(2, 0, 1)
    truth, where = rng.integers(0, count, (5, 4)), rng.random((5, 4)) < 0.8
    where[0, 0] = True
    expected = oracles.calibration_error(scores, truth, where)
    assert expected_calibration_error(scores, truth, where) == pytest.approx(expected)


@given(st.integers(0, 2**31), st.sampled_from([[1.0, 1.0], [1.0, 2.0], [0.6, 0.3]]))
def test_near_borders_is_near_another_label(seed: int, spacing: list[float]) -> None:
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(-1, 3, (3, 3)), np.ones((3, 3), int))
    found = near_borders(labels, 2.0, spacing)
    np.testing.assert_array_equal(found, oracles.near_borders(labels, 2.0, spacing))


def test_a_probability_of_one_is_in_the_last_bin() -> None:
    """With 0.95, of which the bin's mean is 0.975 and half is right; images of both add up."""
    sure, nearly = (np.array([[1 - p], [p]]) for p in (1.0, 0.95))
    both = np.concatenate([sure, nearly], axis=1)
    assert expected_calibration_error(both, [0, 1]) == pytest.approx(0.475)
    rows = [CALIBRATION.count(one, true) for one, true in ((sure, [0]), (nearly, [1]))]
    assert CALIBRATION.total(np.concatenate(rows)) == pytest.approx(0.475)


def test_what_cannot_be_scored_is_refused() -> None:
    assert not near_borders(np.zeros((4, 4), int)).any()
    with pytest.raises(ValueError, match="no pixel counts"):
        expected_calibration_error(np.full((2, 3), 0.5), np.zeros(3, int), np.zeros(3, bool))
    with pytest.raises(ValueError, match="must be \\(K, \\*S\\)"):
        expected_calibration_error(np.full((2, 3), 0.5), np.zeros(4, int))
    for wrong in (np.nan, 1.5, -2.0):  # such as logits
        with pytest.raises(ValueError, match=f"to {wrong:g}|from {wrong:g}.* lie in"):
            expected_calibration_error([[0.5, 0.5], [0.5, wrong]], [0, 1])


# --- the map


def test_it_scales_logits() -> None:
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    found = Calibrate(1.7, [0.0, 0.4, -1.0])(logits.softmax(0))
    bias = torch.tensor([0.0, 0.4, -1.0]).view(3, 1, 1)
    torch.testing.assert_close(found, (logits / 1.7 + bias).softmax(0))
    sure = Calibrate(2.0)(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert torch.isfinite(sure).all()
    assert sure[1].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    with pytest.raises(ValueError, match="above 0"):
        Calibrate(0.0)
    with pytest.raises(ValueError, match="2 biases for 3 classes"):
        Calibrate(1.0, [0.0, 1.0])(logits.softmax(0))


# --- the fit


def drawn(seed: int, temperature: float, bias: float, count: int = 4000) -> NearBorders:
    """Pixels whose network is too sure by a temperature and sees objects too often by a bias."""
    rng = np.random.default_rng(seed)
    true = 2 * rng.standard_normal(count)  # logits that mean what they say
    classes = (rng.random(count) < 1 / (1 + np.exp(-true))).astype(np.int64)
    said = torch.from_numpy((true - bias) * temperature)
    return NearBorders(torch.stack([-said, said]).div(2).softmax(0), classes)


def test_it_finds_the_error_that_was_made() -> None:
    images = [drawn(seed, 2.5, -0.8) for seed in range(4)]
    found = fitted(images, [0, 1])
    assert found["temperature"] == pytest.approx(2.5, rel=0.06)
    assert found["bias"] == pytest.approx([0.0, -0.8], abs=0.08)
    assert fitted(images)["bias"] is None


@pytest.mark.parametrize(
    ("temperature", "bias", "numbers"), [(1.0, 0.0, 0), (2.5, 0.0, 1), (2.5, -0.8, 2)]
)
def test_the_smallest_that_pays_is_taken(temperature: float, bias: float, numbers: int) -> None:
    images = [drawn(seed, temperature, bias) for seed in range(4)]
    found = calibrate(images, [0, 1, 2, 3])
    rule = found.rule or {}
    assert ("temperature" in rule) + (rule.get("bias") is not None) == numbers
    assert found.after < 0.03
    assert (found.before > 0.05) == (numbers > 0)
    if not numbers:
        assert found.rule is None
        assert found.after == found.before


def three(seed: int, classes: list[int], count: int = 3000) -> NearBorders:
    """Pixels of a network that sees every foreground class too often, of some classes alone."""
    rng = np.random.default_rng(seed)
    true = 2 * rng.standard_normal((3, count))
    true[[k for k in range(3) if k not in classes]] -= 30
    chances = np.exp(true) / np.exp(true).sum(0)
    drawn = (rng.random(count) > chances.cumsum(0)).sum(0)
    said = true.copy()
    said[[k for k in range(3) if k not in classes]] += 28  # it does not know which are there
    said[1:] += 0.7
    return NearBorders(torch.from_numpy(said).softmax(0), drawn.astype(np.int64))


@pytest.mark.parametrize("with_it", [0, 1, 2])
def test_a_class_that_held_out_images_lack_does_not_vanish(with_it: int) -> None:
    images = [three(seed, [0, 1, 2] if seed < with_it else [0, 1]) for seed in range(4)]
    found = calibrate(images, [0, 1, 2, 3])
    assert found.rule is not None
    bias = found.rule["bias"]
    if with_it == 2:
        assert found.unseen == ()
        assert bias[2] < bias[1] < -0.1
    else:
        assert found.unseen == (2,)
        assert bias[2] == bias[1]
        assert -3 < bias[1] < -0.1
    later = torch.tensor([[0.1], [0.1], [0.8]])  # an image that has it
    assert float(Calibrate(**found.rule)(later)[2]) > 0.2


def test_what_was_not_seen_is_said(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    write_calibration(copy, Calibration(RULE, 0.2, 0.01, (2, 3)), "4 held-out images")
    reason = bundle.read_plan(copy)["ids"]["calibration"]["reason"]
    assert "; classes 2, 3 near borders in fewer than two of them: the others' mean bias" in reason


def test_an_image_is_judged_by_what_others_say() -> None:
    """Three images of one error and an odd one: what all four say is not what each is judged by."""
    images = [*(drawn(seed, 3.0, 0.0) for seed in range(3)), drawn(3, 0.4, 0.0)]
    scores, truths = [], []
    for k, image in enumerate(images):
        rule = fitted([other for j, other in enumerate(images) if j != k])
        scores.append(Calibrate(**rule)(image.probabilities))
        truths.append(image.classes)
    expected = expected_calibration_error(torch.cat(scores, 1), np.concatenate(truths))
    assert calibrate(images, [0, 1, 2, 3]).after == pytest.approx(expected)


def test_pixels_are_those_near_known_borders() -> None:
    truth = np.zeros((40, 3), np.int64)
    truth[20:25], truth[25:] = 7, -1
    scores = torch.rand(2, 40, 3)
    near = pixels_of(HeldOut(scores, truth, (1.0, 1.0), None, (1.0, 1.0), "um"), "instances")
    assert near.classes.tolist() == [0] * 33 + [1] * 15  # rows 9 to 19, 20 to 24
    torch.testing.assert_close(near.probabilities, scores[:, 9:25].flatten(1))
    classes = np.where(truth < 0, 255, np.where(truth > 0, 2, 0))
    near = pixels_of(HeldOut(scores, classes, (1.0, 1.0), None, (1.0, 1.0), "um"), "classes")
    assert sorted(set(near.classes.tolist())) == [0, 2]


def test_pixels_of_many_images_share_the_memory() -> None:
    truth = np.zeros((100, 90), np.int64)
    truth[20:60, 20:60] = 1
    found = HeldOut(torch.rand(2, 100, 90), truth, (1.0, 1.0), None, (1.0, 1.0), "um")
    counts = [len(pixels_of(found, "instances", images=n).classes) for n in (1, 100, 1000, 20_000)]
    assert counts[0] == counts[1] > 2000
    assert counts[2:] == [2000, 100]


# --- in a bundle


@pytest.fixture
def calibrated(trained: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(trained, tmp_path / "calibrated"))
    write_calibration(copy, Calibration(RULE, 0.2, 0.01), "4 held-out images")
    return copy


def test_it_acts_on_what_is_given_out_alone(
    trained: Path, calibrated: Path, cells: Path, tmp_path: Path
) -> None:
    image = str(cells / "images/cells_000.tif")
    one, other = (Segmenter(f, device="cpu")(image) for f in (trained, calibrated))
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.instances, other.instances)
    expected = Calibrate(**RULE)(torch.from_numpy(one.probabilities))
    np.testing.assert_allclose(other.probabilities, expected, rtol=1e-5, atol=1e-7)
    assert float(abs(one.probabilities - other.probabilities).max()) > 0.05
    words = [image, "--bundle", str(calibrated), "--device", "cpu", "--probabilities"]
    assert main(["predict", *words, "--output", str(tmp_path / "whole")]) == 0
    blocks = ["--block", "40", "40", "--workers", "1", "--output", str(tmp_path / "b.ome.tif")]
    assert main(["predict", *words, *blocks]) == 0
    whole = tifffile.imread(tmp_path / "whole/cells_000_probabilities.tif")
    np.testing.assert_allclose(whole, other.probabilities, rtol=1e-5, atol=1e-7)
    parts = tifffile.imread(tmp_path / "b_probabilities.ome.tif")
    np.testing.assert_allclose(parts.squeeze(), whole, rtol=1e-4, atol=1e-5)
    settings = json.loads((tmp_path / "whole/record.json").read_text())["settings"]
    assert settings["calibration"] == RULE


def test_the_bundle_says_so(calibrated: Path) -> None:
    entry = bundle.read_plan(calibrated)["ids"]["calibration"]
    assert entry["value"] == RULE
    assert entry["reason"].startswith("fitted on 4 held-out images: expected calibration error")
    card = (calibrated / "docs/README.md").read_text()
    assert "0.200, 0.010 calibrated, on images not used for the fit" in card
    write_calibration(calibrated, Calibration(None, 0.2, 0.2), "5 held-out images")
    again = (calibrated / "docs/README.md").read_text()
    assert again.count("## Probabilities") == 1
    assert "those of the network: fitted on 5 held-out images" in again
    bundle.write_settings(calibrated, [], {"calibration": RULE})  # by hand
    write_calibration(calibrated, Calibration(None, 0.2, 0.2), "6 held-out images")
    assert bundle.read_plan(calibrated)["ids"]["calibration"]["reason"] == "set by hand"


def test_an_export_leaves_it_out() -> None:
    ids: dict[str, Any] = {"calibration": RULE}
    assert left_out(ids)["calibration"]["value"] == RULE
    assert "where the bundle's are by a temperature of 2 and a bias a class" in sentences(ids)
    assert left_out({"calibration": None}) == {}
