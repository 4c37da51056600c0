"""A trained bundle as PT2, ONNX, TorchScript or a BioImage Model Zoo package."""

from __future__ import annotations

from unet_med.export.bioimageio import export_bioimageio
from unet_med.export.onnx import export_onnx
from unet_med.export.pt2 import export_pt2
from unet_med.export.torchscript import export_torchscript
from unet_med.export.trained import TrainedBundle, load_trained

__all__ = [
    "TrainedBundle",
    "export_bioimageio",
    "export_onnx",
    "export_pt2",
    "export_torchscript",
    "load_trained",
]
