"""`unet-med next`: which images to annotate next, and why."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.cli.saying import result, say
from unet_med.data import load_image
from unet_med.data.cases import Files, files_of, result_name
from unet_med.data.checksum import sha256
from unet_med.data.datalist import look_for_images
from unet_med.segmentation import Segmenter
from unet_med.segmentation.next_image import Candidate, Choice, choose_next, looks_like


def run(args: argparse.Namespace) -> None:
    """Segment the images that are not learned from yet, and print those to annotate."""
    if args.count < 1:  # before all are segmented
        raise ValueError(f"count {args.count}: choose 1 image or more")
    folder = bundle.find_trained(args.bundle)
    segmenter = Segmenter(folder, device=args.device, trust=args.trust)
    images = unknown(folder, [item["image"] for item in look_for_images(args.images).items])
    if not images:
        raise ValueError(f"all images of {args.images} are learned from already: give others")
    files = {result_name(image): image for image in images}
    if len(files) < len(images):
        raise ValueError("two images have one name, by which they are listed: rename one")
    candidates = list(looked_at(segmenter, files))
    empty = sum(each.confidence is None for each in candidates)
    if empty:
        say(f"{empty} of {len(candidates)} images are passed over: nothing is found in them")
    choices = choose_next(candidates, args.count)
    for choice in choices:
        result(f"{files_of(files[choice.candidate.name])[0]}: {choice.reason}")
    if args.report and choices:
        result(f"pictures of them: {_report(segmenter, files, choices, args.report)}")


def unknown(folder: Path, images: Sequence[Files]) -> list[Files]:
    """Images that a bundle's plan does not have, nor replays, by their content."""
    plan = bundle.read_plan(folder)
    known = {case["image"]["sha256"] for case in plan.get("data", {}).get("cases", [])}
    known |= {entry["sha256"]["image"] for entry in plan.get("replay", [])}
    return [image for image in images if sha256(files_of(image)) not in known]


def looked_at(segmenter: Segmenter, files: dict[str, Files]) -> Iterator[Candidate]:
    """How sure the network is of each image, and what it looks like.

    Raises:
        ValueError: the bundle was made by an earlier version, which does not say how sure it is.
    """
    segmenter.require_confidence()
    for name, image in files.items():
        say(f"looking at {name}")
        found = segmenter(files_of(image))
        grey: Any = load_image(files_of(image), **segmenter.choice).numpy()
        yield Candidate(name, found.confidence, looks_like(grey, found.mask))


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
