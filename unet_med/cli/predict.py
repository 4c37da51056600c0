"""`unet-med predict`: images in, masks and instances out."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_med import bundle
from unet_med.bundle.trust import require_trust
from unet_med.cli.device import choose_device
from unet_med.cli.options import choice_of, refuse_without_effect
from unet_med.cli.output import check_folder
from unet_med.cli.shard import images_of, shard_of
from unet_med.data.cases import Files, case_name, files_of, same_name, shown
from unet_med.data.datalist import look_for_images
from unet_med.data.formats import OME_ZARR, TIFF, format_of

BYTES_A_PIXEL = 32  # of a whole image: as read, standardised, logits, probabilities, labels

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
    shard = shard_of(args.shard)
    whole, in_blocks = split_by_size(args)
    refuse_without_effect(args, by_blocks=bool(in_blocks))
    options = vars(args)
    if not _is_file(args.output):  # a shard is one of images
        mine = images_of(shard, [*whole, *(image for image, _ in in_blocks)])
        whole = [image for image in whole if image in mine]
        in_blocks = [pair for pair in in_blocks if pair[0] in mine]
        options = {**options, "shard": None}
        if not mine:
            print(f"no image is left for --shard {args.shard}")
    for image, output in in_blocks:
        from unet_med.cli import blocks

        blocks.run(argparse.Namespace(**{**options, "images": [image], "output": output}))
    return _whole(args, folder, whole) if whole else 0


def split_by_size(args: argparse.Namespace) -> tuple[list[Files], list[tuple[str, str]]]:
    """Which images are segmented whole, and which block by block, each with its output.

    Block by block go: the image of an output that is a file or an OME-Zarr; every OME-Zarr; and
    a TIFF that takes more than half of the free memory.

    Args:
        args: of the command line.

    Raises:
        ValueError: several images for one file, or two of one name.
    """
    if _is_file(args.output):
        if len(args.images) != 1:
            raise ValueError(f"{len(args.images)} images given; {args.output} is made of one")
        return [], [(args.images[0], args.output)]
    images = _images(args.images, Path(args.bundle))
    single = [path for path in images if isinstance(path, str)]
    large = [path for path in single if _is_zarr(path) or _is_large(path)]
    names = {path: case_name(path) + "_mask" for path in large}
    suffixes = {path: ".ome.zarr" if _is_zarr(path) else ".tif" for path in large}
    outputs = [str(Path(args.output) / f"{names[path]}{suffixes[path]}") for path in large]
    return [path for path in images if path not in large], list(zip(large, outputs, strict=True))


def _whole(args: argparse.Namespace, folder: Path, images: list[Files]) -> int:
    """Segment images that fit into memory, with MONAI's evaluator."""
    weights = bundle.find_weights(folder)
    check_folder(args.output)
    settings: dict[str, Any] = {
        "images": [_absolute(image) for image in images],
        "output_dir": Path(args.output).absolute(),
        "outputs": _outputs(args),
        "device": f"$torch.device('{choose_device(args.device)}')",
    }
    settings |= {f"reader::{name}": index for name, index in choice_of(args).items()}
    if args.tta:
        settings["tta"] = None if args.tta == "none" else args.tta
    if weights.suffix != ".pt":
        settings["checkpoint"] = weights.absolute()
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


def _absolute(image: Files) -> Files:
    files = [str(Path(file).absolute()) for file in files_of(image)]
    return files[0] if isinstance(image, str) else files


def _images(paths: list[str], bundle: Path) -> list[Files]:
    """Files to segment; results are named after them, so no two may share a name."""
    volumes = [path.rstrip("/") for path in paths if _is_zarr(path)]
    others = [path for path in paths if not _is_zarr(path)]
    images: list[Files] = list(volumes)
    if others:  # one may be a data list
        found = look_for_images(others[0] if len(others) == 1 else others, _channels(bundle))
        for note in found.notes:
            print(note)
        images += [item["image"] for item in found.items]
    names = Counter(same_name(case_name(image)) for image in images)
    for image in images:
        if names[name := same_name(case_name(image))] > 1:
            raise ValueError(f"two images are named {name}, one of them {shown(image)}: rename one")
    return images


def _channels(folder: Path) -> int:
    """How many the network of a bundle takes; 1 where it does not say so plainly."""
    path = folder / "configs" / "inference.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = content.get("in_channels")
    return found if isinstance(found, int) else 1


def _is_file(output: str) -> bool:
    """Whether an output is one result, not a folder of results."""
    return output.rstrip("/").lower().endswith((".zarr", ".tif", ".tiff"))


def _is_zarr(path: str) -> bool:
    return format_of(path.rstrip("/")) is OME_ZARR


def _is_large(path: str) -> bool:
    """Whether a TIFF would take more than half of the free memory; reads its header."""
    if format_of(path) is not TIFF or find_spec("zarr") is None:
        return False
    from unet_med.data import load_header
    from unet_med.memory import available_bytes

    try:
        header = load_header(path)
    except (OSError, ValueError):
        return False  # it is set aside with its reason, where all images are read
    return header.array.size * BYTES_A_PIXEL > available_bytes() / 2


def _outputs(args: argparse.Namespace) -> list[str]:
    wanted = {"instances": args.instances, "probabilities": args.probabilities}
    return ["mask", *(name for name, yes in wanted.items() if yes)]
