"""Classes whose values have gaps: learned as 0 to K-1, written with the file's own values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from unet_med import Segmenter, bundle
from unet_med.cli import main
from unet_med.networks import unet
from unet_med.planning import fingerprint, lay_bundle, make_plan

VALUES = [0, 1, 2, 4]
TINY = {"preset": "paper2015", "features": [4, 8], "spatial_dims": 2, "out_channels": 4}


def test_the_plan_maps_them(tmp_path: Path, rng: np.random.Generator) -> None:
    label = np.kron(rng.choice(VALUES, (6, 6)), np.ones((8, 8), int)).astype(np.uint8)
    for part, array in (("images", rng.integers(0, 99, (48, 48), np.uint8)), ("labels", label)):
        (tmp_path / part).mkdir()
        for name in "ab":
            tifffile.imwrite(tmp_path / part / f"{name}.tif", array)
    plan = make_plan(fingerprint(tmp_path / "images", tmp_path / "labels"))
    assert (plan.value("label_kind"), plan.value("out_channels")) == ("classes", 4)
    assert plan.value("class_values") == VALUES
    lay_bundle(plan, tmp_path / "bundle")
    for name in ("train", "evaluate"):
        parser = ConfigParser(json.loads((tmp_path / f"bundle/configs/{name}.json").read_text()))
        parser["dataset_dir"] = str(tmp_path)
        item = parser.get_parsed_content("pairs")[0]
        read = parser.get_parsed_content("load")["label"](item)["label"].numpy()[0].T
        np.testing.assert_array_equal(read, np.searchsorted(VALUES, label))
    described = json.loads((tmp_path / "bundle/configs/metadata.json").read_text())
    names = described["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert names == {"0": "background", "1": "class 1", "2": "class 2", "3": "class 4"}


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 255, (60, 70), np.uint8)


@pytest.fixture
def trained_bundle(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A bundle with random weights whose masks are told to hold 0, 1, 2, 4."""
    folder = tmp_path / "bundle"
    bundle.copy_bundle(folder)
    file = folder / "configs/inference.json"
    ids = {**TINY, "label_kind": "classes", "class_values": VALUES}
    file.write_text(json.dumps(json.loads(file.read_text()) | ids))
    torch.manual_seed(0)
    network = unet(**TINY)
    weights = network.state_dict()
    torch.save(weights, folder / "models/model.pt")
    scores = Segmenter(folder, device="cpu")(pixels).probabilities
    for number in (1, 2, 3):  # each class wins somewhere
        ahead = np.log(scores[:number].max(0) / scores[number])
        weights[[*weights][-1]][number] += float(np.quantile(ahead, 0.5))
        scores[number] *= np.exp(np.quantile(ahead, 0.5))
    torch.save(weights, folder / "models/model.pt")
    return folder


def test_results_carry_them_by_every_door(
    tmp_path: Path, trained_bundle: Path, pixels: np.ndarray
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    result = Segmenter(trained_bundle, device="cpu")(tmp_path / "a.tif")
    expected = np.take(VALUES, result.probabilities.argmax(0))
    assert set(np.unique(expected)) == set(VALUES)
    np.testing.assert_array_equal(result.mask, expected)
    words = ["predict", str(tmp_path / "a.tif"), "--bundle", str(trained_bundle), "--output"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "whole/a_mask.tif"), expected)


def test_blocks_carry_them(tmp_path: Path, trained_bundle: Path, pixels: np.ndarray) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    words = ["predict", str(tmp_path / "a.tif"), "--bundle", str(trained_bundle), "--output"]
    assert main([*words, str(tmp_path / "out.ome.zarr"), "--probabilities"]) == 0
    stored = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    expected = np.take(VALUES, np.asarray(stored["0"]).argmax(0))
    np.testing.assert_array_equal(np.asarray(stored["labels/mask/0"]), expected)
    assert main(["job", "verify", str(tmp_path / "out.ome.zarr")]) == 0
