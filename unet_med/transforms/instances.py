"""Instances and classes of predictions as MONAI transforms."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from unet_med.data.plane_kind import planes_stated
from unet_med.instances import LEVEL, instances_from_classes
from unet_med.planes import APART, Planes
from unet_med.transforms.keywise import KeywiseTransform
from unet_med.transforms.lengths import axes_in, pixels_along, scaled, scaled_along
from unet_med.transforms.tensors import (
    Label,
    labels_like,
    refuse_nan,
    refuse_probabilities,
    require_probabilities,
    tensor_of,
)
from unet_med.weights.arrays import as_numpy

SURER = (0.5, 0.6, 0.7, 0.8)  # foreground probabilities at which seeds may fall into parts


class InstancesFromLogits(Transform):
    """Objects of a prediction: what is surely foreground, and the mask around it.

    Without a threshold, the objects are the connected components of each class where its score
    is the highest. With one they begin as components of the pixels whose foreground probability
    (1 minus the background's) is at least `threshold`, the seeds; these take the pixels of at
    least `mask_threshold` that they can walk to within `reach` px (`unet_med.instances.spread`),
    so that two seeds in one mask share it. A mask without a seed is no object. With `min_part`
    a seed that a higher threshold (0.5, 0.6, 0.7, 0.8) parts in two or more is as many seeds
    (`unet_med.instances.parted`).

    Args:
        min_size: smallest object kept, px; the 2015 release drops 500 px and less.
        threshold: least foreground probability of a seed; None: the class with the highest score
            wins.
        min_part: smallest part that a seed falls into, px; 0, or without a threshold: it stays
            whole.
        mask_threshold: least foreground probability of the mask, at most `threshold`; None:
            seeds take nothing.
        reach: px that seeds take from the mask; along the network's axes alike, or one number for
            each of them.
        softmax: the input is logits, and thresholds apply to their softmax; False: the
            input is probabilities. Without a threshold both give the same.
        grow: px by which objects grow into the background *between* them, never
            outwards; along the network's axes alike, or one number for each of them. 1 restores
            the pixels that `SeparateInstances` removed for training.
        connectivity: of components; 1 joins pixels that share a face, the number of dimensions
            corners too.
        spatial_dims: of the network; None: of the scores. In a stack of planes, seeds take
            pixels of their own plane.
        planes: of such a stack: ``"apart"``, each is an image with objects of its own, or
            ``"joined"``, objects go through planes; None: joined where the scores' metadata state
            how far apart planes lie (`unet_med.data.plane_kind`).

    Raises:
        ValueError: a mask threshold without, or above, a threshold; or planes apart of a network
            of volumes.
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(
        self,
        min_size: int = 0,
        threshold: float | None = None,
        *,
        min_part: int = 0,
        mask_threshold: float | None = None,
        reach: int | Sequence[int] = 0,
        softmax: bool = True,
        grow: int | Sequence[int] = 1,
        connectivity: int = 1,
        spatial_dims: int | None = None,
        planes: Planes | None = None,
    ) -> None:
        if planes == APART and spatial_dims == 3:
            raise ValueError(
                "planes apart, and the network takes volumes, of which no plane is an image: leave "
                "planes out"
            )
        self.planes = planes
        self.min_size, self.min_part = min_size, min_part
        self.threshold, self.mask_threshold = _thresholds(threshold, mask_threshold)
        self.reach: int | list[int] = [*reach] if isinstance(reach, Sequence) else reach
        self.softmax = softmax
        self.grow: int | list[int] = [*grow] if isinstance(grow, Sequence) else grow
        self.axes = None if spatial_dims is None else tuple(range(spatial_dims))
        self.connectivity = connectivity

    def __call__(self, logits: Label) -> Label:
        """Label one prediction.

        Args:
            logits: scores `(C, *S)`, channel 0 is background.

        Returns:
            Instances `(1, *S)`, int32, 1..N over all classes; metadata is kept.

        Raises:
            ValueError: fewer than two channels, or NaN; or a threshold, and scores that are not
                what `softmax` says.
        """
        if logits.ndim < 2 or logits.shape[0] < 2:
            raise ValueError(
                f"a prediction of shape {tuple(logits.shape)}; instances need (C, *spatial) with "
                "channel 0 as background and at least one foreground channel"
            )
        scores = convert_to_tensor(tensor_of(logits), track_meta=False)
        rule = self.on_planes(logits.meta if isinstance(logits, MetaTensor) else {})
        found = instances_from_classes(as_numpy(self.classes(scores)), **rule.sizes)
        return labels_like(found[None], logits)  # (1, *S)

    @property
    def sizes(self) -> dict[str, Any]:
        """What makes objects of classes, px: arguments of `instances_from_classes`."""
        names = ("min_size", "min_part", "reach", "grow", "connectivity")
        axes = None if self.axes is None else [*self.axes]  # as JSON has them
        found = {name: getattr(self, name) for name in names}
        found["min_part"] *= self.threshold is not None  # else classes have no levels
        return {**found, "axes": axes, "planes": self.planes or APART}

    def on_planes(self, meta: Mapping[str, Any]) -> InstancesFromLogits:
        """The same rule, with what an image's metadata say of its planes where nobody told it."""
        if self.planes is not None:
            return self
        rule = copy(self)
        rule.planes = planes_stated(meta)
        return rule

    def classes(self, scores: torch.Tensor) -> torch.Tensor:
        """Class k of every seed, -k of the mask around it, 0 elsewhere: `(*S)`, by `(C, *S)`.

        With `min_part` a seed's class has `LEVEL` more for each higher threshold that it reaches.

        Raises:
            ValueError: NaN; or a threshold, and the scores are logits in place of probabilities,
                or the other way round.
        """
        refuse_nan(scores)
        if self.threshold is None:
            return scores.argmax(dim=0)
        if self.softmax:
            refuse_probabilities(scores)
        else:
            require_probabilities(scores)
        probabilities = scores.float().softmax(dim=0) if self.softmax else scores
        foreground, kind = 1 - probabilities[0], probabilities[1:].argmax(dim=0) + 1
        found = torch.where(foreground >= self.threshold, kind, 0)
        for level in SURER if self.min_part else ():
            found += LEVEL * (foreground >= max(level, self.threshold)) * (level > self.threshold)
        if self.mask_threshold is None:
            return found
        return torch.where((found == 0) & (foreground >= self.mask_threshold), -kind, found)

    def on_pixels(
        self, ratios: Sequence[float], axes: Sequence[int] | None = None
    ) -> InstancesFromLogits:
        """The same rule for an image of other pixels: its sizes cover the same part of it.

        Lengths, `reach` and `grow`, follow the pixels along each axis; `min_size` and `min_part`
        their volume.

        Args:
            ratios: of the pixels in which the sizes are said, how many of the image's pixels one
                is long, along each spatial axis of the image.
            axes: those of the image that are the network's; None: the first ones.
        """
        rule = copy(self)
        own = [axis for axis in axes or range(len(ratios)) if axis < len(ratios)]
        if self.axes is not None:
            own = own[: len(self.axes)]  # where the network's axes lie
            rule.axes = tuple(sorted(own))
        rule.min_size, rule.min_part = (
            scaled(px, math.prod(ratios)) for px in (self.min_size, self.min_part)
        )
        rule.reach, rule.grow = (scaled_along(px, own, ratios) for px in (self.reach, self.grow))
        return rule


class ClassesFromProbabilities(Transform):
    """Class of every pixel: foreground from a probability on, or the class with the highest.

    Args:
        threshold: least foreground probability (1 minus the background's), of which the most
            likely class is taken; None: the class with the highest probability wins.
    """

    backend = InstancesFromLogits.backend

    def __init__(self, threshold: float | None = None) -> None:
        self.rule = InstancesFromLogits(threshold=threshold, softmax=False)

    def __call__(self, probabilities: Label) -> Label:
        """Probabilities `(C, *S)` to classes `(1, *S)`, float32 as MONAI's `AsDiscrete` gives."""
        scores = convert_to_tensor(tensor_of(probabilities), track_meta=False)
        found = self.rule.classes(scores)[None].to(torch.float32)
        return convert_to_dst_type(found, probabilities, dtype=torch.float32)[0]


class InstancesFromLogitsd(KeywiseTransform):
    """Dictionary version of `InstancesFromLogits`.

    Args:
        keys: scores, `(C, *S)`.
        min_size: smallest object kept, px.
        sizes_of: key of an image of the same extent, in whose pixels the sizes are said: that of
            the network where the scores have been brought back to the file's; None: the scores'.
        allow_missing_keys: no error when a key is absent.
        output_keys: where the instances go; one, or one a key; None: they replace the scores.
        rule: the other arguments of `InstancesFromLogits`: `threshold`, `mask_threshold`, `reach`,
            `softmax`, `grow`, `min_part`, `connectivity`, `spatial_dims`, `planes`.
    """

    backend = InstancesFromLogits.backend
    rule: InstancesFromLogits

    def __init__(
        self,
        keys: KeysCollection,
        min_size: int = 0,
        *,
        sizes_of: str | None = None,
        allow_missing_keys: bool = False,
        output_keys: str | Sequence[str] | None = None,
        **rule: Any,
    ) -> None:
        self.sizes_of = sizes_of
        found = InstancesFromLogits(min_size, **rule)
        super().__init__(
            keys, found, allow_missing_keys=allow_missing_keys, output_keys=output_keys
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Label every key."""
        d = dict(data)
        for key, output_key in self.key_iterator(d, self.output_keys):
            d[output_key] = self.rule_for(d[key], d.get(self.sizes_of))(d[key])
        return d

    def rule_for(self, scores: Any, sized: Any) -> InstancesFromLogits:
        """The rule in pixels of the scores, where `sized` is the image of `sizes_of`."""
        placed = [image for image in (sized, scores) if isinstance(image, MetaTensor)]
        meta = placed[0].meta if placed else {}
        if self.sizes_of is None or len(placed) < 2:
            return self.rule.on_planes(meta)
        return self.rule_between(sized.affine, scores.affine, scores.ndim - 1, meta)

    def rule_between(
        self, sized: torch.Tensor, affine: torch.Tensor, dims: int, meta: Mapping[str, Any]
    ) -> InstancesFromLogits:
        """The rule in pixels of the scores, whose sizes are said in those of another image.

        Args:
            sized: affine of the image in whose pixels the sizes are said.
            affine: that of the scores.
            dims: spatial axes of the scores.
            meta: of the image, which says whether its planes lie in one volume.
        """
        rule = self.rule.on_planes(meta)
        ratios = pixels_along(sized, affine, dims)
        return rule.on_pixels(ratios, axes_in(sized, affine, rule.axes))


class ClassesFromProbabilitiesd(KeywiseTransform):
    """Dictionary version of `ClassesFromProbabilities`.

    Args:
        keys: probabilities, `(C, *S)`.
        threshold: least foreground probability; None: the class with the highest wins.
        allow_missing_keys: no error when a key is absent.
    """

    backend = InstancesFromLogits.backend
    rule: ClassesFromProbabilities

    def __init__(
        self,
        keys: KeysCollection,
        *,
        threshold: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        rule = ClassesFromProbabilities(threshold)
        super().__init__(keys, rule, allow_missing_keys=allow_missing_keys)


def _thresholds(
    threshold: float | None, mask_threshold: float | None
) -> tuple[float | None, float | None]:
    if mask_threshold is None or (threshold is not None and mask_threshold <= threshold):
        return threshold, mask_threshold
    raise ValueError(
        f"mask_threshold {mask_threshold} and threshold {threshold}: seeds lie inside the mask, so "
        "give a threshold that is as high or higher"
    )


ClassesFromProbabilitiesD = ClassesFromProbabilitiesDict = ClassesFromProbabilitiesd
InstancesFromLogitsD = InstancesFromLogitsDict = InstancesFromLogitsd
