"""What later images are compared with: how large, where and how bright those of a training are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unet_med.bundle.literals import itself
from unet_med.data.channels import words_apart
from unet_med.planning.fingerprints import Case, FileFacts, Fingerprint
from unet_med.planning.plan import Decision


def decide_trained_on(found: Fingerprint) -> Decision:
    """The id `trained_on`: plain values, which `unet_med.transforms.CompareWithTrainingd` reads.

    `pixel_size` has the smallest and the largest size along each axis, in `unit`, over the files
    that state one; `channels` the names in a file that has some, or in the names of files that are
    channels; `intensities` the percentiles of
    `planning.fingerprints` and `skews` the least and the largest skew (`data.grey_values`) of each
    channel.
    """
    images = [case.image for case in found.cases]
    value = {
        "axes": sorted({len(image.shape) for image in images}),
        "dtypes": sorted({image.dtype for image in images}),
        **_sizes(images),
        "orientations": sorted({image.orientation for image in images if image.orientation}),
        "channels": _channels(found.cases),
        "intensities": [list(channel) for channel in found.intensities],
        "skews": [list(channel) for channel in found.skews],
    }
    return Decision(value, "of the files; an image far from it is said at prediction")


def _channels(cases: Sequence[Case]) -> list[str]:
    """Names of the channels, as MONAI's parser hands them on: a file may be a stranger's."""
    stated = (case.image.channel_names for case in cases)
    found = (*filter(None, stated), *(words_apart(case.files) for case in cases[:1]))
    return [itself(name) for name in next(iter(found), ())]


def _sizes(images: list[FileFacts]) -> dict[str, Any]:
    """Range of the pixel sizes along each axis, in the unit of most files that state one."""
    stated = [image for image in images if image.states_size]
    units = [image.unit for image in stated]
    unit = max(set(units), key=units.count, default=None)
    sizes = [image.pixel_size for image in stated if image.unit == unit]
    if not sizes:
        return {"unit": None, "pixel_size": None}
    axes = max(map(len, sizes))
    rows = zip(*(size for size in sizes if len(size) == axes), strict=True)
    return {"unit": unit, "pixel_size": [[min(row), max(row)] for row in rows]}
