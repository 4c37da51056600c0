"""A clinical series of thick slices: trained, predicted, evaluated and exported by no option."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unet_med.cli import main
from unet_med.data import SyntheticCells, load_image, save_image

pytestmark = pytest.mark.long

VOXEL = (0.5, 0.5, 5.0)  # mm


def series(folder: Path, size: tuple[int, int, int], cells: int, count: int = 2) -> None:
    """Volumes of thick slices in millimetres, and the cells in them as a mask."""
    found = SyntheticCells(count, size, kind="fluorescence", num_cells=cells, spacing=VOXEL)
    for number in range(count):
        item = found[number]
        arrays = {"images": item["image"].numpy(), "labels": (item["label"] > 0).numpy()}
        for part, array in arrays.items():
            path = folder / part / f"series_{number}.nii.gz"
            array = array.astype(np.uint16 if part == "images" else np.uint8)
            save_image(path, array, np.diag([*VOXEL, 1.0]), spatial_unit="mm")


def run_all(folder: Path, budget: list[str]) -> None:
    """The commands, one after the other."""
    data = ["--images", str(folder / "images"), "--labels", str(folder / "labels")]
    bundle, results = str(folder / "bundle"), str(folder / "results")
    assert main(["train", *data, "--output", bundle, *budget]) == 0
    assert main(["predict", str(folder / "images"), "--bundle", bundle, "--output", results]) == 0
    assert main(["evaluate", results, str(folder / "labels")]) == 0
    for kind in ("torchscript", "onnx", "bioimageio"):
        assert main(["export", bundle, "--format", kind]) == 0


def test_a_series_of_thick_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("bioimageio.spec")
    series(tmp_path, (64, 64, 8), cells=6)
    run_all(tmp_path, ["--epochs", "1"])
    assert "pooled    by 2 x 2 x 1, 2 x 2 x 1, 2 x 2 x 1: one axis is 10 times" in (
        capsys.readouterr().err
    )
    mask = load_image(tmp_path / "results" / "series_0_mask.nii.gz")
    assert mask.shape[-3:] == (64, 64, 8)
    np.testing.assert_allclose(np.diag(mask.affine)[:3], VOXEL)
    metadata = json.loads((tmp_path / "bundle/configs/metadata.json").read_text("utf-8"))
    shape = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert shape == ["8*n + 56", "8*n + 56", "1*n + 7"]  # from the tile on
    scripted = torch.jit.load(str(tmp_path / "bundle/models/model.ts"))
    assert scripted.stride == (8, 8, 1)
    props = onnx.load(tmp_path / "bundle/models/model.onnx").metadata_props
    (card,) = (json.loads(prop.value) for prop in props if prop.key == "unet_med.json")
    assert card["sides"]["step"] == [8, 8, 1]
    assert card["sides"]["smallest"] == [8, 8, 1]
