"""How an error falls with the number of images, and what more of them would take from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

POWERS: Array = np.arange(-500, 1001) / 500  # -1 to 2: no known curve is steeper; 0 is among them


class PowerLaw(NamedTuple):
    """An error that falls with the number of images n as `scale * n ** -power`.

    So errors of networks do between a handful of images and the best that can be had (Cortes et
    al. 1993, "Learning curves: asymptotic values and rate of convergence"; Hestness et al. 2017,
    "Deep learning scaling is predictable, empirically").

    Attributes:
        scale: error with one image, a share from 0 to 1.
        power: 0: more images change nothing; below 0: they do harm.
    """

    scale: float
    power: float

    @classmethod
    def fit(cls, counts: Sequence[float], errors: Sequence[float]) -> PowerLaw:
        """The law whose errors differ least from those that were found: see `fit_laws`."""
        scales, powers = fit_laws(counts, [errors])
        return cls(float(scales[0]), float(powers[0]))

    def __call__(self, count: ArrayLike) -> Any:
        """The error with `count` images, at most 1."""
        return np.minimum(self.scale * np.asarray(count, np.float64) ** -self.power, 1.0)


@dataclass(frozen=True)
class Gain:
    """What more images would take from an error.

    Attributes:
        more: how many.
        gain: as the curve goes on; below 0 where it rises.
        low: lower end of its 95 % interval; None where nothing is known of it.
        high: upper end.
    """

    more: int
    gain: float
    low: float | None
    high: float | None

    @property
    def is_told(self) -> bool:
        """Whether its interval leaves zero out."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 or self.high < 0


def fit_laws(counts: Sequence[float], errors: ArrayLike) -> tuple[Array, Array]:
    """Power laws through rows of errors, by least squares.

    Of the errors themselves, not of their logarithms: an error of 0 is a number like others, and
    one near 0, where the logarithm dives, has no more to say than one near 1.

    Args:
        counts: images, `(S,)`, two numbers at least.
        errors: shares from 0 to 1, `(R, S)`.

    Returns:
        `scale` and `power` of each row, `(R,)`; the power to two thousandths, from -1 to 2.

    Raises:
        ValueError: all counts are equal, and a point is no curve.

    >>> scales, powers = fit_laws([1, 4, 16], [[0.4, 0.2, 0.1], [0.3, 0.3, 0.3]])
    >>> scales.round(3).tolist(), powers.tolist()
    ([0.4, 0.3], [0.5, 0.0])
    """
    if len(set(counts)) < 2:
        raise ValueError(f"a curve takes two numbers of images or more, and these are {counts}")
    rows = np.asarray(errors, np.float64)
    falls = np.power.outer(np.asarray(counts, np.float64), -POWERS)  # (S, P)
    products, norms = rows @ falls, (falls**2).sum(axis=0)  # (R, P), (P,)
    best = (products**2 / norms).argmax(axis=1)  # of the squares, what each power explains
    scales = products[np.arange(len(rows)), best] / norms[best]
    return scales, POWERS[best]


def carried_on(counts: Sequence[float], drawn: ArrayLike, at: ArrayLike) -> Array:
    """Errors with other numbers of images, of the law through each row.

    Args:
        counts: images of each size, `(S,)`.
        drawn: errors of draws of the same images, as a bootstrap makes them, `(R, S)`; rows with a
            NaN are left out.
        at: numbers of images, `(N,)`.

    Returns:
        A row a draw, `(R, N)`, each error at most 1.
    """
    rows = np.asarray(drawn, np.float64).reshape(-1, len(counts))
    scales, powers = fit_laws(counts, rows[~np.isnan(rows).any(axis=1)])
    errors = scales[:, None] * np.power.outer(np.asarray(at, np.float64), -powers).T
    return np.minimum(errors, 1.0)


def expected_gain(
    counts: Sequence[float], errors: Sequence[float], drawn: ArrayLike, total: int, more: int
) -> Gain:
    """What `more` images than `total` would take from an error, if it goes on as a power law.

    Args:
        counts: images of each size, `(S,)`.
        errors: found with each, `(S,)`.
        drawn: see `carried_on`; none: there is no interval.
        total: images at hand.
        more: images that one thinks of.
    """
    law = PowerLaw.fit(counts, errors)
    now, then = carried_on(counts, drawn, [total, total + more]).T
    low, high = np.quantile(now - then, [0.025, 0.975]).tolist() if len(now) else (None, None)
    return Gain(more, float(law(total) - law(total + more)), low, high)


def network_scatter(errors: ArrayLike) -> float:
    """Standard error that networks put on the mean of each size, whatever images judge them.

    Of each size there is a network a fold. Folds differ by their images, which a bootstrap over
    images takes care of; sizes differ as the curve does. What is left after both, their
    interaction, is how far one network happens to be better than another.

    Args:
        errors: a row a size, a column a fold, `(S, K)`; a fold with a NaN is left out.

    Returns:
        A share from 0 to 1; 0 where there are fewer than two sizes or folds, and so no scatter to
        see.
    """
    table = np.asarray(errors, np.float64)
    table = table[:, ~np.isnan(table).any(axis=0)]
    sizes, folds = table.shape
    if sizes < 2 or folds < 2:
        return 0.0
    left = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return float(np.sqrt((left**2).sum() / ((sizes - 1) * (folds - 1)) / folds))
