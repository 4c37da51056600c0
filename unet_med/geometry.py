"""Sizes, margins and tiles of U-Nets: integers only, in pixels.

A U-Net with unpadded ("valid") convolutions returns less than it reads
(Ronneberger et al. 2015, section 2, figure 1), and what it returns moves with
its input only in steps of its stride, ``pool**depth``. Both facts are settled
here, so that tensor code only slices.

The arithmetic, with ``G = 1 + pool + ... + pool**(depth - 1)`` and ``k`` the
side that enters the lowest level::

    input  = pool**depth * k                          + 2 * convs_per_level * G
    output = pool**depth * (k - 2 * convs_per_level) - 2 * (convs_per_level + upsample_crop) * G

Every function takes the same keywords: ``convs_per_level`` counts the 3-wide
convolutions of a level, ``pool`` is the pooling factor, ``upsample_crop`` the
pixels cut from each side after every up-sampling (0 for transposed convolution,
pixel shuffle and unpooling; ``pool // 2`` for bilinear in a valid network, whose
outermost pixels depend on where the map ends).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

__all__ = [
    "Tile",
    "cheapest_tile",
    "halo",
    "input_size_for",
    "margin",
    "mirror_index",
    "output_size",
    "same_size",
    "tile_grid",
    "valid_input_sizes",
]


def margin(
    depth: int = 4, *, convs_per_level: int = 2, pool: int = 2, upsample_crop: int = 0
) -> int:
    """Context that a valid U-Net loses on each side, px: half of input minus output.

    Args:
        depth: number of poolings; the paper uses 4.
        convs_per_level: 3-wide unpadded convolutions a level.
        pool: pooling factor.
        upsample_crop: px cut from each side after every up-sampling.

    Returns:
        Margin, px; ``6 * 2**depth - 4`` for the paper's network.

    Raises:
        ValueError: an argument is out of range.

    >>> margin(), margin(3), margin(upsample_crop=1)
    (92, 44, 107)
    """
    return _constants(depth, convs_per_level, pool, upsample_crop)[1]


def halo(depth: int = 4, *, convs_per_level: int = 2, pool: int = 2, upsample_crop: int = 0) -> int:
    """Context that a same-padded U-Net needs on each side for exact tiling, px.

    Pixels that share a cell of the lowest level reach up to ``pool**depth - 1``
    further than the margin. The sum is rounded up to the stride, so that tiles
    that carry it stay aligned.

    Args:
        depth: number of poolings.
        convs_per_level: 3-wide convolutions a level.
        pool: pooling factor.
        upsample_crop: px by which one up-sampling looks beyond its own cell
            (1 for bilinear, 0 otherwise); nothing is cut in a padded network.

    Returns:
        Halo, px, a multiple of ``pool**depth``.

    Raises:
        ValueError: an argument is out of range.

    >>> halo(), halo(upsample_crop=1)
    (112, 128)
    """
    stride, lost, _ = _constants(depth, convs_per_level, pool, upsample_crop)
    return _up_to(stride, lost + stride - 1)


def output_size(
    n: int, depth: int = 4, *, convs_per_level: int = 2, pool: int = 2, upsample_crop: int = 0
) -> int:
    """Side of the map that a valid U-Net returns for an input side, px.

    Args:
        n: input side, px.
        depth: number of poolings; the paper uses 4.
        convs_per_level: 3-wide unpadded convolutions a level.
        pool: pooling factor.
        upsample_crop: px cut from each side after every up-sampling.

    Returns:
        Output side, px, always smaller.

    Raises:
        ValueError: a side does not divide by ``pool`` before a pooling, or nothing
            is left; the message names the pooling and the nearest valid sides.

    >>> output_size(572)
    388
    """
    stride, lost, smallest = _constants(depth, convs_per_level, pool, upsample_crop)
    below = n - (n - smallest) % stride
    if below == n >= smallest:
        return n - 2 * lost
    near = f"sides for depth {depth}: {below}, {below + stride}"
    if below < smallest:
        near = f"side for depth {depth}: {smallest}"
    fault = _fault(n, depth, convs_per_level, pool) or f"leaves no output ({n - 2 * lost} px)"
    raise ValueError(f"input side {n} px {fault}; nearest valid {near}")


def input_size_for(
    out: int, depth: int = 4, *, convs_per_level: int = 2, pool: int = 2, upsample_crop: int = 0
) -> int:
    """Smallest valid input side whose output is at least `out`, px.

    Args:
        out: wanted output side, px, at least 1.
        depth: number of poolings; the paper uses 4.
        convs_per_level: 3-wide unpadded convolutions a level.
        pool: pooling factor.
        upsample_crop: px cut from each side after every up-sampling.

    Returns:
        Input side, px.

    Raises:
        ValueError: `out` is less than 1, or another argument is out of range.

    >>> input_size_for(512), output_size(700)
    (700, 516)
    """
    if out < 1:
        raise ValueError(f"output side {out} px is less than 1")
    stride, lost, smallest = _constants(depth, convs_per_level, pool, upsample_crop)
    return smallest + max(0, _up_to(stride, out + 2 * lost - smallest))


def same_size(n: int, stride: int = 16) -> int:
    """Side of the map that a same-padded U-Net returns for an input side, px: the same.

    Args:
        n: input side, px.
        stride: ``pool**depth``, px; the paper's depth and pooling give 16.

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


def valid_input_sizes(
    lo: int,
    hi: int,
    depth: int = 4,
    *,
    convs_per_level: int = 2,
    pool: int = 2,
    upsample_crop: int = 0,
) -> range:
    """All valid input sides from `lo` to `hi`, both included, px.

    Args:
        lo: smallest side of interest, px.
        hi: largest side of interest, px.
        depth: number of poolings; the paper uses 4.
        convs_per_level: 3-wide unpadded convolutions a level.
        pool: pooling factor.
        upsample_crop: px cut from each side after every up-sampling.

    Returns:
        Ascending range with step ``pool**depth``; empty where there is none.

    Raises:
        ValueError: an argument is out of range.

    >>> list(valid_input_sizes(0, 220))
    [188, 204, 220]
    """
    stride, _, smallest = _constants(depth, convs_per_level, pool, upsample_crop)
    return range(smallest + max(0, _up_to(stride, lo - smallest)), hi + 1, stride)


@dataclass(frozen=True)
class Tile:
    """One pass of the network: what it reads and which pixels it alone writes.

    Both are one ``(start, stop)`` pair an axis in px, counted from the image's
    first pixel. `read` may begin below 0 and end beyond the image: there the image
    is mirrored (`mirror_index`). `write` lies inside the image.
    """

    read: tuple[tuple[int, int], ...]
    write: tuple[tuple[int, int], ...]

    def crop(self, lost: int = 0) -> tuple[slice, ...]:
        """Where `write` lies in the network's output for `read`.

        Args:
            lost: px by which the output is smaller than the input on each side: the
                margin of a valid network, 0 for a same-padded one.

        Returns:
            One slice an axis, relative to the output's first pixel.
        """
        return tuple(
            slice(start - first - lost, stop - first - lost)
            for (first, _), (start, stop) in zip(self.read, self.write, strict=True)
        )


def tile_grid(
    shape: Sequence[int],
    tile: Sequence[int],
    *,
    margin: int,
    stride: int,
    padding: str = "valid",
) -> list[Tile]:
    """Tiles that together write every pixel of an image exactly once.

    All tiles read windows of one shape, and their windows start whole strides
    apart: a U-Net repeats its result only under such shifts. Steps are spread
    evenly. A valid network's first window starts `margin` before the image; a
    same-padded network's windows stay inside the image extended at its far end to
    a multiple of the stride, because the zeros inside the network belong at
    exactly that edge, and keep `margin` px from every other edge of a window.

    Args:
        shape: sides of the image, px.
        tile: input sides of the network, px; a same-padded network's are cut to the
            extended image.
        margin: px each tile loses per side (valid), or that cannot be trusted next
            to a window's edge inside the image (same; see `halo`).
        stride: ``pool**depth`` of the network, px.
        padding: ``"valid"`` or ``"same"``.

    Returns:
        Tiles in row-major order.

    Raises:
        ValueError: a tile is too small to cover its axis.

    >>> [t.write for t in tile_grid((600,), (572,), margin=92, stride=16)]
    [((0, 224),), ((224, 600),)]
    """
    axes = [
        _windows(length, side, margin, stride, padding)
        for length, side in zip(shape, tile, strict=True)
    ]
    return [
        Tile(read=tuple(read for read, _ in windows), write=tuple(write for _, write in windows))
        for windows in product(*axes)
    ]


def cheapest_tile(
    length: int, sides: Sequence[int], *, margin: int, stride: int, padding: str = "valid"
) -> int:
    """Tile side that covers an axis with the fewest pixels read, px.

    An even split: where two tiles are needed, two small ones, not a full and a
    thin one.

    Args:
        length: side of the image, px.
        sides: sides to choose from, each large enough to cover the axis.
        margin: as in `tile_grid`.
        stride: as in `tile_grid`.
        padding: as in `tile_grid`.

    Returns:
        The side with the least ``tiles * side``; of equals the largest.

    Raises:
        ValueError: one of `sides` is too small to cover the axis.

    >>> cheapest_tile(520, valid_input_sizes(204, 700), margin=92, stride=16)
    460
    """
    return min(
        sides, key=lambda side: (len(_windows(length, side, margin, stride, padding)) * side, -side)
    )


def mirror_index(i: int, length: int) -> int:
    """Pixel that stands at position `i` of an endlessly mirrored axis.

    The edge pixel is not repeated (the release's border, numpy's ``reflect``);
    beyond the far edge the axis is mirrored again. An axis of one pixel repeats it.

    Args:
        i: position, px, any integer.
        length: side of the image, px.

    Returns:
        Index from 0 to ``length - 1``.

    >>> [mirror_index(i, 3) for i in range(-3, 6)]
    [1, 2, 1, 0, 1, 2, 1, 0, 1]
    """
    period = max(1, 2 * (length - 1))
    return min(i % period, -i % period)


def _windows(
    length: int, side: int, margin: int, stride: int, padding: str
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(read, write) pairs along one axis; see `tile_grid`."""
    first, end = -margin, length + margin
    if padding == "same":
        first, end = 0, _up_to(stride, length)
        side = min(side, end)
    # From the first window to the last, in strides, and at most so many a step.
    span = max(0, -(-(end - first - side) // stride))
    step = (side - 2 * margin) // stride
    if span and step < 1:
        raise ValueError(
            f"tile side {side} px keeps {side - 2 * margin} px between margins of {margin} px, "
            f"less than one step of {stride} px; smallest side that tiles {length} px: "
            f"{side + stride * (1 - step)}"
        )
    last = -(-span // step) if span else 0
    starts = [first + stride * (span * i // max(1, last)) for i in range(last + 1)]
    bounds = [0, *(start + margin for start in starts[1:]), length]
    return [((start, start + side), (bounds[i], bounds[i + 1])) for i, start in enumerate(starts)]


def _constants(
    depth: int, convs_per_level: int, pool: int, upsample_crop: int
) -> tuple[int, int, int]:
    """Stride, margin and smallest valid input side, px."""
    for name, value, least in (
        ("depth", depth, 0),
        ("convs_per_level", convs_per_level, 1),
        ("pool", pool, 2),
        ("upsample_crop", upsample_crop, 0),
    ):
        if value < least:
            raise ValueError(f"{name} {value} is less than {least}")
    stride = pool**depth
    levels = (stride - 1) // (pool - 1)  # 1 + pool + ... + pool**(depth - 1)
    lost = (2 * convs_per_level + upsample_crop) * levels + convs_per_level * stride
    least_output = (-2 * (convs_per_level + upsample_crop) * levels - 1) % stride + 1
    return stride, lost, least_output + 2 * lost


def _fault(side: int, depth: int, convs_per_level: int, pool: int) -> str:
    """Which pooling an input side fails at; empty where it passes them all."""
    for pooling in range(1, depth + 1):
        side -= 2 * convs_per_level
        if side < 1:
            return ""
        if side % pool:
            rule = "odd" if pool == 2 else f"no multiple of {pool}"
            return f"is {rule} ({side}) before pooling {pooling}"
        side //= pool
    return ""


def _up_to(multiple: int, value: int) -> int:
    """Smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple
