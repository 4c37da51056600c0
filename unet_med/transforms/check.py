"""Checks of images and labels before they reach the network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from unet_med.data.colours import but_for_alpha, in_fewer_channels, may_be_fewer
from unet_med.data.formats import takes_channel
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.transforms.tensors import labels_of, tensor_of
from unet_med.transforms.windowed import Box, Found, Windowed

_IN_FIJI = {  # how colours, and what is transparent, become as many channels as a network takes
    1: " (in Fiji Image > Type > 8-bit)",
    3: " (in Fiji Image > Type > RGB Color)",
}


class UnfitImageError(ValueError):
    """An image that could be read, and that the network does not take as it is."""


class SelectSliced(MapTransform):
    """Take one plane of a volume for a 2-D network, if the item names one, or there is but one.

    The entry `"slice"` of an item names it, its index along Z; without it, or with None, an
    image stays as it is.

    Args:
        keys: entries `(C, X, Y, Z)`; they become `(C, X, Y)`, with the affine of their plane.
        allow_missing_keys: no error when a key is absent.
        spatial_dims: of the network; with 2, volumes of one slice are planes.

    Raises:
        ValueError: the volume has fewer planes than the item asks for.
    """

    slice_key = "slice"  # by which a data set knows that a transform takes planes

    def __init__(
        self,
        keys: KeysCollection,
        allow_missing_keys: bool = False,
        *,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spatial_dims = spatial_dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the chosen plane of every key."""
        d = dict(data)
        index = d.pop(self.slice_key, None)
        for key in self.key_iterator(d):
            if index is None:
                if self.spatial_dims == 2 and d[key].ndim == 4 and d[key].shape[-1] == 1:
                    d[key] = d[key][..., 0]  # (C, X, Y)
                continue
            if d[key].ndim != 4 or index >= d[key].shape[-1]:
                raise ValueError(
                    f"{name_of(d[key], str(key))} has shape {tuple(d[key].shape)}: no plane {index}"
                )
            plane = tensor_of(d[key])[..., index].clone()  # (C, X, Y); a view would keep the stack
            if isinstance(plane, MetaTensor):
                plane.affine = _shifted(plane.affine, index)
            d[key] = plane
        return d


class CheckPaird(MapTransform):
    """Refuse images and labels that do not fit the network or each other.

    Grey that was saved in colours fits a network of one channel, and an alpha that is opaque all
    over is left out (`unet_med.data.colours`).

    Args:
        in_channels: channels the network takes.
        spatial_dims: 2 or 3; None: not checked.
        slices: a 2-D network takes volumes too, slice by slice.
        label_kind: ``"mask"``, ``"classes"`` or ``"instances"``; None: values are not checked.
        num_classes: of labels that are classes.
        image_key: entry of the image, `(C, *S)`.
        label_key: entry of the label, `(1, *S)`; absent at prediction.

    Raises:
        UnfitImageError: the image; names the file, what it is, what is needed, and a way out.
        ValueError: the label, likewise.
    """

    def __init__(
        self,
        in_channels: int = 1,
        spatial_dims: int | None = None,
        *,
        slices: bool = False,
        label_kind: str | None = None,
        num_classes: int | None = None,
        image_key: str = "image",
        label_key: str = "label",
    ) -> None:
        super().__init__((image_key, label_key), allow_missing_keys=True)
        self.in_channels = in_channels
        self.spatial_dims = spatial_dims
        self.slices = slices
        self.label_kind = label_kind
        self.num_classes = num_classes
        self.image_key = image_key
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item, its image without channels that add nothing, or raise."""
        d = dict(data)
        d[self.image_key] = self._fitting(d[self.image_key])
        self._check_image(d[self.image_key])
        if self.label_key in d:
            self._check_label(d[self.label_key], d[self.image_key])
        return d

    def by_window(self, image: Windowed, found: Found) -> Windowed:
        """The image, of which pixels are looked at when they are read.

        Raises:
            UnfitImageError: see the class.
        """
        name = name_of(image, self.image_key)
        fewer = may_be_fewer(image.channels, self.in_channels)
        kept = self.in_channels if fewer else image.channels
        self._check_shape((kept, *image.shape), name)

        def read(box: Box) -> torch.Tensor:
            pixels = self._fitting(image.read(box))
            self._check_shape(tuple(pixels.shape), name, pixels)
            _check_finite(pixels, f"{name} at {box}")
            return pixels

        return replace(image, read=read, channels=kept)

    def _fitting(self, image: torch.Tensor) -> torch.Tensor:
        """The image, without channels that add nothing if it has too many."""
        fewer = in_fewer_channels(image, self.in_channels)
        return image if fewer is None else fewer

    def _check_image(self, image: torch.Tensor) -> None:
        name = name_of(image, self.image_key)
        if getattr(image, "meta", {}).get("coloured"):
            raise UnfitImageError(
                f"image {name} has a palette of colours, whose numbers are no intensities: save it "
                "as RGB, or as grey values, as the images of the training are"
            )
        self._check_shape(tuple(image.shape), name, image)
        _check_finite(image, name)

    def _check_shape(
        self, shape: tuple[int, ...], name: str, image: torch.Tensor | None = None
    ) -> None:
        channels, *sides = shape
        if channels != self.in_channels:
            kind = " (RGB or RGBA)" if channels in (3, 4) else ""
            if image is not None:
                kind += " of equal colours" if _is_grey(image) else ""
                alpha = but_for_alpha(image, self.in_channels)
                kind += ", not opaque all over if the last is alpha" if alpha else ""
            way = _IN_FIJI.get(self.in_channels, "") if 1 < channels <= 4 else ""
            pages = channels == 1 and sides[2:] == [self.in_channels]
            hint = ", or say with --axes CYX that its pages are channels" if pages else ""
            if self.in_channels == 1:
                hint = ", or take one with --channel 0" if takes_channel(name) else ""
            raise UnfitImageError(
                f"image {name} has {channels} channels{kind}, the network takes "
                f"{self.in_channels}: convert it{way}, or train with images like it{hint}"
            )
        allowed = {2: (2, 3) if self.slices else (2,), 3: (3,), None: (2, 3)}[self.spatial_dims]
        if len(sides) not in allowed:
            raise UnfitImageError(
                f"image {name} has {len(sides)} spatial axes {tuple(sides)}, "
                f"the network takes {self.spatial_dims}: give images of one kind"
            )

    def _check_label(self, label: torch.Tensor, image: torch.Tensor) -> None:
        name = name_of(label, self.label_key)
        if label.shape[0] != 1:
            raise ValueError(
                f"label {name} has {label.shape[0]} channels, a label has one: "
                "save it as single-channel integers"
            )
        if label.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"label {name} has shape {tuple(label.shape[1:])}, its image "
                f"{name_of(image, self.image_key)} {tuple(image.shape[1:])}: they must be equal"
            )
        label = labels_of(label)
        if not bool(torch.isfinite(label).all()):
            raise ValueError(f"label {name} holds NaN or infinite pixels: replace them first")
        fractions = label[label != label.round()]
        if fractions.numel():
            raise ValueError(
                f"label {name} holds the value {float(fractions[0]):g}: labels are whole numbers; "
                "resample them with mode 'nearest'"
            )
        strangers, rule = self._strangers(label)
        if strangers.numel():
            raise ValueError(f"label {name} holds the value {float(strangers[0]):g}: {rule}")

    def _strangers(self, label: torch.Tensor) -> tuple[torch.Tensor, str]:
        """Values that labels of this kind cannot hold, and the broken rule."""
        if self.label_kind == "classes" and self.num_classes is not None:
            wrong = (label < 0) | ((label >= self.num_classes) & (label != IGNORED))
            rule = f"classes are 0 to {self.num_classes - 1}, and {IGNORED} for ignored pixels"
            return label[wrong], f"{rule}; correct it, or set out_channels"
        if self.label_kind == "mask":
            foreground = label[(label != 0) & (label != UNKNOWN)]
            rule = "a mask has one value besides 0; use label_kind 'classes' or 'instances'"
            other = foreground[foreground != foreground[:1]]
            rule += "" if bool((label == 0).any()) else "; or --unknown 0, as background is painted"
            return other, f"{rule}, or threshold it (the first one is {_first(foreground)})"
        below = label[label < -1] if self.label_kind == "instances" else label[:0]
        return below, "instances are 1, 2, ..., and -1 for ignored pixels"


class DropIgnoredd(MapTransform):
    """Turn ignored pixels into background in label and prediction alike.

    Metrics that know no ignore label then neither reward nor punish them: these pixels
    belong to no foreground class, in the label or in the prediction. All entries go to the device
    of the first, where metrics compare them: a prediction that was too large for a GPU is in main
    memory.

    Args:
        keys: entries `(1, *S)` of class numbers, `"label"` among them, which marks these pixels.
        ignore: the label of ignored pixels: 255 for classes, -1 for instances.
        allow_missing_keys: no error when a key is absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        ignore: int = IGNORED,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ignore = ignore

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with ignored pixels set to 0."""
        d = dict(data)
        ignored = labels_of(d["label"]) == self.ignore
        entries = {key: tensor_of(d[key]) for key in self.key_iterator(d)}
        for key, entry in entries.items():
            there = next(iter(entries.values())).device
            d[key] = entry.to(there).masked_fill(ignored.to(there), 0)
        return d


def _shifted(affine: torch.Tensor, index: int) -> torch.Tensor:
    """Affine of a plane, from that of its volume: the origin lies where the plane does."""
    moved = affine.clone()
    moved[:, 3] += index * affine[:, 2]
    return moved


def _check_finite(image: torch.Tensor, name: str) -> None:
    if not bool(torch.isfinite(tensor_of(image)).all()):
        raise UnfitImageError(f"image {name} holds NaN or infinite pixels: replace them first")


def _is_grey(image: torch.Tensor) -> bool:
    """Whether a grey picture was saved in colours: R, G and B are equal."""
    return image.shape[0] in (3, 4) and bool((image[1:3] == image[:1]).all())


def _first(values: torch.Tensor) -> str:
    return f"{float(values[0]):g}" if values.numel() else "none"


def name_of(image: Any, default: str) -> str:
    """File name in the metadata of an image."""
    path = getattr(image, "meta", {}).get("filename_or_obj")
    return Path(str(path)).name if path else default


SelectSliceD = SelectSliceDict = SelectSliced
CheckPairD = CheckPairDict = CheckPaird
DropIgnoredD = DropIgnoredDict = DropIgnoredd
