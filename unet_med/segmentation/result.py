"""What a segmenter finds in an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from unet_med.data.entries import NOTES
from unet_med.data.formats import format_at
from unet_med.segmentation.arrays import to_axes
from unet_med.transforms.confidence import CONFIDENCE
from unet_med.transforms.lengths import pixels_along

if TYPE_CHECKING:
    from unet_med.segmentation.segmenter import Segmenter

Array = NDArray[Any]


class Segmentation:
    """The result of an image; what is not asked for is not computed.

    Attributes:
        axes: letters of the axes of `mask` and `instances`: the caller's; of a file, its own
            order: Z, Y, X of microscopy formats, X, Y, Z of medical ones.
    """

    def __init__(self, segmenter: Segmenter, item: dict[str, Any], axes: str | None) -> None:
        self._segmenter = segmenter
        self._item = item
        self._axes = axes or _axes_of_file(item["image"])
        self.axes = self._axes.replace("C", "")
        self._found: dict[str, tuple[Any, Any]] = {}

    @cached_property
    def mask(self) -> Array:
        """Class of every pixel, 0 is background."""
        return self._labels("mask")

    @cached_property
    def instances(self) -> Array:
        """Number of the object of every pixel, 0 is background."""
        return self._labels("instances")

    @cached_property
    def probabilities(self) -> Array:
        """Probability of every class, where the caller's image has its channels, else first."""
        return to_axes(self._finished("probabilities")[0], self._axes)

    @cached_property
    def uncertainty(self) -> Array:
        """Chance that the class of a pixel is wrong, by calibrated probabilities."""
        found = to_axes(self._finished("uncertainty")[0], self._axes)
        return np.take(found, 0, axis=max(0, self._axes.find("C")))

    @cached_property
    def confidence(self) -> float | None:
        """How sure the prediction is, 0 to 1; None: nothing is found, or it is an old bundle."""
        _, found = self._finished("mask")
        return None if found is None else float(found)

    @property
    def notes(self) -> str:
        """How the image is unlike those of the training, as `unet-med predict` says; or empty."""
        return "; ".join(getattr(self._item["image"], "meta", {}).get(NOTES, "").splitlines())

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many of the image's pixels one that the network sees is long, along X, Y, Z."""
        own, seen = self._finished("probabilities")[0], self._item["image"]
        if not (isinstance(own, MetaTensor) and isinstance(seen, MetaTensor)):
            return (1.0,) * (own.ndim - 1)
        return tuple(pixels_along(seen.affine, own.affine, own.ndim - 1))

    def save(self, folder: str | Path, outputs: Sequence[str] | None = None) -> None:
        """Write what `unet-med predict` writes, under the name of the image.

        A file's image is written down in `record.json` of the folder, as there.

        Args:
            folder: for `NAME_mask.tif` and so on; made if missing. An array's name is `image`:
                give each a folder of its own. Saved again, by a script that runs anew with the
                same weights and settings, its results replace themselves.
            outputs: of `mask`, `instances`, `probabilities`, `uncertainty`, `seg` (DICOM SEG) and
                `rois` (outlines for Fiji and QuPath); None: as the bundle says.

        Raises:
            ValueError: the folder holds results of another image of the same name, or of another
                array, or of this one by other weights or settings.
        """
        self._segmenter.finish(self._item, outputs or self._segmenter.outputs, folder)

    def _labels(self, name: str) -> Array:
        found = to_axes(self._finished(name)[0], self._axes)
        return np.take(found, 0, axis=max(0, self._axes.find("C"))).astype(np.int32)

    def _finished(self, name: str) -> tuple[Any, Any]:
        """An output, and how sure the prediction is; the image is postprocessed for it once."""
        if name not in self._found:
            item = self._segmenter.finish(self._item, [name])
            self._found[name] = item[name], item["image"].meta.get(CONFIDENCE)
        return self._found[name]


def _axes_of_file(image: Any) -> str:
    order = "XYZ"[: image.ndim - 1]
    found = format_at(str(image.meta["filename_or_obj"]))
    return order[::-1] if found and found.result_suffix == ".tif" else order
