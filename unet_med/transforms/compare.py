"""Say where an image is far from those that a network was trained on."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms import MapTransform

from unet_med.data.array_writer import known_unit
from unet_med.data.channels import in_another_order, in_other_places, words_apart
from unet_med.data.entries import CHANNEL_NAMES, NOTES
from unet_med.data.grey_values import ends_of, sample_of, skew_of
from unet_med.data.grids import ORIENTED
from unet_med.data.pixel_size import MICROMETRES, in_words, source_of
from unet_med.data.plane_kind import planes_stated
from unet_med.planes import APART, JOINED, Planes
from unet_med.transforms.check import name_of
from unet_med.transforms.standardize import Scale, about_ruled
from unet_med.transforms.tensors import noted
from unet_med.transforms.windowed import Box, Found, Windowed

RATIO = 1.5  # of pixel sizes: less is within what augmentation and biology vary by
SKEW = 0.5  # beyond the range of the training, on the other side of 0: see `data.grey_values`
SLICES = "slice by slice"
OBJECTS = {
    APART: "each is an image with objects of its own (--planes joined: one volume)",
    JOINED: "objects go through planes (--planes apart: images of their own)",
}
SAID = 5  # images of a run that are said by name
BOXES = 8  # of a large image that are looked at

_log = logging.getLogger(__name__)


class CompareWithTrainingd(MapTransform):
    """Say in one line where an image is far from those of the training; nothing is refused.

    The line goes to the log, as a warning, and into the image's metadata, from where
    `record.json` has it. 8 or 16 bits, brightness and contrast make no difference to networks
    whose images are standardised, and are not said; of CT, which has one scale, they are.

    Args:
        keys: images, `(C, *S)`.
        trained_on: of a plan; see `unet_med.planning.training_facts`. None: nothing is compared.
        spatial_dims: of the network; a 2-D one takes volumes slice by slice, which is said once.
        element_size: where images are brought to one, their own pixel size makes no difference.
        intensity: as of `Standardize`. Values of a fixed scale are compared with the training's;
            where a channel has its own mean and deviation, a few pixels that rule these are said.
        planes: as of `InstancesFromLogits`; what becomes of the volume's objects is said with it.
        allow_missing_keys: no error when a key is absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        trained_on: Mapping[str, Any] | None = None,
        spatial_dims: int | None = None,
        *,
        element_size: object = None,
        intensity: Sequence[Scale] | None = None,
        planes: Planes | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.trained_on = dict(trained_on or {})
        self.spatial_dims = spatial_dims
        self.element_size = element_size
        self.intensity = list(intensity or ())
        self.planes = planes
        self._far = 0
        self._said_slices = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item; its image has `notes` in its metadata, one a line."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._noted(d[key], str(key))
        return d

    def _noted(self, image: torch.Tensor, key: str) -> torch.Tensor:
        meta = getattr(image, "meta", {})
        pixels = torch.as_tensor(image).detach().cpu().numpy()
        samples = [sample_of(channel) for channel in pixels] if self.trained_on else []
        affine = np.asarray(getattr(image, "affine", np.eye(4)))
        notes = self._notes(affine, meta, image.shape[1:], samples)
        notes += self._about_extremes(pixels) if self.trained_on else []
        self._say(notes, name_of(image, key))
        if not isinstance(image, MetaTensor):
            return image
        return noted(image, NOTES, "\n".join(notes))

    def first_pass(self, image: Windowed, boxes: Iterable[Box]) -> dict[str, np.ndarray]:
        """Compare an image that is never in memory as a whole: a few of its boxes.

        Returns:
            `notes`, one an entry.
        """
        places = list(boxes)
        places = places[:: max(1, len(places) // BOXES)] if self.trained_on else []
        parts = [[sample_of(c) for c in image.read(box).numpy()] for box in places]
        samples = [np.concatenate(channel) for channel in zip(*parts, strict=True)]
        notes = self._notes(image.affine.numpy(), image.meta, image.shape, samples)
        self._say(notes, name_of(image, "image"))
        return {NOTES: np.array(notes, dtype=np.str_)}

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """The image unchanged."""
        return image

    def _say(self, notes: Sequence[str], name: str) -> None:
        far = [note for note in notes if SLICES not in note]
        if len(far) < len(notes) and not self._said_slices:
            self._said_slices = True
            _log.warning("%s: %s", name, notes[0])
        if not far:
            return
        self._far += 1
        if self._far <= SAID:
            _log.warning("%s is far from what was trained on: %s", name, "; ".join(far))
        elif self._far == SAID + 1:
            _log.warning("more images are far from what was trained on: record.json lists them")

    def _notes(
        self,
        affine: np.ndarray,
        meta: Mapping[str, Any],
        shape: Sequence[int],
        samples: Sequence[np.ndarray],
    ) -> list[str]:
        notes = []
        if self.spatial_dims == 2 and len(shape) == 3 and shape[2] > 1:
            objects = OBJECTS[self.planes or planes_stated(meta)]
            notes.append(f"its {shape[2]} planes go through the 2-D network {SLICES}: {objects}")
        if self.trained_on:
            unit = known_unit(meta)
            if unit and self.element_size is None:
                notes += self._about_size(affine, unit, len(shape))
            if self.trained_on["orientations"] and unit and _states_no_place(meta):
                there = " and ".join(self.trained_on["orientations"])
                notes.append(f"it states no orientation, the training's images {there}")
            names: Sequence[str] = meta.get(CHANNEL_NAMES, "").splitlines()
            known = self.trained_on.get("channels", ())  # which earlier versions did not look at
            moved = in_other_places(names, known)
            if not names:  # the names of its files have some
                names = words_apart(meta.get("files", ()))
                moved = in_another_order(names, known)
            if moved:
                own, theirs = (", ".join(each) for each in (names, known))
                notes.append(f"its channels are {own}, the training's {theirs}")
            notes += self._about_grey_values(samples)
        return notes

    def _about_size(self, affine: np.ndarray, unit: str, axes: int) -> Iterator[str]:
        known = self.trained_on["pixel_size"]
        if known is None:
            return
        count = min(self.spatial_dims or axes, axes, len(known))
        oriented = bool(self.trained_on["orientations"])
        sizes = np.linalg.norm(affine[:-1, :axes], axis=0) * MICROMETRES[unit]
        ranges = np.array(known) * MICROMETRES[self.trained_on["unit"]]
        sizes, low, high = (_sorted(row, oriented)[:count] for row in (sizes, *ranges.T))
        if (sizes > RATIO * high).any() or (sizes * RATIO < low).any():
            ends = [low] if np.allclose(low, high) else [low, high]
            own, *training = (in_words(row / MICROMETRES[unit]) for row in (sizes, *ends))
            yield f"its pixels are {own} {unit}, the training's {' to '.join(training)} {unit}"

    def _about_grey_values(self, samples: Sequence[np.ndarray]) -> Iterator[str]:
        skews = self.trained_on["skews"]
        for number, sample in enumerate(samples):
            channel = f" in channel {number}" if len(samples) > 1 else ""
            values = np.unique(sample)
            if len(values) == 1:
                yield f"all its pixels are {values[0]:g}{channel}"
            elif len(values) == 2:
                yield f"it has two grey values alone, as a mask has{channel}"
            elif where := self._off_scale(number, sample):
                yield f"{where}{channel}: is it in Hounsfield units, as theirs?"
            elif number < len(skews) and skews[number] and (skew := skew_of(sample)) is not None:
                low, high = skews[number]
                if (skew < min(0.0, low - SKEW)) or (skew > max(0.0, high + SKEW)):
                    yield (
                        f"most of its pixels are {'bright' if skew < 0 else 'dark'}, and of the "
                        f"training's {'dark' if skew < 0 else 'bright'}, as if inverted{channel} "
                        f"(skew {skew:.2f}, not {low:.2f} to {high:.2f})"
                    )

    def _off_scale(self, number: int, sample: np.ndarray) -> str:
        """Where values of a fixed scale lie, if nearly all do on one side of half the training's.

        Of a CT from which 1024 was not subtracted air has the values of soft tissue.
        """
        known = self.trained_on.get("intensities", ())
        if not any(isinstance(scale, Mapping) for scale in self.intensity[number : number + 1]):
            return ""
        if number >= len(known) or not known[number]:
            return ""
        middle = known[number][len(known[number]) // 2]
        low, high = np.percentile(sample, (0.5, 99.5)).tolist()
        if low <= middle <= high:
            return ""
        return f"its values are {low:g} to {high:g}, and half of the training's " + (
            f"below {middle:g}" if low > middle else f"above {middle:g}"
        )

    def _about_extremes(self, pixels: np.ndarray) -> Iterator[str]:
        """Of an image in memory; of another `Standardized` tells, which reads all of its boxes."""
        for number, channel in enumerate(pixels):
            scale = self.intensity[number] if number < len(self.intensity) else None
            if scale is None and ends_of(channel).ruled:
                yield about_ruled(number, len(pixels))


def _states_no_place(meta: Mapping[str, Any]) -> bool:
    """Whether a file states a pixel size and no orientation, as TIFF and OME-Zarr do."""
    return source_of(meta) not in ORIENTED


def _sorted(sizes: np.ndarray, oriented: bool) -> np.ndarray:
    """Sizes that do not depend on the order of a file's axes; in microscopy z stays z."""
    return np.sort(sizes) if oriented else np.concatenate([np.sort(sizes[:2]), sizes[2:]])


CompareWithTrainingD = CompareWithTrainingDict = CompareWithTrainingd
