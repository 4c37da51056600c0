"""`unet-med export`: a trained bundle as PT2, ONNX, TorchScript or a BioImage Model Zoo package."""

from __future__ import annotations

import argparse

from unet_med import export
from unet_med.export.graphs import beside
from unet_med.export.trained import by_image


def run(args: argparse.Namespace) -> None:
    """Write the file, and say what it does not do as the bundle does."""
    writers = {
        "pt2": export.export_pt2,
        "torchscript": export.export_torchscript,
        "onnx": export.export_onnx,
        "bioimageio": export.export_bioimageio,
    }
    trained = export.load_trained(args.bundle, trust=args.trust)
    own = by_image(trained, args.statistics)
    path = writers[args.format](
        args.bundle, args.output, trust=args.trust, statistics=args.statistics
    )
    print(f"written   {path}")
    if own:
        print(f"written   {beside(path, 'statistics')}")
    if left_behind := trained.left_behind(by_image=own):
        print(f"note      {left_behind}")
