"""What tiling must know of a network: its step, its context, and whether it is local."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from math import ceil, prod
from operator import mul
from typing import Any

from torch import Tensor, nn

from unet_med import geometry
from unet_med.geometry import PerAxis, alike
from unet_med.networks.wrapping import unwrapped


@dataclass(frozen=True)
class AxisTiling:
    """Geometry of a network along one axis, all in px.

    Attributes:
        stride: shifts by multiples of it, and only those, move the result along.
        margin: context per side that exactness needs.
        padding: ``"valid"``, ``"same"``, or None for a network that does not say.
        smallest: smallest input side; the legal ones follow in steps of `stride`.
        output_size: output side for an input side; raises ValueError for an illegal one.
    """

    stride: int
    margin: int
    padding: str | None
    smallest: int
    output_size: Callable[[int], int] = field(compare=False)  # follows from the others

    @property
    def lost(self) -> int:
        """Pixels by which an output is smaller than its input, per side."""
        return self.margin if self.padding == "valid" else 0

    def side_from(self, least: int) -> int:
        """Smallest input side that is at least so many px."""
        return self.smallest + max(0, geometry.up_to(self.stride, least - self.smallest))

    def whole_side(self, length: int) -> int:
        """Input side of the one pass over a whole axis of `length` px."""
        return self.side_from(length + 2 * self.lost)

    def stepping_side(self) -> int:
        """Smallest input side that keeps one stride between its margins."""
        return self.side_from(self.stride + 2 * self.margin)

    def assume(self, padding: str, side: int) -> AxisTiling:
        """This axis of a foreign network that turns out to be `padding`; see `Tiling.assume`."""
        if padding == "same":
            rule = partial(geometry.same_size, stride=self.stride)
            return replace(self, padding=padding, smallest=self.stride, output_size=rule)
        smallest = 2 * self.margin + 1 + (side - 2 * self.margin - 1) % self.stride
        return replace(
            self, padding=padding, smallest=smallest, output_size=lambda n: n - 2 * self.margin
        )


@dataclass(frozen=True)
class Tiling:
    """Geometry of a network, all in px.

    Attributes:
        axes: of an image, each with its own steps and context.
        whole_image_layer: a layer that looks at the whole image, in words; empty if none.
        channels: feature maps at full resolution, for estimates of memory.
    """

    axes: tuple[AxisTiling, ...]
    whole_image_layer: str
    channels: int

    @property
    def spatial_dims(self) -> int:
        """Axes of an image."""
        return len(self.axes)

    @property
    def padding(self) -> str | None:
        """Of all axes."""
        return self.axes[0].padding

    @property
    def stride(self) -> int | tuple[int, ...]:
        """An integer where all axes agree, else one an axis."""
        return alike([axis.stride for axis in self.axes])

    @property
    def margin(self) -> int | tuple[int, ...]:
        """An integer where all axes agree, else one an axis."""
        return alike([axis.margin for axis in self.axes])

    @property
    def lost(self) -> int | tuple[int, ...]:
        """An integer where all axes agree, else one an axis."""
        return alike([axis.lost for axis in self.axes])

    @property
    def smallest(self) -> int | tuple[int, ...]:
        """An integer where all axes agree, else one an axis."""
        return alike([axis.smallest for axis in self.axes])

    def in_file_order(self) -> Tiling:
        """The same for sides in the order `([Z,] Y, X)`."""
        return replace(self, axes=self.axes[::-1])

    def whole_sides(self, shape: Sequence[int]) -> list[int]:
        """Input sides of the one pass over a whole image."""
        return [axis.whole_side(n) for axis, n in zip(self.axes, shape, strict=True)]

    def stepping_sides(self) -> list[int]:
        """Smallest input sides that keep one stride between their margins."""
        return [axis.stepping_side() for axis in self.axes]

    def assume(self, padding: str, sides: Sequence[int] | None = None) -> Tiling:
        """This tiling for a foreign network that turns out to be `padding`.

        Args:
            padding: ``"valid"`` or ``"same"``.
            sides: input sides that the network takes, px; valid networks need them.
        """
        known = sides or [0] * len(self.axes)
        axes = (axis.assume(padding, side) for axis, side in zip(self.axes, known, strict=True))
        return replace(self, axes=tuple(axes))


def tiling_of(
    network: Callable[..., Any],
    image: Tensor,
    *,
    margin: PerAxis | None,
    stride: PerAxis | None,
) -> Tiling:
    """Asks a network for its geometry.

    `unet_med.networks.UNet` answers, also in TorchScript and inside what
    `unet_med.networks.unwrapped` knows. Any other network needs `margin` and `stride`.

    Args:
        network: what maps ``(B, C, *S)`` to logits.
        image: an input ``(B, C, *S)``, for its number of axes if the network hides them.
        margin: context per side, px, one or one an axis; None to ask the network.
        stride: total down-sampling factor, one or one an axis; None to ask the network.

    Raises:
        ValueError: margin or stride is neither given nor known, or images have not 2 or 3 axes.
    """
    inner = _that_says_its_geometry(network)
    margin = getattr(inner, "margin", None) if margin is None else margin
    stride = getattr(inner, "stride", None) if stride is None else stride
    if margin is None or stride is None:
        raise ValueError(
            "the network does not say its margin and stride; give the inferer margin= (context in "
            "px per side) and stride= (total down-sampling factor), in a bundle by the ids margin "
            "and stride; those of configs/basicunet.json are 112 and 16"
        )
    weights = [p for p in _parameters(inner) if p.ndim > 2]
    dims = getattr(inner, "spatial_dims", (weights[0] if weights else image).ndim - 2)
    if dims not in (2, 3):
        raise ValueError(f"the network takes images of {dims} axes; tiles are of 2 or 3")
    tiling = Tiling(
        _unpadded(margin, stride, dims),
        whole_image_layer=_whole_image_layer(inner),
        channels=_channels(weights, getattr(inner, "rules", ())),
    )
    padding = getattr(inner, "padding", None)
    if padding == "same":
        return tiling.assume("same")
    if padding == "valid":
        return replace(tiling, axes=tuple(map(_valid, tiling.axes, _rules(inner, dims))))
    return tiling


def _unpadded(margin: PerAxis, stride: PerAxis, dims: int) -> tuple[AxisTiling, ...]:
    """Axes of a network that does not say yet how it pads."""
    margins = geometry.per_axis("margin", margin, dims)
    strides = geometry.per_axis("stride", stride, dims)
    return tuple(
        AxisTiling(step, around, None, smallest=step, output_size=lambda n: n)
        for step, around in zip(strides, margins, strict=True)
    )


def _channels(weights: Sequence[Tensor], rules: Sequence[Any]) -> int:
    """Feature maps at full resolution, and as many more as lower levels take that pool little.

    Levels that double the features and pool by four, as in a plane, take twice the first together,
    which estimates of memory allow for; poolings by two along one axis alone take more.
    """
    if not weights:
        return 1
    pools = zip(*(rule[0] for rule in rules), strict=True)
    sizes = accumulate((2 / prod(factors) for factors in pools), mul, initial=1.0)
    return ceil(max(weights[0].shape[0], weights[-1].shape[1]) * max(1.0, sum(sizes) / 2))


def _that_says_its_geometry(network: Callable[..., Any]) -> Any:
    """The network itself, or the one inside it, also in a wrapper that only its `module` tells."""
    inner = unwrapped(network)
    while not hasattr(inner, "margin") and isinstance(
        module := getattr(inner, "module", None), nn.Module
    ):
        inner = unwrapped(module)
    return inner


def _rules(network: Any, dims: int) -> list[Any]:
    """What says output by input sides of each axis of a valid network."""
    if hasattr(network, "rules"):  # of a UNet; TorchScript keeps them, but no methods
        return [geometry.Axis(*rule) for rule in network.rules]
    if hasattr(network, "input_size_for"):
        return [network] * dims
    raise ValueError(
        "the network does not say which sides it takes: one in TorchScript that an earlier version "
        "of unet-med wrote is to be exported anew"
    )


def _valid(axis: AxisTiling, rule: Any) -> AxisTiling:
    return replace(
        axis,
        padding="valid",
        smallest=rule.input_size_for(1),
        output_size=rule.output_size,
    )


def _parameters(network: Any) -> Iterator[Tensor]:
    return network.parameters() if isinstance(network, nn.Module) else iter(())


def _whole_image_layer(network: Any) -> str:
    """A normalisation whose statistics span its input, in words; empty if there is none."""
    modules = network.named_modules() if isinstance(network, nn.Module) else ()
    for name, module in modules:
        kind = getattr(module, "original_name", type(module).__name__)  # the former: TorchScript
        if kind.startswith(("BatchNorm", "SyncBatchNorm", "InstanceNorm")):
            if module.training and not kind.startswith("Instance"):
                return f"layer {name} ({kind}, in training mode)"
            if module.training or not getattr(module, "track_running_stats", True):
                return f"layer {name} ({kind})"
        elif kind.startswith(("GroupNorm", "LayerNorm")):
            return f"layer {name} ({kind})"
    return "" if getattr(network, "tileable", True) else f"{type(network).__name__}"
