"""Find the two nearest instances of chosen pixels, for all instances at once.

An integer, the key, holds the square of a distance in its upper bits and the number of an
instance in its lower bits: the least key belongs to the nearest instance. Keys spread along
one axis after the other. The cost does not grow with the number of instances.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

Array = NDArray[Any]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Pair = tuple[Array, Array]  # keys of the nearest and of the second-nearest instance

BLOCK = 2**16  # pixels at a time: their keys stay in the cache
FEW = 0.7  # share of pixels that still search; below it the others are left out


class Keys(NamedTuple):
    """How a squared distance and the number of an instance share one integer.

    The unit of squares is `unit**2 / scale`. Where the square of each side of a pixel is a
    multiple of the shortest side's, squares are whole numbers and nothing is rounded; else they
    are as fine as 64 bits allow.
    """

    bits: int  # of the number, the lower ones
    unit: float  # length of the pixel's shortest side
    scale: float
    far: int  # square that stands for all above the reach
    dtype: type[np.signedinteger[Any]]

    @classmethod
    def of(cls, largest: int, width: int, pixel: tuple[float, ...], reach: float) -> Keys:
        """Keys for numbers up to `largest`, rows of `width` pixels, distances up to `reach`."""
        bits, unit = max(1, largest.bit_length()), min(pixel)
        far = ((reach + max(pixel)) / unit) ** 2
        whole = all(((step / unit) ** 2).is_integer() for step in pixel)
        scale = 1.0 if whole else 2.0 ** (60 - bits - math.ceil(math.log2(far)))
        square = math.ceil(far * scale)
        across = width + math.ceil(reach / pixel[-1]) + 3  # see `_beside`
        small = max(2 * square + 2, across) << bits <= np.iinfo(np.int32).max
        return cls(bits, unit, scale, square, np.int32 if small else np.int64)

    def of_distance(self, distance: float) -> int:
        """The largest key at which an instance is no further than that."""
        square = math.ceil((distance / self.unit) ** 2 * self.scale)
        return ((square + 1) << self.bits) - 1

    def square(self, step: float) -> int:
        """The square of a pixel's side."""
        return round((step / self.unit) ** 2 * self.scale)

    def number(self, keys: Array) -> Array:
        """The instances."""
        return keys & self.dtype((1 << self.bits) - 1)

    def nothing(self, shape: tuple[int, ...] | int) -> Array:
        """Keys that stand for no instance: beyond the reach."""
        return np.full(shape, self.far << self.bits, self.dtype)

    def distances(self, keys: Array) -> Floats:
        """The distances, in the unit of the pixel's sides."""
        return np.sqrt((keys >> self.bits) * (self.unit**2 / self.scale)).astype(np.float32)

    def nearest(self, one: Pair, other: Pair) -> Pair:
        """The two nearest among the instances of two pairs; those of one pair differ."""
        same = self.number(one[0] ^ other[0]) == 0
        second = np.maximum(one[0], other[0])
        np.maximum(second, same * self.dtype((self.far + 1) << self.bits), out=second)
        np.minimum(second, one[1], out=second)
        np.minimum(second, other[1], out=second)
        return np.minimum(one[0], other[0]), second


def minima_over_keys(
    labels: Array,
    wanted: Mask,
    pixel: tuple[float, ...],
    reach: float,
    *,
    total: float = math.inf,
    block: int = BLOCK,
) -> tuple[Floats, Floats]:
    """Distances d1 and d2 of the wanted pixels.

    Two keys a pixel are enough. A distance runs along one axis and then the next. Where it turns,
    an instance that is nearer than this one is nearer to the pixel, too: so an instance that is
    among the pixel's two nearest is among the two nearest at every turn.

    Args:
        labels: instances `(*S)`, positive numbers.
        wanted: the pixels, `(*S)`.
        pixel: size of a pixel along each axis.
        reach: distances above may come back as any that are above.
        total: where d1 + d2 is larger than this, any larger sum may come back.
        block: pixels that are computed at a time.

    Returns:
        d1 and d2, float32, of the wanted pixels in their order.
    """
    keys = Keys.of(int(labels.max(initial=0)), labels.shape[-1], pixel, reach)
    margins = [math.ceil(reach / step) for step in pixel]
    pair = _along_rows(labels, margins[-1], keys.square(pixel[-1]), keys, block)
    for axis in reversed(range(labels.ndim - 1)):
        here = wanted
        for other in range(axis):  # pixels that the wanted ones will look at
            here = maximum_filter1d(here, 2 * margins[other] + 1, other)
        margin = min(margins[axis], labels.shape[axis] - 1)
        line = _Line(keys, pixel[axis], margin, total if axis == 0 else math.inf, block)
        pair = line.spread(pair, axis, here)
    return keys.distances(pair[0][wanted]), keys.distances(pair[1][wanted])


def _along_rows(labels: Array, margin: int, square: int, keys: Keys, block: int) -> Pair:
    """Keys of the two nearest instances within each row, the last axis."""
    rows = labels.reshape(-1, labels.shape[-1])
    pair = np.empty(rows.shape, keys.dtype), np.empty(rows.shape, keys.dtype)
    height = max(1, block // rows.shape[1])
    for start in range(0, len(rows), height):
        part = slice(start, start + height)
        for found, near in zip(pair, _within_rows(rows[part], margin, keys), strict=True):
            squares = np.minimum(near >> keys.bits, margin + 1)
            squares *= squares
            squares *= square
            np.minimum(squares, keys.far, out=squares)
            squares <<= keys.bits
            np.bitwise_or(squares, keys.number(near), out=found[part])
    return pair[0].reshape(labels.shape), pair[1].reshape(labels.shape)


def _within_rows(rows: Array, margin: int, keys: Keys) -> Pair:
    """The two nearest instances in each row; these keys hold pixels instead of squares.

    A row is a sequence of runs of one instance each, with an empty run at its beginning. From
    the beginning of one run to the beginning of the next, the neighbours on both sides stay the
    same.
    """
    height, width = rows.shape
    padded = np.zeros((height + 1, width + 1), keys.dtype)
    np.maximum(rows, 0, out=padded[:-1, 1:])
    flat = padded.ravel()[: height * (width + 1) + 1]  # and a run of nothing at the end
    change, inside = flat[1:] != flat[:-1], flat > 0
    begins, ends = np.zeros(flat.shape, bool), np.zeros(flat.shape, bool)
    begins[1:], ends[:-1] = change & inside[1:], change & inside[:-1]
    begins[:: width + 1] = ends[:: width + 1] = True
    begin, end = np.flatnonzero(begins), np.flatnonzero(ends)
    column = np.arange(width + 1, dtype=keys.dtype) << keys.bits

    def spread(table: Array) -> Array:
        values = np.repeat(table.astype(keys.dtype), np.diff(begin))
        return values.reshape(height, width + 1)

    far = -(margin + 1), width + margin + 2  # columns of nothing
    tables = _beside((begin % (width + 1), end % (width + 1)), flat[begin], far, keys.bits)
    left, further_left, right, further_right = map(spread, tables)
    left, right = np.maximum(column - left, padded[:-1]), right - column  # 0 px within a run
    near = keys.nearest((left, column - further_left), (right, further_right - column))
    return near[0][:, 1:], near[1][:, 1:]


def _beside(
    columns: tuple[Array, Array], number: Array, far: tuple[int, int], bits: int
) -> tuple[Array, Array, Array, Array]:
    """Columns and numbers of the runs on both sides, and of the next runs of other instances.

    On the left the number is subtracted, on the right it is added. So the key of a pixel is
    `column - left` or `right - column`.

    Args:
        columns: the first and the last one of each run.
        number: its instance, or 0 for the empty run between two rows.
        far: columns that stand for no instance on the left and on the right.
        bits: of a number.
    """
    nothing, order, last = number == 0, np.arange(len(number)), len(number) - 1
    left = np.where(nothing, far[0] << bits, (columns[1] << bits) - number)
    right = np.where(nothing, far[1] << bits, (columns[0] << bits) + number)
    differs = number[1:] != number[:-1]
    before = np.maximum.accumulate(np.append(0, order[:-1] * differs))
    after = np.append(np.where(differs, order[1:], last), last)
    after = np.minimum.accumulate(after[::-1])[::-1]
    further_left = np.where(nothing, left, left[before])
    further_right = np.where(nothing, right, right[after])
    return left[:-1], further_left[:-1], right[1:], further_right[1:]


class _Line(NamedTuple):
    """A search along one axis, `margin` pixels to both sides."""

    keys: Keys
    step: float
    margin: int
    total: float
    block: int

    def spread(self, pair: Pair, axis: int, wanted: Mask) -> Pair:
        """Keys of the wanted pixels after distances ran along one more axis."""
        length, inner = wanted.shape[axis], math.prod(wanted.shape[axis + 1 :])
        first, second = (self._padded(x.reshape(-1, length, inner)) for x in pair)
        found = self.keys.nothing(wanted.size), self.keys.nothing(wanted.size)
        views = [(first[k * inner :], second[k * inner :]) for k in range(2 * self.margin + 1)]
        pixels = np.flatnonzero(wanted)
        for start in range(0, len(pixels), self.block):
            here = pixels[start : start + self.block]
            places = here + here // (length * inner) * (2 * self.margin * inner)
            self._search(views, places, here, found)
        return found[0].reshape(wanted.shape), found[1].reshape(wanted.shape)

    def _padded(self, keys: Array) -> Array:
        outer, length, inner = keys.shape
        padded = self.keys.nothing((outer, length + 2 * self.margin, inner))
        padded[:, self.margin : self.margin + length] = keys
        return padded.ravel()

    def _search(self, views: list[Pair], places: Array, pixels: Array, found: Pair) -> None:
        """Look further and further along the axis, while a pixel may find a nearer instance.

        Args:
            views: keys of both instances by shift, `-margin` to `margin`.
            places: of the pixels in the views.
            pixels: their places in `found`.
            found: filled in.
        """
        keys, margin = self.keys, self.margin
        pair = _at(places, views[margin])
        for shift in range(1, margin + 1):
            step = keys.square(self.step) * shift**2 << keys.bits
            alive = self._alive(pair, shift, step)
            if np.count_nonzero(alive) < FEW * len(pixels):
                found[0][pixels], found[1][pixels] = pair
                rest = np.flatnonzero(alive)
                if not len(rest):
                    return
                places, pixels, pair = places.take(rest), pixels.take(rest), _at(rest, pair)
            before, behind = (_at(places, views[margin + side]) for side in (-shift, shift))
            there = keys.nearest(before, behind)
            for moved in there:
                moved += keys.dtype(step)
            pair = keys.nearest(pair, there)
        found[0][pixels], found[1][pixels] = pair

    def _alive(self, pair: Pair, shift: int, step: int) -> Mask:
        """Whether an instance `shift` pixels away may be among the two nearest."""
        alive = pair[1] > step
        distance = shift * self.step
        if 2 * distance > self.total:  # d1 is found, or d1 and d2 are both too large
            alive &= pair[0] <= self.keys.of_distance(max(self.total - distance, 0.0))
        return alive


def _at(places: Array, pair: Pair) -> Pair:
    return pair[0].take(places, mode="clip"), pair[1].take(places, mode="clip")
