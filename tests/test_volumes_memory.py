"""Memory of a worker does not grow with the volume; the full size is in benchmarks/volumes.py."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

SMALL, LARGE = 2, 16  # planes of 8.4 MB


def source_of(path: Path, planes: int, channels: int, side: int, dtype: str) -> Any:
    """An OME-Zarr of so many planes, of noise where they are floats, else of no chunk at all."""
    import numpy as np
    import zarr

    group = zarr.create_group(path, zarr_format=3)
    shape = (channels, planes, side, side)
    chunks = (1, 1, 256, 256)
    array = group.create_array("0", shape=shape, chunks=chunks, dtype=dtype, compressors=None)
    if dtype == "float64":
        noise = np.random.default_rng(0).integers(0, 255, (channels, side, side))
        for z in range(planes):
            array[:, z] = noise
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
    scale = {"type": "scale", "scale": [1.0] * 4}
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return array


def peak() -> int:
    """Of this process so far, KiB, by the operating system's own accounting."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def work(folder: Path, planes: int) -> None:
    from test_volumes import make_bundle

    from unet_med.volumes import BlockJob, run_blocks

    folder.mkdir()
    choices = {"features": [2, 2], "in_channels": 16, "tta": None, "statistics": None}
    bundle = make_bundle(folder / "bundle", **choices)
    source_of(folder / "in.ome.zarr", planes, 16, 256, "float64")
    job = BlockJob.create(
        folder / "in.ome.zarr", folder / "out.ome.zarr", bundle, block=(1, 256, 256)
    )
    assert run_blocks(job, progress=False) == planes


def write(folder: Path, planes: int) -> None:
    from unet_med.data import tiled_tiff_writer

    tiled_tiff_writer._WINDOW = 2**21  # of the same share of these volumes as of large ones
    array = source_of(folder / "pixels.ome.zarr", planes, 2, 2050, "uint8")
    spacing = (1.0, 1.0, 1.0)
    tiled_tiff_writer.write_tiled_tiff(folder / "a.ome.tif", array, spacing=spacing, unit=None)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for step in (work, write):
            for planes in (SMALL, LARGE):
                step(Path(name) / str(planes), planes)
                print(peak())


@pytest.mark.long
def test_the_peak_does_not_grow_with_the_volume() -> None:
    """Both sizes in one process, so the peak of the larger is at least that of the smaller."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", __file__], capture_output=True, text=True, timeout=280
    )
    assert found.returncode == 0, found.stderr
    small, large, *written = map(int, found.stdout.split())
    assert large <= 1.1 * small, f"{small} KiB for {SMALL} planes, {large} for {LARGE}"
    assert written[1] <= 1.1 * written[0], f"{written[0]} KiB, and {written[1]} for {LARGE} planes"


if __name__ == "__main__":
    main()
