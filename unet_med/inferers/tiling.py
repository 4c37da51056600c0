"""What tiling must know of a network: its step, its context, and whether it is local."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from torch import Tensor, nn

from unet_med import geometry


@dataclass(frozen=True)
class Tiling:
    """Geometry of a network, all in px.

    Attributes:
        spatial_dims: axes of an image.
        stride: shifts by multiples of it, and only those, move the result along.
        margin: context per side that exactness needs.
        padding: ``"valid"``, ``"same"``, or None for a network that does not say.
        smallest: smallest input side; the legal ones follow in steps of `stride`.
        output_size: output side for an input side; raises ValueError for an illegal one.
        whole_image_layer: a layer that looks at the whole image, in words; empty if none.
        channels: feature maps at full resolution.
    """

    spatial_dims: int
    stride: int
    margin: int
    padding: str | None
    smallest: int
    output_size: Callable[[int], int]
    whole_image_layer: str
    channels: int

    @property
    def lost(self) -> int:
        """Pixels by which an output is smaller than its input, per side."""
        return self.margin if self.padding == "valid" else 0

    def whole_side(self, length: int) -> int:
        """Input side of the one pass over a whole axis of `length` px."""
        missing = length + 2 * self.lost - self.smallest
        return self.smallest + max(0, -(-missing // self.stride) * self.stride)

    def stepping_side(self) -> int:
        """Smallest input side that keeps one stride between its margins."""
        missing = self.stride + 2 * self.margin - self.smallest
        return self.smallest + max(0, -(-missing // self.stride) * self.stride)

    def assume(self, padding: str, side: int = 0) -> Tiling:
        """These tiling for a foreign network that turns out to be `padding`.

        Args:
            padding: ``"valid"`` or ``"same"``.
            side: an input side that the network takes, px; valid networks need it.
        """
        if padding == "same":
            rule = partial(geometry.same_size, stride=self.stride)
            return replace(self, padding=padding, smallest=self.stride, output_size=rule)
        smallest = 2 * self.margin + 1 + (side - 2 * self.margin - 1) % self.stride
        return replace(
            self, padding=padding, smallest=smallest, output_size=lambda n: n - 2 * self.margin
        )


def tiling_of(
    network: Callable[..., Any], image: Tensor, *, margin: int | None, stride: int | None
) -> Tiling:
    """Asks a network for its geometry.

    `unet_med.networks.UNet` answers, also inside DataParallel, DistributedDataParallel,
    torch.compile and TorchScript. Any other network needs `margin` and `stride`.

    Args:
        network: what maps ``(B, C, *S)`` to logits.
        image: an input ``(B, C, *S)``, for its number of axes if the network hides them.
        margin: context per side, px; None to ask the network.
        stride: total down-sampling factor; None to ask the network.

    Raises:
        ValueError: margin or stride is neither given nor known.
    """
    inner = _unwrap(network)
    margin = getattr(inner, "margin", None) if margin is None else margin
    stride = getattr(inner, "stride", None) if stride is None else stride
    if margin is None or stride is None:
        raise ValueError(
            "the network does not say its margin and stride; give the inferer margin= (context in "
            "px per side) and stride= (total down-sampling factor), in a bundle by the ids margin "
            "and stride; those of configs/basicunet.json are 112 and 16"
        )
    weights = [p for p in _parameters(inner) if p.ndim > 2]
    seen = weights[0].ndim - 2 if weights else image.ndim - 2
    tiling = Tiling(
        spatial_dims=getattr(inner, "spatial_dims", seen),
        stride=stride,
        margin=margin,
        padding=None,
        smallest=stride,
        output_size=lambda n: n,
        whole_image_layer=_whole_image_layer(inner),
        channels=max(weights[0].shape[0], weights[-1].shape[1]) if weights else 1,
    )
    padding = getattr(inner, "padding", None)
    if padding == "same":
        return tiling.assume("same")
    if padding == "valid":
        output_size, smallest = _valid_rules(inner, stride, margin)
        return replace(tiling, padding="valid", smallest=smallest, output_size=output_size)
    return tiling


def _unwrap(network: Callable[..., Any]) -> Any:
    """The network inside DataParallel and the like; torch.compile passes attributes on itself."""
    while not hasattr(network, "margin") and isinstance(
        wrapped := getattr(network, "module", None), nn.Module
    ):
        network = wrapped
    return network


def _valid_rules(network: Any, stride: int, margin: int) -> tuple[Callable[[int], int], int]:
    """Output side by input side, and the smallest input side, of a valid U-Net."""
    if hasattr(network, "input_size_for"):
        return network.output_size, network.input_size_for(1)
    # TorchScript keeps a network's numbers but not its methods: find the arithmetic anew.
    pool = round(stride ** (1 / network.depth)) if network.depth else 2
    for convs, crop in product(range(1, 9), (0, pool // 2)):
        rules: dict[str, int] = {"convs_per_level": convs, "pool": pool, "upsample_crop": crop}
        if geometry.margin(network.depth, **rules) == margin:
            size = partial(geometry.output_size, depth=network.depth, **rules)
            return size, geometry.input_size_for(1, network.depth, **rules)
    raise ValueError(f"no U-Net of depth {network.depth} has a margin of {margin} px")


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
