"""One axis of a U-Net, level by level: all that sizes, margins and tiles follow from.

With ``s`` the product of the poolings above a level (its pixel, in pixels of the image) and ``h``
the pixels that its convolutions look beyond on each side, a valid axis loses per side

    context = sum over the levels but the lowest of (2 h + crop) s, and h s of the lowest,

and what enters a level is a multiple of its pooling only where the image's side leaves the same
rest by ``stride``, the product of all poolings, as twice the sum of ``h s``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from operator import mul
from typing import TypeVar

from unet_med.geometry.plain import plain, whole

T = TypeVar("T")
PerAxis = int | Sequence[int]
"""One number for all axes, or one an axis."""
PerLevel = int | Sequence[int | Sequence[int]]
"""One number for all levels, or one a level from top to bottom, which may be one an axis."""


@dataclass(frozen=True)
class Axis:
    """What a U-Net does along one axis of an image.

    Attributes:
        pools: factor of each pooling, top to bottom; 1 where it leaves this axis alone.
        kernels: width of the convolutions of each level, px of that level, odd; one more than
            there are poolings.
        convs_per_level: convolutions of a level, in each path.
        crops: px that the up-sampling to each level looks beyond its own cell, which a valid
            network cuts from each side; top to bottom.
        padding: ``"valid"`` or ``"same"``.

    Raises:
        ValueError: an attribute is out of range.

    >>> thick = Axis(pools=(1, 2, 2), kernels=(1, 3, 3, 3), crops=(0, 0, 0))
    >>> thick.stride, thick.margin, thick.output_size(44)
    (4, 20, 4)
    """

    pools: tuple[int, ...] = (2, 2, 2, 2)
    kernels: tuple[int, ...] = (3, 3, 3, 3, 3)
    convs_per_level: int = 2
    crops: tuple[int, ...] = (0, 0, 0, 0)
    padding: str = "valid"

    def __post_init__(self) -> None:
        for name, values, least in (
            ("pool", self.pools, 1),
            ("convs_per_level", (self.convs_per_level,), 1),
            ("kernel_size", self.kernels, 1),
            ("upsample_crop", self.crops, 0),
        ):
            for value in values:
                if value < least:
                    raise ValueError(f"{name} {value} is less than {least}")
        for kernel in self.kernels:
            if kernel % 2 == 0:
                raise ValueError(f"kernel_size {kernel} has no middle; it must be odd")

    @property
    def stride(self) -> int:
        """Shifts by multiples of it, and only those, move the result along, px."""
        return prod(self.pools)

    @property
    def context(self) -> int:
        """Pixels that a valid network loses on each side."""
        return sum(
            ((1 + (level < len(self.pools))) * look + crop) * pixel
            for level, (look, crop, pixel) in enumerate(self._levels())
        )

    @property
    def margin(self) -> int:
        """Context on each side that an exact output needs, px.

        In a same-padded network pixels that share a cell of the lowest level reach up to
        ``stride - 1`` further; the sum is rounded up to the stride, so that tiles that carry it
        stay aligned.
        """
        if self.padding == "valid":
            return self.context
        return up_to(self.stride, self.context + self.stride - 1)

    @property
    def lost(self) -> int:
        """Pixels by which the output is smaller than the input, on each side."""
        return self.context if self.padding == "valid" else 0

    @property
    def smallest(self) -> int:
        """Smallest input side; the others follow in steps of `stride`, px."""
        if self.padding == "same":
            return self.stride
        spent = sum(look * pixel for look, _, pixel in list(self._levels())[:-1])
        cut = sum(crop * pixel for _, crop, pixel in self._levels())
        return (-2 * (spent + cut) - 1) % self.stride + 1 + 2 * self.context

    @property
    def cuts(self) -> tuple[int, ...]:
        """Pixels cut from each side after the up-sampling to each level, top to bottom."""
        return self.crops if self.padding == "valid" else (0,) * len(self.crops)

    def side_from(self, least: int) -> int:
        """Smallest input side that is at least so many px."""
        return self.smallest + max(0, up_to(self.stride, least - self.smallest))

    def input_size_for(self, out: int) -> int:
        """Smallest input side whose output is at least `out`, px.

        Raises:
            ValueError: `out` is less than 1.
        """
        if out < 1:
            raise ValueError(f"output side {out} px is less than 1")
        return self.side_from(out + 2 * self.lost)

    def output_size(self, n: int) -> int:
        """Side of the output for an input side, px.

        Raises:
            ValueError: a side does not divide before a pooling, or nothing is left; the message
                names the pooling and the nearest sides that do.
        """
        if self.padding == "same":
            return same_size(n, self.stride)
        below = n - (n - self.smallest) % self.stride
        if below == n >= self.smallest:
            return n - 2 * self.lost
        near = f"sides for {self._named()}: {below}, {below + self.stride}"
        if below < self.smallest:
            near = f"side for {self._named()}: {self.smallest}"
        fault = self._fault(n) or f"leaves no output ({n - 2 * self.lost} px)"
        raise ValueError(f"input side {n} px {fault}; nearest valid {near}")

    def _levels(self) -> Iterator[tuple[int, int, int]]:
        """Of each level, top to bottom: look and crop, px of the level; its pixel, px."""
        pixels = accumulate(self.pools, mul, initial=1)
        for kernel, crop, pixel in zip(self.kernels, (*self.crops, 0), pixels, strict=True):
            yield self.convs_per_level * (kernel // 2), crop, pixel

    def _named(self) -> str:
        """The levels in words: by their number where they are all alike."""
        if len(set(self.pools)) <= 1:
            return f"depth {len(self.pools)}"
        return f"poolings by {', '.join(map(str, self.pools))}"

    def _fault(self, side: int) -> str:
        """Which pooling an input side fails at; empty where it passes them all."""
        levels = zip(self.pools, self._levels(), strict=False)
        for pooling, (pool, (look, _, _)) in enumerate(levels, start=1):
            side -= 2 * look
            if side < 1:
                return ""
            if side % pool:
                rule = "odd" if pool == 2 else f"no multiple of {pool}"
                return f"is {rule} ({side}) before pooling {pooling}"
            side //= pool
        return ""


def axes_of(
    spatial_dims: int,
    depth: int,
    *,
    pool: PerLevel = 2,
    kernel_size: PerLevel = 3,
    convs_per_level: int = 2,
    bilinear: bool = False,
    padding: str = "valid",
) -> tuple[Axis, ...]:
    """The axes of a network from the arguments of `unet_med.networks.UNet`.

    Args:
        spatial_dims: axes of an image.
        depth: number of poolings.
        pool: factor of the poolings: one, or one a pooling, which may be one an axis.
        kernel_size: width of the convolutions: one, or one a level, which may be one an axis.
        convs_per_level: convolutions of a level, in each path.
        bilinear: whether up-sampling interpolates, and so looks beyond its own cell.
        padding: ``"valid"`` or ``"same"``.

    Raises:
        ValueError: a number is out of range, there is not one a level and axis, or a pooling
            leaves every axis alone.

    >>> thick, fine = axes_of(2, 2, pool=[(1, 2), 2], kernel_size=[(1, 3), 3, 3])
    >>> thick.stride, fine.stride, thick.margin, fine.margin
    (2, 4, 8, 20)
    """
    pools = _spread("pool", pool, depth, spatial_dims, "poolings")
    kernels = _spread("kernel_size", kernel_size, depth + 1, spatial_dims, "levels")
    for factors in pools:
        if max(factors) == 1:
            raise ValueError(
                f"pool {alike(factors)} is less than 2 along every axis: take out this pooling, "
                "and one of the features"
            )
    return tuple(
        Axis(
            pools=tuple(factors[axis] for factors in pools),
            kernels=tuple(widths[axis] for widths in kernels),
            convs_per_level=convs_per_level,
            crops=tuple(factors[axis] // 2 if bilinear else 0 for factors in pools),
            padding=padding,
        )
        for axis in range(spatial_dims)
    )


def alike(values: Sequence[T]) -> T | tuple[T, ...]:
    """The one value of all axes where they agree, else one an axis.

    >>> alike([16, 16]), alike([16, 16, 4])
    (16, (16, 16, 4))
    """
    return values[0] if len(set(values)) == 1 else tuple(values)


def per_axis(name: str, value: PerAxis, count: int) -> tuple[int, ...]:
    """One number an axis, from one for all or one an axis.

    Raises:
        ValueError: there are not as many as axes.
        TypeError: a number is not whole.
    """
    given = plain(value)
    values = tuple(given) if isinstance(given, Iterable) else (given,) * count
    if len(values) != count:
        raise ValueError(f"{name} {value} has {len(values)} values for {count} axes")
    return tuple(whole(name, number) for number in values)


def same_size(n: int, stride: int = 16) -> int:
    """Side of the map that a same-padded U-Net returns for an input side, px: the same.

    Args:
        n: input side, px.
        stride: product of the poolings, px; the paper's four by 2 give 16.

    Returns:
        `n`.

    Raises:
        ValueError: `n` is no multiple of `stride`; the message has the nearest that are.

    >>> same_size(512)
    512
    """
    if n > 0 and n % stride == 0:
        return n
    below = n - n % stride
    near = f"{below}, {below + stride}" if below > 0 else f"{stride}"
    raise ValueError(
        f"input side {n} px is no multiple of {stride}; "
        f"nearest side{'s' if below > 0 else ''} for same padding: {near}"
    )


def up_to(multiple: int, value: int) -> int:
    """Smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


def _spread(
    name: str, given: PerLevel, count: int, dims: int, levels: str
) -> list[tuple[int, ...]]:
    """One number a level and axis."""
    every = plain(given)
    each = list(every) if isinstance(every, Iterable) else [every] * count
    if len(each) != count:
        raise ValueError(
            f"{name} {given} has {len(each)} entries for {count} {levels}: give one number, or "
            f"one a level from top to bottom, which may be one an axis"
        )
    return [per_axis(name, level, dims) for level in each]
