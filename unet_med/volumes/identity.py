"""What decides the result of a job, as hashes: whoever resumes with anything else is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_med.bundle import find_weights
from unet_med.data.checksum import sha256, sha256_of_values
from unet_med.data.sources import DiskImage
from unet_med.segmentation.volume import Found

if TYPE_CHECKING:
    from unet_med.volumes.job import BlockJob


_CONFIGS = ("inference", "metadata", "plan")


def parts_of(job: BlockJob, image: DiskImage, statistics: Found) -> dict[str, str]:
    """Hash of each thing that decides the result, by its name in a message.

    Args:
        job: its bundle is read where it lies now.
        image: the source, opened.
        statistics: what the first pass found.
    """
    configs = [job.bundle / "configs" / f"{name}.json" for name in _CONFIGS]
    configs = [path for path in configs if path.is_file()]  # a bundle may have no plan
    return {
        "weights": sha256(weights_of(job.bundle, job.ids)),
        "configs": sha256_of_values([[sha256(file) for file in configs], job.settings]),
        "source": sha256_of_values([image.identity, image.shape, image.channels, str(image.dtype)]),
        "statistics": _digest(statistics),
        "grid": sha256_of_values(
            [asdict(job.layout), job.tile, job.outputs, job.device, job.threads]
        ),
        "version of a package": sha256_of_values(_versions()),
    }


def id_of(parts: Mapping[str, str]) -> str:
    """Id of the job with these parts."""
    return sha256_of_values(parts)[:16]


def weights_of(bundle: Path, settings: Mapping[str, Any]) -> Path:
    """Weights of a bundle, or those that settings name."""
    return Path(settings["checkpoint"]) if "checkpoint" in settings else find_weights(bundle)


def relative_settings(bundle: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which weights of the bundle have no place but that, so that it may move."""
    weights = Path(settings.get("checkpoint", ""))
    if not weights.is_absolute() or not weights.is_relative_to(bundle):
        return dict(settings)
    return {**settings, "checkpoint": weights.relative_to(bundle).as_posix()}


def _digest(statistics: Found) -> str:
    """Hash of the numbers, whatever their file says besides."""
    digest = hashlib.sha256()
    for name in sorted(statistics):
        digest.update(name.encode() + np.ascontiguousarray(statistics[name]).tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    import monai
    import numpy
    import torch

    import unet_med

    return {package.__name__: package.__version__ for package in (monai, numpy, torch, unet_med)}
