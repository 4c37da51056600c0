"""`unet-med predict`: images in, masks and instances out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.cli.device import choose_device


def run(args: argparse.Namespace) -> None:
    """Segment images with a trained bundle and say where the results are."""
    from unet_med import data

    folder = Path(args.bundle)
    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        raise ValueError(f"{folder} holds no trained weights (models/model.pt): train it first")
    images = [item["image"] for item in data.find_images(args.images)]
    settings: dict[str, Any] = {
        "images": [str(Path(path).absolute()) for path in images],
        "output_dir": str(Path(args.output).absolute()),
        "outputs": _outputs(args),
        "device": f"$torch.device('{choose_device(args.device)}')",
    }
    if args.tta:
        settings["tta"] = None if args.tta == "none" else args.tta
    print("the same with MONAI:\n  " + bundle.command_line(folder, "inference", settings))
    bundle.load_workflow(folder, "inference", settings).run()
    print(f"{len(images)} image(s) segmented, results in {args.output}")


def _outputs(args: argparse.Namespace) -> list[str]:
    wanted = {"instances": args.instances, "probabilities": args.probabilities}
    return ["mask", *(name for name, yes in wanted.items() if yes)]
