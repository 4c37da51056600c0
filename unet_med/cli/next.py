"""`unet-med next`: which images to annotate next, and why."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from unet_med import bundle
from unet_med.cli.options import choice_of
from unet_med.cli.output import check_file
from unet_med.cli.saying import LEFT, result, say, warn
from unet_med.data.cases import FIELDS, NAME, Files, files_of, names_apart, one_place, result_name
from unet_med.data.datalist import look_for_images
from unet_med.errors import one_line, user_error
from unet_med.segmentation import Segmenter
from unet_med.segmentation.next_image import Candidate, choose_next, look, unknown


def run(args: argparse.Namespace) -> int:
    """Segment the images that are not learned from yet, and print those to annotate.

    Returns:
        0, or 3 where some images were set aside.
    """
    if args.count < 1:  # before all are segmented
        raise ValueError(f"count {args.count}: choose 1 image or more")
    if args.report:
        check_file("--report", args.report)
    folder = bundle.find_trained(args.bundle)
    reading = {f"reader::{name}": value for name, value in choice_of(args).items()}
    opened = partial(Segmenter, folder, device=args.device, trust=args.trust, **reading)
    segmenter = opened()
    files = _images(args.images, segmenter, folder)
    candidates, faults = _look_at_all(segmenter, files)
    empty = sum(each.confidence is None for each in candidates)
    if empty:
        say(f"{empty} of {len(candidates)} images are passed over: nothing is found in them")
    choices = choose_next(candidates, args.count, rule=args.rule)
    for choice in choices:
        result(f"{files_of(files[choice.candidate.name])[0]}: {choice.reason}")
    if args.report and choices:
        chosen = [files[choice.candidate.name] for choice in choices]
        if (template := _template(chosen)) != NAME:
            segmenter = opened(result_name=template)
        result(f"pictures of them: {_report(segmenter, chosen, args.report)}")
    return _say_faults(faults)


def _images(given: Sequence[str], segmenter: Segmenter, folder: Path) -> dict[str, Files]:
    """Images that are not learned from yet, by names that tell them apart.

    Raises:
        ValueError: there are none.
    """
    images = given[0] if len(given) == 1 else given  # as predict takes them: one may be a list
    listed = look_for_images(images, segmenter.in_channels)
    for note in listed.notes:
        say(note)
    new = unknown(folder, [item["image"] for item in listed.items])
    if known := len(listed.items) - len(new):
        say(f"{known} of {len(listed.items)} images are passed over: they are learned from already")
    if not new:
        raise ValueError(f"all images of {' '.join(given)} are learned from already: give others")
    return dict(zip(names_apart(new), new, strict=True))


def _look_at_all(
    segmenter: Segmenter, files: Mapping[str, Files]
) -> tuple[list[Candidate], dict[str, str]]:
    """What the network says of each image, and why of those that it cannot look at.

    Raises:
        Exception: that of the first image, where there is no other.
    """
    candidates: list[Candidate] = []
    faults: dict[str, str] = {}
    first: Exception | None = None
    segmenter.require_confidence()
    for name, image in files.items():
        say(f"looking at {name}")
        try:
            candidates.append(look(segmenter, name, image))
        except Exception as error:
            if user_error(error) is None:
                raise
            faults[files_of(image)[0]] = one_line(error)
            first = first or error
    if first is not None and not candidates:
        raise first
    return candidates, faults


def _say_faults(faults: Mapping[str, str]) -> int:
    """Say which images were set aside, and why; the exit code."""
    if not faults:
        return 0
    warn(f"{len(faults)} set aside:")
    for name, reason in faults.items():
        warn(f"  {name}: {reason}")
    return LEFT


def _template(images: Sequence[Files]) -> str:
    """The shortest template by which each image has results of its own name.

    Raises:
        ValueError: there is none.
    """
    for depth in range(len(FIELDS)):
        fields = [*FIELDS[depth:0:-1], "stem"]  # the outer folder first
        template = "_".join(f"{{{field}}}" for field in fields)
        if len({one_place(result_name(image, template)) for image in images}) == len(images):
            return template
    raise ValueError(
        "two images and the folders above them have the same names, by which they would stand on "
        "the page: rename one, or leave out --report"
    )


def _report(segmenter: Segmenter, images: Sequence[Files], page: str) -> Path:
    """A page of the chosen images: outlines of what is found, and where that may be wrong."""
    from unet_med.report import html_report

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, segmenter.folder.name, "to annotate next")  # heads the page
        for image in images:
            found = segmenter(files_of(image))
            found.save(folder, ["mask", "instances", "uncertainty"])
        return html_report(folder, page, pictures=len(images))
