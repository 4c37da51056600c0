"""Images and labels that come as NumPy arrays, as tensors, and back."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import torch
from monai.data import MetaTensor, get_track_meta
from monai.utils import convert_to_dst_type, convert_to_tensor
from numpy.typing import NDArray

Label = TypeVar("Label", NDArray[Any], torch.Tensor)
ImageT = TypeVar("ImageT", bound=torch.Tensor)
AnyImage = torch.Tensor | NDArray[Any]  # as transforms take one
ROUNDING = 0.01  # of probabilities in 16 bits, and of those that were resampled


def tensor_of(image: AnyImage) -> torch.Tensor:
    """The image itself if it is a tensor, else one; a MetaTensor where MONAI tracks metadata.

    Unsigned integers that torch hardly knows become signed ones that hold their values.

    Args:
        image: of any shape.
    """
    if isinstance(image, torch.Tensor):
        wider = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
        return image.to(wider[image.dtype]) if image.dtype in wider else image
    return convert_to_tensor(image, track_meta=get_track_meta())


def as_tensor(image: AnyImage) -> torch.Tensor:
    """The image as MONAI's transforms see it: a MetaTensor where MONAI tracks metadata."""
    found: torch.Tensor = convert_to_tensor(image, track_meta=get_track_meta())
    return found


def tracked(image: torch.Tensor) -> MetaTensor:
    """A MetaTensor with the pixels of an image, and its metadata where it has any.

    MONAI's `convert_to_tensor` makes none while `set_track_meta(False)` holds.
    """
    return image if isinstance(image, MetaTensor) else MetaTensor(image)


def with_metadata_of(img: ImageT, out: torch.Tensor) -> ImageT:
    """`out` with a copy of the metadata of `img`, on its own device and with its own dtype.

    MONAI's `convert_to_dst_type` creates default metadata first, which costs more than the copy.
    """
    if isinstance(img, MetaTensor):
        return cast(ImageT, out.as_subclass(MetaTensor).copy_meta_from(img))
    return cast(ImageT, out)


def noted(image: MetaTensor, name: str, value: Any) -> MetaTensor:
    """An image whose metadata say this too; the pixels are shared, the image's own stay."""
    found = with_metadata_of(image, image.as_tensor())
    found.meta[name] = value
    return found


def labels_of(image: AnyImage) -> torch.Tensor:
    """Labels in a type that has negative numbers: in torch a uint8 of 255 equals -1.

    So have masks of bool, of which torch takes no absolute values and rounds none.

    Args:
        image: labels of any shape.
    """
    labels = tensor_of(image)
    return labels.to(torch.int16) if labels.dtype in (torch.uint8, torch.bool) else labels


def labels_like(labels: NDArray[Any], source: Label) -> Label:
    """Labels as array or tensor like `source`, with its metadata, as int32 where they fit."""
    dtype = np.int64 if labels.dtype.itemsize > 4 else np.int32
    if labels.dtype.itemsize > 4 and np.array_equal(labels, labels.astype(np.int32)):
        dtype = np.int32
    return convert_to_dst_type(labels.astype(dtype), source, dtype=dtype)[0]


def refuse_nan(scores: torch.Tensor) -> None:
    """Refuse scores `(C, *S)` with NaN, which would count as background."""
    if scores.numel() and bool(scores.amax().isnan()):
        raise ValueError(
            "the scores hold NaN: so do the network's weights, or it overflowed in 16 bits; look "
            "at its training, or predict in float32"
        )


def require_probabilities(scores: torch.Tensor) -> None:
    """Refuse logits `(C, *S)`: what is below 0 or above 1, but for rounding, is no probability."""
    if not _within_one(scores):
        raise ValueError(
            f"scores from {scores.min():.3g} to {scores.max():.3g} where probabilities are "
            "expected: apply softmax first"
        )


def refuse_probabilities(scores: torch.Tensor) -> None:
    """Refuse `(C, *S)` that add up to 1 in every pixel: another softmax would flatten them."""
    if scores.numel() and _within_one(scores):
        surplus = scores.sum(dim=0, dtype=torch.float32) - 1
        if bool((surplus.abs() <= ROUNDING).all()):
            raise ValueError(
                "the scores are probabilities already, of which another softmax makes others: "
                "give softmax=False"
            )


def _within_one(scores: torch.Tensor) -> bool:
    if not scores.numel():
        return True
    low, high = scores.aminmax()
    return not bool((low < -ROUNDING) | (high > 1 + ROUNDING))  # NaN is left to `refuse_nan`
