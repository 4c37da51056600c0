"""`unet-med export`: a trained bundle as TorchScript, ONNX or a BioImage Model Zoo package."""

from __future__ import annotations

import argparse

from unet_med import export


def run(args: argparse.Namespace) -> None:
    """Write the file, and say what it does not do as the bundle does."""
    writers = {
        "torchscript": export.export_torchscript,
        "onnx": export.export_onnx,
        "bioimageio": export.export_bioimageio,
    }
    left_behind = export.load_trained(args.bundle, trust=args.trust).left_behind()
    path = writers[args.format](args.bundle, args.output, trust=args.trust)
    print(f"written   {path}")
    if left_behind:
        print(f"note      {left_behind}")
