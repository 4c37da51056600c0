"""`unet-med predict`: images in, masks and instances out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.cli.device import choose_device


def run(args: argparse.Namespace) -> None:
    """Segment images with a trained bundle and say where the results are."""
    if args.output.rstrip("/").endswith(".zarr"):
        from unet_med.cli import blocks

        return blocks.run(args)
    folder = Path(args.bundle)
    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        raise ValueError(f"{folder} holds no trained weights (models/model.pt): train it first")
    images = _images(args.images)
    settings: dict[str, Any] = {
        "images": [str(Path(path).absolute()) for path in images],
        "output_dir": str(Path(args.output).absolute()),
        "outputs": _outputs(args),
        "device": f"$torch.device('{choose_device(args.device)}')",
    }
    for option in ("series", "time", "channel"):
        if (index := getattr(args, option)) is not None:
            settings[f"reader::{option}"] = index
    if args.tta:
        settings["tta"] = None if args.tta == "none" else args.tta
    print("the same with MONAI:\n  " + bundle.command_line(folder, "inference", settings))
    bundle.load_workflow(folder, "inference", settings).run()
    print(f"{len(images)} image(s) segmented, results in {args.output}")


def _images(paths: list[str]) -> list[str]:
    """Files to segment; results are named after them, so no two may share a name."""
    from unet_med import data

    given: str | list[str] = paths[0] if len(paths) == 1 else paths  # one may be a data list
    if any(path.rstrip("/").endswith(".zarr") for path in paths):
        raise ValueError("an OME-Zarr is segmented block by block: give --output NAME.ome.zarr")
    images = [item["image"] for item in data.find_images(given)]
    stems = [data.stem(path) for path in images]
    for path, stem in zip(images, stems, strict=True):
        if stems.count(stem) > 1:
            raise ValueError(f"two images are named {stem}, one of them {path}: rename one")
    return images


def _outputs(args: argparse.Namespace) -> list[str]:
    wanted = {"instances": args.instances, "probabilities": args.probabilities}
    return ["mask", *(name for name, yes in wanted.items() if yes)]
