"""`unet-med next`: which images to annotate next, and why."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from unet_med import bundle
from unet_med.cli.saying import result, say
from unet_med.data.cases import Files, files_of, result_name
from unet_med.data.datalist import look_for_images
from unet_med.segmentation import Segmenter
from unet_med.segmentation.next_image import Candidate, Choice, choose_next, look, unknown


def run(args: argparse.Namespace) -> None:
    """Segment the images that are not learned from yet, and print those to annotate."""
    if args.count < 1:  # before all are segmented
        raise ValueError(f"count {args.count}: choose 1 image or more")
    folder = bundle.find_trained(args.bundle)
    segmenter = Segmenter(folder, device=args.device, trust=args.trust)
    listed = look_for_images(args.images, segmenter.in_channels).items  # as predict takes them
    images = unknown(folder, [item["image"] for item in listed])
    if not images:
        raise ValueError(f"all images of {args.images} are learned from already: give others")
    files = {result_name(image): image for image in images}
    if len(files) < len(images):
        raise ValueError("two images have one name, by which they are listed: rename one")
    candidates = [_look(segmenter, name, image) for name, image in files.items()]
    empty = sum(each.confidence is None for each in candidates)
    if empty:
        say(f"{empty} of {len(candidates)} images are passed over: nothing is found in them")
    choices = choose_next(candidates, args.count, rule=args.rule)
    for choice in choices:
        result(f"{files_of(files[choice.candidate.name])[0]}: {choice.reason}")
    if args.report and choices:
        result(f"pictures of them: {_report(segmenter, files, choices, args.report)}")


def _look(segmenter: Segmenter, name: str, image: Files) -> Candidate:
    say(f"looking at {name}")
    return look(segmenter, name, image)


def _report(
    segmenter: Segmenter, files: dict[str, Files], choices: Sequence[Choice], page: str
) -> Path:
    """A page of the chosen images: outlines of what is found, and where that may be wrong."""
    from unet_med.report import html_report

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, segmenter.folder.name, "to annotate next")  # heads the page
        for choice in choices:
            found = segmenter(files_of(files[choice.candidate.name]))
            found.save(folder, ["mask", "instances", "uncertainty"])
        return html_report(folder, page, pictures=len(choices))
