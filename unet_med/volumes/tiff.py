"""A TIFF as output: its blocks go to an OME-Zarr beside it, from which it is written at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_med.data.formats import TIFF, stem
from unet_med.data.tiled_tiff_writer import write_tiled_tiff
from unet_med.volumes.job import BlockJob
from unet_med.volumes.store import open_level


def tiff_of(output: str | Path) -> Path | None:
    """The TIFF of an output: itself if it is one by its name, else None."""
    return Path(output) if str(output).lower().endswith(TIFF.suffixes) else None


def store_of(output: str | Path) -> Path:
    """The OME-Zarr of an output: itself, or for a TIFF what lies beside it.

    >>> store_of("a/cells.ome.tif").as_posix()
    'a/cells.ome.zarr'
    """
    path = Path(output)
    return path.with_name(stem(path) + ".ome.zarr") if tiff_of(path) else path


def write_tiffs(
    job: BlockJob, output: Path, *, instances: int | None = None, progress: bool = False
) -> list[Path]:
    """Write what a job made as tiled OME-TIFF with halved copies.

    Args:
        job: all of whose blocks are done.
        output: file of the mask, such as `out.ome.tif` or `out_mask.ome.tif`; instances and
            probabilities go to `out_instances.ome.tif` and `out_probabilities.ome.tif`.
        instances: how many there are, which decides their samples' size.
        progress: whether to show bars.

    Returns:
        The files.
    """
    files = []
    for layer in job.layers:
        file = file_of(output, layer.name)
        small = instances is not None and instances <= np.iinfo(np.uint16).max
        write_tiled_tiff(
            file,
            open_level(job.output, layer),
            spacing=job.layout.spacing,
            unit=job.layout.unit,
            dtype="uint16" if layer.name == "instances" and small else layer.dtype,
            channel_names=job.names if layer.channels else (),
            progress=progress,
        )
        files.append(file)
    return files


def file_of(output: Path, layer: str) -> Path:
    """The TIFF of a layer, beside that of the mask.

    >>> file_of(Path("a_mask.ome.tif"), "instances").as_posix()
    'a_instances.ome.tif'
    """
    if layer == "mask":
        return output
    name = stem(output)
    suffix = output.name.removeprefix(name)
    return output.with_name(f"{name.removesuffix('_mask')}_{layer}{suffix}")
