"""`unet-med labels`: label images of outlines and of DICOM SEG."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from unet_med.cli.options import choice_of
from unet_med.cli.output import check_folder
from unet_med.cli.saying import LEFT, result, say, warn
from unet_med.data.annotations import Annotated, annotated
from unet_med.errors import befalls_all, one_line, user_error


def run(args: argparse.Namespace) -> int:
    """Write a label for each image that has an annotation, and say how to train on them.

    Returns:
        0, or 3 where some images were set aside.

    Raises:
        Exception: that of the first image, where no label was written.
    """
    check_folder(args.output)
    places = Path(args.annotations), Path(args.images)
    found = annotated(*places, args.segments or (), choice_of(args))
    names = [name for name in found.files if args.empty or name in found.annotations]
    if left := [name for name in found.files if name not in names]:
        say(f"{len(left)} image(s) have no annotation, and get no label, such as {left[0]}")
    faults = _write_all(found, names, Path(args.output))
    if len(faults) == len(names):
        raise next(iter(faults.values()))
    say(f"train on them: {_next(args, list(found.classes.values()))}")
    for name, fault in faults.items():
        warn(f"set aside: {name}: {one_line(fault)}")
    return LEFT if faults else 0


def _write_all(found: Annotated, names: Sequence[str], folder: Path) -> dict[str, Exception]:
    """Write a label an image; why of those that have none."""
    faults: dict[str, Exception] = {}
    for name in names:
        try:
            result(found.write(name, folder))
        except Exception as error:
            if user_error(error) is None or befalls_all(error):
                raise
            faults[name] = error
    return faults


def _next(args: argparse.Namespace, classes: Sequence[str]) -> str:
    words = ["unet-med", "train", "--images", args.images, "--labels", args.output, "--label-kind"]
    words += ["classes", "--class-names", *classes] if classes else ["instances"]
    return shlex.join([*words, "--output", "my-bundle"])
