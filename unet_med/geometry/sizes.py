"""Sizes and margins of a U-Net whose levels and axes are all alike, as the paper's are.

The arithmetic, with ``G = 1 + pool + ... + pool**(depth - 1)`` and ``k`` the
side that enters the lowest level::

    input  = pool**depth * k                          + 2 * convs_per_level * G
    output = pool**depth * (k - 2 * convs_per_level) - 2 * (convs_per_level + upsample_crop) * G

Every function takes the same keywords: ``convs_per_level`` counts the 3-wide
convolutions of a level, ``pool`` is the pooling factor, ``upsample_crop`` the
pixels cut from each side after every up-sampling (0 for transposed convolution,
pixel shuffle and unpooling; ``pool // 2`` for bilinear in a valid network, whose
outermost pixels depend on where the map ends). `Axis` has the arithmetic for levels that differ.
"""

from __future__ import annotations

from functools import lru_cache

from unet_med.geometry.axis import Axis


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
    return _axis(depth, convs_per_level, pool, upsample_crop).context


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
    return _axis(depth, convs_per_level, pool, upsample_crop, "same").margin


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
    return _axis(depth, convs_per_level, pool, upsample_crop).output_size(n)


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
    return _axis(depth, convs_per_level, pool, upsample_crop).input_size_for(out)


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
    axis = _axis(depth, convs_per_level, pool, upsample_crop)
    return range(axis.side_from(lo), hi + 1, axis.stride)


@lru_cache
def _axis(
    depth: int, convs_per_level: int, pool: int, upsample_crop: int, padding: str = "valid"
) -> Axis:
    """The axis whose levels are all alike."""
    for name, value, least in (("depth", depth, 0), ("pool", pool, 2)):
        if value < least:
            raise ValueError(f"{name} {value} is less than {least}")
    return Axis(
        (pool,) * depth, (3,) * (depth + 1), convs_per_level, (upsample_crop,) * depth, padding
    )
