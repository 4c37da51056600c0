"""The operator of MONAI Deploy's App SDK on one NIfTI volume, from a folder and from `model.ts`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from image_files import TURNED, write_ct

from unet_med import Segmenter, bundle
from unet_med.export import export_torchscript
from unet_med.networks import unet

pytest.importorskip("monai.deploy", reason="make clients")


class Ports:
    """What an application gives an operator, and takes from it."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def receive(self, name: str) -> Any:
        return self.values[name]

    def emit(self, value: Any, name: str) -> None:
        self.values[name] = value


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ct(tmp_path_factory.mktemp("ct") / "ct.nii.gz", (40, 48, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, volume: Path) -> Path:
    folder = bundle.copy_bundle(tmp_path_factory.mktemp("deploy") / "bundle")
    ids = {"preset": "modern", "features": [4, 8, 16], "spatial_dims": 3, "orientation": "RAS"}
    ids |= {"element_size": [1.0, 1.0, 2.0], "element_unit": "mm", "tile_size": 16}
    bundle.write_settings(folder, [], {**ids, "device": "$torch.device('cpu')"})
    torch.manual_seed(0)
    network = unet("modern", features=(4, 8, 16), spatial_dims=3)
    torch.save(network.state_dict(), folder / "models/model.pt")
    foreground = Segmenter(folder)(volume).probabilities[1]
    bundle.write_settings(folder, [], {"threshold": float(np.quantile(foreground, 0.7))})
    return folder


@pytest.mark.parametrize("kind", ["folder", "model.ts"])
def test_no_voxel_differs_from_predict(kind: str, folder: Path, volume: Path) -> None:
    from monai.deploy.core import Application, Image, IOType
    from monai.deploy.operators.monai_bundle_inference_operator import (
        IOMapping,
        MonaiBundleInferenceOperator,
    )

    pixels = np.asarray(nibabel.load(volume).dataobj).astype(np.float32)  # (X, Y, Z)
    meta = {"affine": TURNED, "original_affine": TURNED, "spacing": np.abs(np.diag(TURNED))[:3]}
    meta |= {"original_channel_dim": "no_channel", "spatial_shape": np.asarray(pixels.shape)}
    meta |= {"spatial_unit": "mm"}
    operator = MonaiBundleInferenceOperator(
        Application([]),
        app_context=SimpleNamespace(models=None),
        input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
        output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
        bundle_path=folder if kind == "folder" else export_torchscript(folder),
    )
    given = Ports()
    operator.compute(Ports(image=Image(pixels, metadata=meta)), given, None)
    found = np.swapaxes(given.values["pred"].asnumpy(), 0, 2)
    expected = Segmenter(folder)(volume).mask
    assert set(np.unique(expected)) == {0, 1}
    print(f"{kind}: {np.sum(found != expected)} of {expected.size} voxels differ")
    np.testing.assert_array_equal(found, expected)
