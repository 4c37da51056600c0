"""`unet-med init`: a writable bundle for people who installed a wheel."""

from __future__ import annotations

import argparse

from unet_med import bundle


def run(args: argparse.Namespace) -> None:
    """Copy the bundle and say how to run it."""
    folder = bundle.copy_bundle(args.destination)
    print(f"A bundle in {folder}. Train it with")
    settings = {"images": "IMAGES", "labels": "LABELS"}
    print("  " + bundle.command_line(folder, "train", settings))
