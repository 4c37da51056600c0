"""`unet-med predict`: images in, masks and instances out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med import bundle
from unet_med.bundle.trust import require_trust
from unet_med.cli.device import choose_device
from unet_med.cli.options import choice_of, refuse_without_effect
from unet_med.cli.output import check_folder

if TYPE_CHECKING:
    from unet_med.handlers.skipped_failures import Fault


def run(args: argparse.Namespace) -> int:
    """Segment images with a trained bundle and say where the results are.

    Returns:
        0, or 3 where some images were set aside.
    """
    folder = Path(args.bundle)
    if not args.trust:
        require_trust(folder)
    by_blocks = args.output.rstrip("/").lower().endswith((".zarr", ".tif", ".tiff"))
    refuse_without_effect(args, by_blocks=by_blocks)
    if by_blocks:
        from unet_med.cli import blocks

        blocks.run(args)
        return 0
    from unet_med.bundle import find_weights

    weights = find_weights(folder)
    images = _images(args.images)
    check_folder(args.output)
    settings: dict[str, Any] = {
        "images": [str(Path(path).absolute()) for path in images],
        "output_dir": str(Path(args.output).absolute()),
        "outputs": _outputs(args),
        "device": f"$torch.device('{choose_device(args.device)}')",
    }
    settings |= {f"reader::{name}": index for name, index in choice_of(args).items()}
    if args.tta:
        settings["tta"] = None if args.tta == "none" else args.tta
    if weights.suffix != ".pt":
        settings["checkpoint"] = str(weights.absolute())
    if args.fail_fast:
        settings["fail_fast"] = True
    print("the same with MONAI:\n  " + bundle.command_line(folder, "inference", settings))
    workflow = bundle.load_workflow(folder, "inference", settings, trust=args.trust)
    workflow.run()
    return _summarize(len(images), getattr(workflow.evaluator, "faults", []), args.output)


def _summarize(count: int, faults: Sequence[Fault], output: str) -> int:
    """Say what was segmented, and of what was set aside the reasons; return the exit code."""
    if not faults:
        print(f"{count} image(s) segmented, results in {output}")
        return 0
    print(f"{count - len(faults)} of {count} images segmented, results in {output}")
    print(f"{len(faults)} set aside (listed in {Path(output) / 'failed.json'}):", file=sys.stderr)
    for fault in faults:
        print(f"  {Path(fault.image).name}: {fault.reason}", file=sys.stderr)
    return 3


def _images(paths: list[str]) -> list[str]:
    """Files to segment; results are named after them, so no two may share a name."""
    from unet_med import data

    given: str | list[str] = paths[0] if len(paths) == 1 else paths  # one may be a data list
    if any(path.rstrip("/").endswith(".zarr") for path in paths):
        raise ValueError(
            "an OME-Zarr is segmented block by block: give --output NAME.ome.zarr or NAME.ome.tif"
        )
    images = [item["image"] for item in data.find_images(given)]
    stems = [data.stem(path) for path in images]
    for path, stem in zip(images, stems, strict=True):
        if stems.count(stem) > 1:
            raise ValueError(f"two images are named {stem}, one of them {path}: rename one")
    return images


def _outputs(args: argparse.Namespace) -> list[str]:
    wanted = {"instances": args.instances, "probabilities": args.probabilities}
    return ["mask", *(name for name, yes in wanted.items() if yes)]
