"""`unet-med demo`: generated cells, a trained U-Net, an image and a volume segmented."""

from __future__ import annotations

import argparse

TRAIN_IMAGES = 16
TEST_IMAGES = 4
SETTINGS = {
    "label_kind": "instances",
    "preset": "modern",
    "features": [16, 32, 64, 128],
    "tiles_per_epoch": 40,
    "epochs": 100_000,
    "val_interval": 2,
}


def run(args: argparse.Namespace) -> None:
    """Generate, train, segment, score, and show."""
    print("not yet")
