"""`unet-med import-caffe`: a bundle of the weights that the paper's authors released."""

from __future__ import annotations

import argparse

from unet_med import bundle


def run(args: argparse.Namespace) -> None:
    """Read the weights, then write a bundle that predicts with them."""
    from unet_med.engines import save_atomically
    from unet_med.networks.caffe import load_caffemodel

    network = load_caffemodel(args.file)
    folder = bundle.copy_bundle(args.output)
    bundle.write_settings(folder, [], {"preset": "release2015", "tta": "flips"})
    save_atomically(network.state_dict(), folder / "models" / "model.pt")
    print(f"weights of the 2015 release in {folder}; use them with")
    print(f"  unet-med predict IMAGE --bundle {folder} --output RESULTS")
