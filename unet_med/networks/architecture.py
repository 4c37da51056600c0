"""The U-Net (Ronneberger et al. 2015, section 2, figure 1), in two or three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import torch
from monai.networks.layers.factories import Dropout, Pool
from monai.networks.layers.utils import get_act_layer
from monai.utils.module import look_up_option
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from unet_med import geometry
from unet_med.geometry import Axis, PerAxis, PerLevel, alike, per_axis
from unet_med.geometry.plain import plain, whole
from unet_med.networks.blocks import (
    AttentionGate,
    ConvBlock,
    Expand,
    LayerSpec,
    mirrored_up,
    pointwise,
    require_sides,
    up_layer,
)


class UNet(nn.Module):
    """The U-Net; `UNet()` is figure 1 of Ronneberger et al. 2015.

    23 convolutions and 31,030,658 parameters for 1 -> 2 channels, a tile of 572 px gives 388.
    Returns logits `(B, out_channels, *output)`. Every option departs from the figure and names
    its source; all of them keep the network local, so that tiles can equal the whole image
    (`tileable` says when a normalisation does not).

    Args:
        spatial_dims: 2, or 3 (Çiçek et al. 2016).
        in_channels: channels of the image.
        out_channels: number of classes.
        features: channels of each level, top to bottom; one more than there are poolings.
        padding: `"valid"`, unpadded convolutions (section 2), or `"same"`, zero-padded ones
            (most later U-Nets): output as large as the input.
        upsample: `"deconv"`, a transposed convolution as wide as its stride (the paper's 2x2
            up-conv); `"bilinear"`, 1x1 convolution and (tri)linear interpolation with
            `align_corners=False` (Odena et al. 2016 on checkerboards), cropped by 1 px a side in
            a valid net; `"unpool"`, 1x1 convolution and max-unpooling (SegNet, Badrinarayanan et
            al. 2017); `"pixelshuffle"`, 1x1 convolution and sub-pixel shuffle (Shi et al. 2016).
        norm: normalisation between convolution and activation, as MONAI names it: `"batch"`
            (Çiçek et al. 2016), `("group", {"num_groups": 8})`, ...; the paper has none.
        act: activation of the 3x3 convolutions, as MONAI names it.
        dropout: rate at the `dropout_levels` of the contracting path; the paper gives none, the
            release has 0.5.
        dropout_levels: levels that end in dropout, before their map feeds pooling and skip;
            negative ones count from the bottom. "At the end of the contracting path" (section 3).
        skip: `"crop-concat"` (figure 1), `"add"` (LinkNet, Chaurasia & Culurciello 2017), or
            `"none"` (an encoder-decoder).
        convs_per_level: 3x3 convolutions per level; the paper has 2.
        pool: side of the max-pooling windows and factor of the up-sampling; 2 in the paper. One
            for all, or one a pooling from top to bottom, which may be one an axis: `[(2, 2, 1), 2]`
            leaves the thick slices of `(X, Y, Z)` alone at first (nnU-Net, Isensee et al. 2021).
        kernel_size: width of the convolutions, odd; 3 in the paper. One for all, or one a level
            from top to bottom, which may be one an axis, such as `[(3, 3, 1), 3, 3]`.
        up_act: activation after each up-sampling layer; none in the paper, ReLU in the release.
        up_channels: `"halve"`, the level's own channels (section 2); `"keep"`, those from below
            (Çiçek et al. 2016); `"keep-last"`, kept at the top level only (release).
        up_bias: whether up-convolutions have a bias.
        double_before_pool: the first convolution of a contracting level gives half its channels
            "to avoid bottlenecks" (Çiçek et al. 2016, section 2).
        residual_levels: levels (0 is the top, `depth` the bottom) whose blocks add their input
            (He et al. 2016), in both paths.
        attention_levels: levels whose skip passes an additive attention gate (Oktay et al. 2018).
        init: `"he"`, N(0, sqrt(2/N)) with N incoming nodes (section 3; for up-convolutions N as
            the release counts it, `C_out * pool**spatial_dims`), or `"xavier"` (Glorot & Bengio
            2010, uniform). Biases are 0.
        any_size: with same padding, mirror an image at its far ends up to the next multiple of
            the stride, and cut the result back, as `OverlapTileInferer` does (MONAI's `BasicUNet`
            takes any size too).

    Attributes:
        depth: number of poolings.
        stride: product of the poolings, `pool**depth`; tiles keep to one result only at multiples
            of it. An integer where all axes agree, else one an axis.
        margin: context in px per side that an exact output needs; likewise.
        rules: of each axis, what `unet_med.geometry.Axis` is made of; TorchScript keeps them.
        tileable: false where a normalisation looks at the whole image. Batch normalisation is
            tileable in evaluation, when its statistics are fixed.

    Raises:
        ValueError: an option is unknown, or two of them do not go together.

    >>> net = UNet(features=(4, 8, 16))
    >>> net.depth, net.stride, net.margin, net.output_size(44)
    (2, 4, 20, 4)
    >>> net = UNet(3, features=(4, 8, 16), pool=[(2, 2, 1), 2], kernel_size=[(3, 3, 1), 3, 3])
    >>> net.stride, net.margin, net.output_size((44, 44, 18))
    ((4, 4, 2), (20, 20, 8), (4, 4, 2))
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512, 1024),
        *,
        padding: str = "valid",
        upsample: str = "deconv",
        norm: LayerSpec = None,
        act: LayerSpec = "relu",
        dropout: float = 0.5,
        dropout_levels: Sequence[int] = (-1,),
        skip: str = "crop-concat",
        convs_per_level: int = 2,
        pool: PerLevel = 2,
        kernel_size: PerLevel = 3,
        up_act: LayerSpec = None,
        up_channels: str = "halve",
        up_bias: bool = True,
        double_before_pool: bool = False,
        residual_levels: Sequence[int] = (),
        attention_levels: Sequence[int] = (),
        init: str = "he",
        any_size: bool = False,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims is {spatial_dims}; it must be 2 or 3")
        features = tuple(whole("features", channels) for channels in plain(features))
        if not features:
            raise ValueError("features is empty; it needs the channels of one level at least")
        look_up_option(padding, ("valid", "same"))
        look_up_option(upsample, ("deconv", "bilinear", "unpool", "pixelshuffle"))
        look_up_option(skip, ("crop-concat", "add", "none"))
        look_up_option(up_channels, ("halve", "keep", "keep-last"))
        look_up_option(init, ("he", "xavier"))
        if up_channels != "halve" and (skip == "add" or upsample == "unpool"):
            raise ValueError(
                f"up_channels={up_channels!r} does not fit the skip's channels, which "
                f"skip='add' and upsample='unpool' need; use up_channels='halve'"
            )
        if any_size and padding == "valid":
            raise ValueError(
                "any_size=True needs padding='same': what a valid network returns is smaller than "
                "what it reads; overlap-tile inference takes images of any size"
            )
        if skip == "none" and attention_levels:
            raise ValueError("attention_levels gate the skips, and skip='none' has none")

        self.any_size = any_size
        # all arguments by their names: NVFlare rebuilds a network from its class and these
        self.spatial_dims, self.in_channels, self.out_channels = (
            spatial_dims,
            in_channels,
            out_channels,
        )
        self.features, self.convs_per_level, self.pool = features, convs_per_level, plain(pool)
        self.padding, self.upsample, self.skip, self.init = padding, upsample, skip, init
        self.norm, self.act, self.up_act = norm, act, up_act
        self.dropout, self.dropout_levels = dropout, tuple(dropout_levels)
        self.up_channels, self.up_bias, self.double_before_pool = (
            up_channels,
            up_bias,
            double_before_pool,
        )
        self.residual_levels, self.attention_levels = (
            tuple(residual_levels),
            tuple(attention_levels),
        )
        self.depth = depth = len(features) - 1
        self.kernel_size = plain(kernel_size)
        self.axes = geometry.axes_of(
            spatial_dims,
            depth,
            pool=pool,
            kernel_size=kernel_size,
            convs_per_level=convs_per_level,
            bilinear=upsample == "bilinear",
            padding=padding,
        )
        self.rules = tuple(astuple(axis) for axis in self.axes)
        self.steps = [axis.stride for axis in self.axes]
        self.smallest = [axis.smallest for axis in self.axes]
        self.stride = alike([axis.stride for axis in self.axes])
        self.margin = alike([axis.margin for axis in self.axes])  # px
        pools = _by_level(axis.pools for axis in self.axes)
        kernels = _by_level(axis.kernels for axis in self.axes)
        cuts = _by_level(axis.cuts for axis in self.axes)
        residual = _levels(residual_levels, depth + 1)
        attention = _levels(attention_levels, depth)
        dropped = _levels(dropout_levels, depth + 1) if dropout > 0 else set()

        def block(level: int, before: int, first: int) -> ConvBlock:
            """The convolutions of a level: `before` -> `first` -> ... -> its features."""
            after = [features[level]] * convs_per_level
            return ConvBlock(
                spatial_dims,
                [before, first, *after[1:]] if convs_per_level > 1 else [before, *after],
                kernel=kernels[level],
                padding=padding,
                norm=norm,
                act=act,
                residual=level in residual,
            )

        # contracting path: convolutions, ReLU, max-pooling; channels double (section 2)
        self.contracting = nn.ModuleList()
        before = in_channels
        for level, channels in enumerate(features):
            first = channels // 2 if double_before_pool else channels
            layers: list[nn.Module] = [block(level, before, first)]
            if level in dropped:
                layers.append(Dropout[Dropout.DROPOUT, 1](dropout))
            self.contracting.append(nn.Sequential(*layers))
            before = channels
        self.bottom = self.contracting.pop(-1)
        self.poolings = nn.ModuleList(Pool[Pool.MAX, spatial_dims](alike(side)) for side in pools)

        # expanding path: up-convolution, skip, convolutions (section 2)
        self.expanding = nn.ModuleList()
        for level in reversed(range(depth)):
            keep = up_channels == "keep" or (up_channels == "keep-last" and level == 0)
            up = before if keep else features[level]
            joined = up + features[level] if skip == "crop-concat" else up
            gated = level in attention
            expand = Expand(
                up_layer(
                    upsample,
                    spatial_dims,
                    before,
                    up,
                    factor=pools[level],
                    crop=cuts[level],
                    bias=up_bias,
                ),
                nn.Identity() if up_act is None else get_act_layer(up_act),
                block(level, joined, features[level]),
                gate=AttentionGate(spatial_dims, features[level], up) if gated else None,
                skip=skip,
                factor=pools[level],
                unpool=upsample == "unpool",
            )
            self.expanding.append(expand)
            before = features[level]
        self.logits = pointwise(spatial_dims, before, out_channels)  # "1x1 convolution ... classes"
        self._initialise(init)
        self.tileable = all(_is_local(module) for module in self.modules())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`, of a batch whose sides fit.

        Here, and not in `forward`, of which alone TorchScript makes a program, with a check of its
        own; and only for integers, which sides are not where a network is traced or exported.
        """
        image = args[0] if args else kwargs.get("x")
        if image is not None and image.dim() != self.spatial_dims + 2:
            raise ValueError(
                f"input of shape {tuple(image.shape)} is no batch of {self.spatial_dims}-D images "
                "(B, C, *S)"
            )
        if image is not None and all(type(side) is int for side in image.shape[2:]):
            self.output_size(tuple(image.shape[2:]))
        return super().__call__(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of an image.

        Args:
            x: `(B, in_channels, *S)`; in a valid net each side is one that `input_size_for`
                gives, in a same-padding net a multiple of its axis's `stride`, or with `any_size`
                any.

        Returns:
            `(B, out_channels, *output_size(S))`; of a MetaTensor, as torch's operations have it,
            one with the input's affine, which says nothing of the `margin` that a valid net loses.

        Raises:
            ValueError: no batch of images, or a side does not fit; the message has the nearest
                that do.
        """
        sides = x.shape[2:]
        if self.any_size:
            x = mirrored_up(x, self.steps)
        elif torch.jit.is_scripting():  # there nothing else has looked at the sides
            require_sides(list(sides), self.smallest, self.steps)
        skips: list[Tensor] = []
        for level, pooling in zip(self.contracting, self.poolings):  # noqa: B905 - TorchScript
            x = level(x)  # (B, C, *(S - 4))
            skips.append(x)
            x = pooling(x)  # (B, C, *(S / 2))
        x = self.bottom(x)  # (B, 1024, *(S - 4))
        for expand in self.expanding:
            x = expand(x, skips.pop())  # (B, C / 2, *(2 S - 4))
        x = self.logits(x)  # (B, out_channels, *S)
        if self.any_size:
            for axis in range(len(sides)):
                x = x.narrow(axis + 2, 0, sides[axis])
        return x

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch does; with `strict=False` too, a state of which no name fits is refused.

        Clients load what they take for a model with `strict=False`, and would go on with random
        weights.

        Raises:
            ValueError: no name fits.
            RuntimeError: with `strict`, some do not; or a shape does not.
        """
        if not set(state_dict) & set(self.state_dict()):
            names = ", ".join(map(str, list(state_dict)[:3])) or "nothing"
            raise ValueError(
                f"none of the weights fits this U-Net: they are called {names} ...; give the "
                "model.pt of a bundle, with the preset and features of its training"
            )
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def output_size(self, n: PerAxis) -> int | tuple[int, ...]:
        """Side of the output for one input side, px (`geometry.Axis.output_size`).

        Args:
            n: one side for all axes, or one an axis, for which one an axis comes back.

        Raises:
            ValueError: `n` does not fit; the message has the nearest sides that do.
        """
        return self._sides(self._output_side, n)

    def input_size_for(self, out: PerAxis) -> int | tuple[int, ...]:
        """Smallest input side whose output is at least `out`, px (`geometry.Axis.input_size_for`).

        Args:
            out: one side for all axes, or one an axis, for which one an axis comes back.
        """
        return self._sides(Axis.input_size_for, out)

    def _output_side(self, axis: Axis, side: int) -> int:
        if self.any_size and side > -side % axis.stride:
            return side
        try:
            return axis.output_size(side)
        except ValueError as error:
            if self.any_size or self.padding == "valid":
                raise
            raise ValueError(f"{error}, or any_size=True, which mirrors up to it") from None

    def _sides(self, rule: Callable[[Axis, int], int], given: PerAxis) -> int | tuple[int, ...]:
        """What a rule makes of sides; an integer of an integer where all axes agree."""
        each = per_axis("size", given, self.spatial_dims)
        found = []
        for number, (axis, side) in enumerate(zip(self.axes, each, strict=True)):
            try:
                found.append(rule(axis, side))
            except ValueError as error:
                if len(set(self.axes)) == 1:
                    raise
                raise ValueError(f"axis {number}: {error}") from None
        return alike(found) if isinstance(plain(given), int) else tuple(found)

    def _initialise(self, init: str) -> None:
        """Draws the weights (section 3) and zeroes the biases of all convolutions."""
        for module in self.modules():
            if not isinstance(module, nn.modules.conv._ConvNd) or module.weight.is_meta:
                continue  # without memory nothing is kept, and torch loads its compiler to draw it
            if init == "he":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _by_level(numbers: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """One tuple of axes a level, from one tuple of levels an axis."""
    return list(zip(*numbers, strict=True))


def _levels(levels: Sequence[int], count: int) -> set[int]:
    """Levels counted from the top, from ones that may be negative."""
    for level in levels:
        if not -count <= level < count:
            raise ValueError(f"level {level} is none of the {count}: 0 to {count - 1}")
    return {level % count for level in levels}


def _is_local(module: nn.Module) -> bool:
    """False for a normalisation that computes statistics over the image in evaluation."""
    if isinstance(module, _NormBase):  # batch and instance normalisation
        return module.track_running_stats
    return not isinstance(module, nn.GroupNorm | nn.LayerNorm)
