"""Outlines of the instances of a finished job, read block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.auto_reader import AutoReader
from unet_med.data.formats import stem
from unet_med.data.outlines import outlines
from unet_med.data.roi_writer import RoiWriter
from unet_med.data.tally import Tally
from unet_med.volumes.blocks import split
from unet_med.volumes.job import BlockJob


def write_rois(job: BlockJob, count: int, output: Path) -> list[Path]:
    """Write the outlines of all instances, for Fiji and for QuPath.

    Objects have a score where the job keeps the probabilities. Outlines are made of as many planes
    at a time as the output stores together.

    Args:
        job: whose instances are numbered.
        count: of the instances.
        output: the OME-Zarr or TIFF after which the files are named.

    Returns:
        The files.
    """
    labels = job.pixels("instances")
    tally = Tally(count, len(job.names))
    for block in job.blocks:
        part = np.asarray(labels[block.slices])
        if part.any():
            _count(tally, part, job, block.slices)
    name = stem(output).removesuffix("_mask") + "_rois"
    writer = RoiWriter(len(job.names), job.names[1:], job.values, AutoReader(**job.choice))
    sides = (*labels.chunks[:-2], *job.layout.block[-2:])
    found = outlines(labels, [block.slices for block in split(labels.shape, sides)])
    return writer.write(output.with_name(name), found, tally.found(), channels=job.channels)


def _count(tally: Tally, part: Any, job: BlockJob, window: tuple[slice, ...]) -> None:
    """Count a block, by its probabilities where they were kept, else by its mask."""
    if (scores := job.pixels("probabilities")) is not None:
        tally.add_probabilities(part, np.asarray(scores[(..., *window)]))
        return
    values = np.asarray(job.pixels("mask")[window])
    order = np.argsort(job.values)
    tally.add_classes(part, order[np.searchsorted(np.asarray(job.values)[order], values)])
