"""`unet-med doctor`: what is installed here, and what the machine offers."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Iterator

from unet_med import __version__
from unet_med.bundle import model_names
from unet_med.cli.extras import EXTRAS, install_line, missing
from unet_med.data.formats import version_of

SHARED = "/dev/shm"  # through which processes hand tiles over, on Linux
LEAST_SHARED = 1 << 30  # bytes; Docker gives 64 MB, less than 16 processes hold of large tiles

PACKAGES = (
    *("torch", "monai", "numpy", "scipy", "scikit-image", "nibabel", "SimpleITK", "tifffile"),
    *("imagecodecs", "pytorch-ignite"),
)


def run(args: argparse.Namespace) -> None:
    """Print versions, machine and optional features, for oneself or for a report of a defect."""
    print(f"unet-med  {__version__}")
    print(f"Python    {platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        print(f"{name:<15} {version_of(name) or 'not installed: pip install unet-med'}")
    for line in (*_machine(), *_models(), *_features()):
        print(line)


def _machine() -> Iterator[str]:
    import torch

    from unet_med.data.protection import byte_budget
    from unet_med.devices import built_for, choose, cores, loader_workers, seen
    from unet_med.memory import available_bytes

    yield from seen()
    choice = choose()
    yield f"device    {choice.device}: {choice.reason} ({built_for()})"
    yield f"threads   {torch.get_num_threads()} of {cores()} cores"
    free, most = (size / 1e9 for size in (available_bytes(), byte_budget()))
    yield f"memory    {free:.1f} GB free; images up to {most:.1f} GB"
    yield from _too_little_shared(loader_workers(choice.device))


def _too_little_shared(workers: int) -> Iterator[str]:
    """A line where memory that processes share is less than those that load tiles may need."""
    if not workers or not os.path.isdir(SHARED):
        return
    if (size := shutil.disk_usage(SHARED).total) < LEAST_SHARED:
        yield (
            f"shared    {size / 1e6:.0f} MB in {SHARED} are little for the {workers} processes "
            "that make tiles for a GPU: start the container with --ipc=host or --shm-size=8g, or "
            'train with --config FILE that says {"num_workers": 0}'
        )


def _models() -> Iterator[str]:
    names = ", ".join(model_names()) or "none comes with this installation"
    yield f"models    {names} (predict --bundle, train --from)"


def _features() -> Iterator[str]:
    for extra, (modules, purpose) in EXTRAS.items():
        lacking = missing(extra)
        there = f"no; {install_line(extra)}" if lacking else f"yes ({', '.join(modules)})"
        yield f"{extra:<11} {purpose}: {there}"
