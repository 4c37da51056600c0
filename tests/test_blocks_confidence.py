"""How sure a prediction is, block by block: the number and the map of the whole image."""

from __future__ import annotations

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_volumes import make_bundle

from unet_med import Segmenter
from unet_med.cli import main
from unet_med.data import load_image, sha256
from unet_med.data.sources import DiskImage
from unet_med.inferers.agreement import agreement
from unet_med.networks import joined_weights
from unet_med.networks.ensemble import members_of
from unet_med.report import html_report
from unet_med.segmentation import Volume
from unet_med.transforms import confidence as module
from unet_med.transforms.confidence import confidence, dice_of, dice_terms, uncertainty
from unet_med.volumes import BlockJob
from unet_med.volumes.blocks import split
from unet_med.volumes.objects import box_of

KINDS: dict[str, dict[str, Any]] = {
    "own pixels": {"tta": "rotations"},
    "networks together": {"tta": "flips", "members": 3},
    "larger pixels": {"scale": 0.4, "tta": "flips", "threshold": 0.4, "mask_threshold": 0.3},
    "smaller pixels": {"scale": 1.7, "tta": "flips"},
    "planes": {"preset": "modern", "statistics": "image", "tta": "flips", "scale": 0.6},
    "a volume": {"spatial_dims": 3, "tta": "flips"},
    "a volume of other pixels": {"spatial_dims": 3, "tta": "flips", "scale": [0.5, 0.7, 1.3]},
    "turned": {
        "spatial_dims": 3, "tta": "flips", "orientation": "ASR", "mirror_axes": [1, 2],
        "element_size": [0.8, 0.5, 1.5], "element_unit": "mm",
    },
    "one view": {"scale": 0.6},
}  # fmt: skip
CALIBRATION = {"temperature": 1.5, "bias": [0.0, 0.3, -0.2]}
TURNED = np.array([[0, -0.7, 0, 3], [0, 0, 1.1, -4], [0.9, 0, 0, 5], [0, 0, 0, 1.0]])


@lru_cache
def segmenter_of(kind: str) -> Segmenter:
    """In float64, where no rounding of a convolution turns a pixel."""
    ids = dict(KINDS[kind])
    folder = Path(tempfile.mkdtemp()) / "bundle"
    members = ids.pop("members", 1)
    make_bundle(folder, features=[2, 4], calibration=CALIBRATION, **ids)
    if members > 1:
        first = torch.load(folder / "models/model.pt", weights_only=True)
        for k in range(members):
            mixed = {name: w + 0.4 * k * torch.randn_like(w) for name, w in first.items()}
            torch.save(mixed, folder / f"{k}.pt")
        weights = joined_weights([folder / f"{k}.pt" for k in range(members)])
        torch.save(weights, folder / "models/together.pt")
        ids = {"members": members, "checkpoint": folder / "models/together.pt"}
    else:
        ids = {}
    segmenter = Segmenter(folder, device="cpu", **ids)
    segmenter.network.double()
    for member in members_of(segmenter.network):
        balance(member)
    return segmenter


def balance(network: Any) -> None:
    """Let the last layer find all classes, or views agree whatever they see."""
    torch.manual_seed(0)
    sides = network.input_size_for((16,) * network.spatial_dims)
    last = [
        each for each in network.modules() if isinstance(each, torch.nn.Conv2d | torch.nn.Conv3d)
    ][-1]
    with torch.no_grad():
        logits = network(torch.randn(1, 1, *sides, dtype=torch.float64)).transpose(0, 1).flatten(1)
        spread = logits.std(dim=1)
        last.bias.sub_(logits.mean(dim=1)).div_(spread)
        last.weight.div_(spread.view(-1, *[1] * (last.weight.ndim - 1)))


def source_of(array: np.ndarray, affine: np.ndarray | None) -> DiskImage:
    return DiskImage(
        path=Path("image.tif"),
        shape=array.shape,
        channels=1,
        dtype=array.dtype,
        spacing=(1.0,) * array.ndim,
        unit="mm",
        identity={},
        read=lambda window: array[tuple(window)][None],
        affine=affine,
        spacing_source="nifti",
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(data=st.data())
def test_blocks_are_as_sure_as_the_whole(kind: str, data: st.DataObject) -> None:
    segmenter = segmenter_of(kind)
    by_plane = kind == "planes"
    dims = 3 if by_plane else segmenter.spatial_dims
    shape = data.draw(st.tuples(*[st.integers(3, 24 if dims == 2 else 10)] * dims), "shape")
    seed = data.draw(st.integers(0, 9), "seed")
    array = np.random.default_rng(seed).gamma(2.0, 20.0, shape)
    volume = Volume(segmenter, source_of(array, TURNED if kind == "turned" else None))
    step = 2 if volume.same_grid else 1
    sides = data.draw(st.tuples(*[st.integers(1, 12)] * dims), "block")
    sides = tuple(max(side * step, -(-length // 3 // step) * step) for side, length in
                  zip(sides, shape, strict=True))  # fmt: skip

    doubt = torch.full((1, *shape[::-1]), torch.nan, dtype=torch.float64)
    dice, views = [], []
    for block in split(shape[::-1], sides):
        probabilities, agreed = volume.look(box_of(block))
        assert volume.confidence is not None
        calibrated, found = volume.confidence.judge(probabilities)
        doubt[(..., *block.slices)] = uncertainty(calibrated, found).double()
        dice.append(dice_terms(calibrated, found))
        views.append(agreed)
    one_view = kind == "one view"
    assert all((each is None) == one_view for each in views)
    agreed = None if one_view else float(agreement(torch.tensor(views), 1))
    number = confidence(dice_of(np.sum(dice, axis=0)), agreed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "rounded", lambda exact: exact)
        whole = segmenter(volume.source)
        expected = whole.confidence
    assert number == (None if expected is None else pytest.approx(expected, abs=1e-6))
    np.testing.assert_allclose(doubt, whole._finished("uncertainty")[0], atol=2e-6)


# --- as a job


@pytest.fixture
def image(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "a.tif"
    pixels = rng.gamma(2.0, 20.0, (3, 41, 37)).astype(np.uint8)
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 1.0}
    tifffile.imwrite(path, pixels, imagej=True, resolution=(2, 2), metadata=metadata)
    return path


@pytest.fixture
def words(tmp_path: Path, image: Path) -> list[str]:
    """A prediction of a stack that the network sees at another pixel size, over four views."""
    ids = {"tta": "flips", "element_size": 0.8, "element_unit": "um", "calibration": CALIBRATION}
    bundle = make_bundle(tmp_path / "bundle", **ids)
    return ["predict", str(image), "--bundle", str(bundle), "--device", "cpu"]


def test_a_job_says_what_the_whole_says(tmp_path: Path, words: list[str]) -> None:
    """Shared over processes, stopped and resumed; in the record, the report and the map."""
    assert main([*words, "--uncertainty", "--output", str(tmp_path / "whole")]) == 0
    output = tmp_path / "blocks" / "a_mask.tif"
    place = ["--block", "2", "16", "16", "--output", str(output), "--uncertainty"]
    for shard in ("0/2", "1/2"):
        assert main([*words, *place, "--shard", shard]) == 0
    assert not (tmp_path / "blocks/record.json").exists()
    job = BlockJob.load(output.with_suffix(".ome.zarr"))
    assert job.markers.count() == 18
    (job.folder / "done/1.2.0.json").unlink()
    assert main([*words, *place, "--resume", "--workers", "1"]) == 0

    whole, blocks = (json.loads((tmp_path / f / "record.json").read_text())
                     for f in ("whole", "blocks"))  # fmt: skip
    (one,), (other,) = (each["images"].values() for each in (whole, blocks))
    assert [*blocks["images"]] == ["a"]
    assert other.pop("confidence") == pytest.approx(one.pop("confidence"), abs=1e-4)
    assert [*one.pop("digests")] == ["a_mask.tif", "a_uncertainty.tif"]
    written = [tmp_path / "blocks" / name for name in ("a_mask.tif", "a_uncertainty.tif")]
    assert other.pop("digests") == {each.name: sha256(each) for each in written}
    assert other == one
    for same in ("weights", "settings"):
        assert blocks[same] == whole[same]

    maps = [tifffile.imread(tmp_path / f"{f}/a_uncertainty.tif") for f in ("whole", "blocks")]
    assert (maps[1].dtype, maps[1].shape) == (np.float32, (3, 41, 37))
    clear = np.abs(maps[0] - maps[1]) < 1e-5  # one pixel may be of another class, by rounding
    assert clear.mean() > 0.999
    assert maps[1].std() > 0.01
    page = html_report(tmp_path / "blocks").read_text()
    assert page.count('aria-label="chance that a pixel is wrong"') == 1
    assert "confidence <b>" in page


def test_the_map_is_an_image_of_its_own(tmp_path: Path, words: list[str]) -> None:
    from yaozarrs import validate_zarr_store

    output = tmp_path / "out.ome.zarr"
    maps = ["--uncertainty", "--probabilities", "--workers", "1", "--output", str(output)]
    assert main([*words, "--tta", "none", *maps]) == 0
    for part in (output, output / "labels/mask", output / "uncertainty"):
        validate_zarr_store(part)
    (output / "uncertainty").rename(tmp_path / "u.ome.zarr")
    doubt = load_image(tmp_path / "u.ome.zarr").numpy()
    (output / "labels/mask").rename(tmp_path / "m.ome.zarr")
    scores, mask = load_image(output), load_image(tmp_path / "m.ome.zarr")
    own = uncertainty(scores.as_tensor(), mask.as_tensor())
    np.testing.assert_allclose(doubt, own, atol=1e-6)
    record = json.loads((tmp_path / "record.json").read_text())
    assert "digests" not in record["images"]["out"]  # no file of it, but those of an OME-Zarr
    expected = dice_of(dice_terms(scores.as_tensor(), mask.as_tensor()))
    assert record["images"]["out"]["confidence"] == pytest.approx(expected, abs=1e-4)


def test_a_bundle_that_does_not_say_it(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bundle/configs/inference.json"
    config = json.loads(path.read_text())
    for part in ("confidence", "calibrate"):
        del config["finish"][part]
    del config["calibration"], config["record"]["settings"]["calibration"]
    path.write_text(json.dumps(config))
    output = ["--workers", "1", "--output", str(tmp_path / "out/a_mask.ome.zarr")]
    assert main([*words, *output, "--uncertainty"]) == 2
    assert "leave out --uncertainty" in capsys.readouterr().err
    assert main([*words, *output]) == 0
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert "confidence" not in record["images"]["a"]


def test_a_report_does_not_draw_what_memory_does_not_hold(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    assert main([*words, "--workers", "1", "--output", str(output / "a_mask.ome.zarr")]) == 0
    monkeypatch.setattr("unet_med.memory.available_bytes", lambda: 2 * 48 * 3 * 41 * 37 - 1)
    page = html_report(output).read_text()
    assert "it is larger than memory, and not drawn" in page
    assert "confidence <b>" in page
