"""bioimageio.core runs the package that `unet-med export --format bioimageio` writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unet_med import bundle
from unet_med.export import export_bioimageio
from unet_med.networks import unet

core = pytest.importorskip("bioimageio.core", reason="make clients")


@pytest.mark.parametrize("preset", ["paper2015", "modern"])
def test_the_zoos_own_test(preset: str, tmp_path: Path) -> None:
    folder = bundle.copy_bundle(tmp_path / "bundle")
    ids = {"preset": preset, "features": [2, 4, 4], "device": "$torch.device('cpu')"}
    bundle.write_settings(folder, [], {**ids, "tile_size": 44 if preset == "paper2015" else 32})
    torch.save(unet(preset, features=(2, 4, 4)).state_dict(), folder / "models/model.pt")
    package = export_bioimageio(folder)
    for weights in ("torchscript", "onnx"):
        summary = core.test_model(str(package), weight_format=weights)
        print(f"{preset}, {weights}: {summary.status}")
        assert summary.status == "passed", summary.display()
