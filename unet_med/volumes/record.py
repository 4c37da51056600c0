"""What `record.json` says of a finished job: what it says of an image that was segmented whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet_med.bundle import inference_parser, load_config, require_trust
from unet_med.bundle.literals import itself
from unet_med.data.cases import NAME, as_template, is_portable
from unet_med.data.checksum import sha256
from unet_med.data.entries import DIGESTS, NOTES, WRITTEN
from unet_med.data.formats import stem
from unet_med.data.sources import open_source
from unet_med.inferers.agreement import agreement
from unet_med.segmentation.arrays import without_pixels
from unet_med.transforms.confidence import CONFIDENCE, confidence, dice_of, rounded
from unet_med.volumes.identity import weights_of
from unet_med.volumes.job import BlockJob
from unet_med.volumes.tiff import file_of, tiff_of

BLOCKS = 16  # that are looked at for the width of objects
_PLACES = {"instances": "labels/instances", "probabilities": "0", "uncertainty": "uncertainty"}


def note_result(job: BlockJob, output: Path, files: Sequence[Path] = ()) -> None:
    """Add the image to `record.json` beside its result, with its confidence.

    The source is read once more, for its SHA-256, and so are the files of the result. An OME-Zarr
    has none: it is a folder of as many files as it has shards, of which each block's marker has a
    checksum, and `job verify` compares them. Nothing is noted where it or the bundle is no
    longer where the job found it, or where the bundle is of a version without this.

    Args:
        job: all of whose blocks are done.
        output: the OME-Zarr or TIFF after which the image is named.
        files: of the result, beside the OME-Zarr.

    Raises:
        ValueError: the bundle names what unet-med's own does not, and the job is not to run that.
    """
    if not job.source.exists():
        return
    if not job.trust:
        require_trust(job.bundle)
    keeper = _keeper(output, job.bundle, job.ids, torch.device(job.device))
    if keeper is None:
        return
    image = without_pixels(open_source(job.source, **job.choice))
    said = [text for name, text in job.statistics.items() if name.endswith(f".{NOTES}")]
    image.meta |= {NOTES: "\n".join(np.concatenate(said))} if said else {}
    _look_at_widths(job, keeper.widths)
    keeper.widths.say()
    notes = job.markers.all()  # a file a block
    image.meta |= {**_confidence(notes), WRITTEN: job.outputs}
    image.meta |= {DIGESTS: {file.name: sha256(file) for file in files}} if files else {}
    keeper.note(image, job.device, sum(note["seconds"] for note in notes))


def _look_at_widths(job: BlockJob, widths: Any) -> None:
    """Let `unet_med.report`'s `FoundWidths` look at the objects of a few blocks."""
    instances = job.pixels("instances")
    if instances is None:
        return
    for block in job.blocks[:: -(-len(job.blocks) // BLOCKS)]:
        *stack, rows, columns = block.slices
        place = (*(slice(z.start, z.start + 1) for z in stack), rows, columns)  # a plane tells it
        widths.look(np.asarray(instances[place]).T)


def is_recorded(
    source: str | Path,
    output: Path,
    bundle: Path,
    *,
    outputs: Sequence[str],
    settings: Mapping[str, Any],
    device: torch.device,
) -> bool:
    """Whether `record.json` says that what is there was made so, by the SHA-256 of all that did."""
    if not all(_is_there(output, each) for each in outputs):
        return False
    keeper = _keeper(output, bundle, settings, device)
    inside = () if tiff_of(output) else _PLACES  # what is no file of its own, to be found by name
    wanted = [each for each in outputs if each not in inside]
    return keeper is not None and not keeper.unfinished([{"image": str(source)}], wanted)


def _keeper(output: Path, bundle: Path, settings: Mapping[str, Any], device: torch.device) -> Any:
    """What keeps the record of an output; None: a bundle of a version without this, or no more."""
    config = bundle / "configs" / "inference.json"
    own = stem(output)
    name = own.removesuffix("_mask")
    ids = {
        "output_dir": output.parent,
        "result_name": itself(as_template(name)) if is_portable(name) else NAME,
        "result_file": None if own.endswith("_mask") else output,
    }
    if not config.is_file() or not {"record", *ids} <= load_config(config).keys():
        return None
    run = {**settings, "checkpoint": weights_of(bundle, settings), "device": device}
    return inference_parser(bundle, {**run, **ids}).get_parsed_content("record")


def _is_there(output: Path, part: str) -> bool:
    """Whether a part of a result is: a TIFF, what lies in an OME-Zarr, or outlines."""
    if part == "rois":
        name = escape(stem(output).removesuffix("_mask"))
        return any(output.parent.glob(f"{name}_rois.*"))
    place = file_of(output, part) if tiff_of(output) else output / _PLACES.get(part, "")
    return place.exists()


def _confidence(notes: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """How sure the bundle is of the image: the blocks' sums, added up.

    Returns:
        The entry `confidence`, None where nothing is found; none of a bundle that does not say it.
    """
    if not all(note.get("dice") for note in notes):
        return {}
    dice = [note["dice"] for note in notes]
    views = [note["views"] for note in notes]
    agreed = None if None in views else float(agreement(torch.tensor(views), 1))
    expected = dice_of(np.sum(dice, axis=0).tolist())
    return {CONFIDENCE: rounded(confidence(expected, agreed))}
