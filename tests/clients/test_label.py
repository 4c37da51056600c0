"""MONAI Label's tasks of a bundle on NIfTI volumes: the list of models, inference, training."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from unet_med import Segmenter
from unet_med.cli import main

pytest.importorskip("monailabel", reason="make clients")
NAME = "unet_segmentation"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes of 0.8 x 0.8 x 2.5 mm, LAS, and labels of two organs."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for k in range(3):
        label = np.zeros((40, 48, 16), np.uint8)
        label[8:20, 8:24, 4:12], label[24:36, 20:40, 4:12] = 1, 2
        grey = (300.0 * label + rng.normal(0, 40, label.shape)).astype(np.int16)
        for name, array in (("images", grey), ("labels", label)):
            (folder / name).mkdir(exist_ok=True)
            volume = nibabel.Nifti1Image(array, np.diag([-0.8, 0.8, 2.5, 1.0]))
            volume.header.set_xyzt_units("mm")
            nibabel.save(volume, folder / name / f"ct_{k}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A bundle as `unet-med train` leaves it, under the name of a segmentation."""
    folder = tmp_path_factory.mktemp("models") / NAME
    words = ["--images", f"{data}/images", "--labels", f"{data}/labels", "--label-kind", "classes"]
    words += ["--class-names", "Liver", "Spleen", "--features", "4", "8", "--epochs", "1"]
    assert main(["train", *words, "--device", "cpu", "--output", str(folder)]) == 0
    return folder


def test_inference_equals_predict(
    folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of torchvision it imports two functions that draw pictures, and the wheels are those for CUDA
    for name in ("torchvision", "torchvision.utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["torchvision.utils"], "make_grid", None, raising=False)
    monkeypatch.setattr(sys.modules["torchvision.utils"], "save_image", None, raising=False)
    from monailabel.tasks.infer.bundle import BundleInferTask

    task = BundleInferTask(str(folder), {})
    assert task.is_valid()
    assert task.labels == {"liver": 1, "spleen": 2}
    assert task.dimension == 3
    assert task.config()["model_filename"] == ["model.pt"]
    request = {"model": NAME, "image": str(data / "images/ct_0.nii.gz"), "device": "cpu"}
    file, _ = task({**request, "result_extension": ".nii.gz", "result_dtype": "uint8"})
    found = np.asarray(nibabel.load(file).dataobj)
    expected = Segmenter(folder, device="cpu")(data / "images/ct_0.nii.gz").mask
    assert expected.any()
    print(f"{np.sum(found != expected)} of {expected.size} voxels differ")
    np.testing.assert_array_equal(found, expected)


def test_training_goes_on_from_the_model(folder: Path, data: Path) -> None:
    from monailabel.tasks.train.bundle import BundleTrainTask

    task = BundleTrainTask(str(folder), {})
    assert task.is_valid()
    pairs = [{k: str(data / f"{k}s/ct_{i}.nii.gz") for k in ("image", "label")} for i in range(3)]
    before = torch.load(folder / "models/model.pt", weights_only=True)
    request: dict[str, Any] = {"model": NAME, "device": "cpu", "max_epochs": 2, "val_split": 0.3}
    task(request, SimpleNamespace(datalist=lambda: pairs))
    after = torch.load(folder / "models/model.pt", weights_only=True)
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[name], before[name]) for name in before)
    print((folder / "models/learning_curve.csv").read_text())
