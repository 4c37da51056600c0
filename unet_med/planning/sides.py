"""Classes that differ by their side alone, found from where they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unet_med.data.labels import LabelSummary
from unet_med.instances import IGNORED
from unet_med.planning.fingerprints import Apart

Places = dict[int, tuple[float, float, tuple[float, ...]]]  # by value size, radius, centre

LIKE = 1.5  # times the smaller class at most, in size
FEWEST = 2  # files that have both classes: one says nothing of the others


def lie_apart(places: Sequence[Places], word: str) -> tuple[Apart, ...]:
    """For each axis two values of like size, of which one lies on the same side in all files.

    Apart are centres at least as far from each other as the radius of a ball of their size. The
    axis is that along which they are farthest: with its direction fixed no mirroring or turning
    along the others brings one to the place of the other.

    Args:
        places: of the classes of each label, along the axes of one orientation.
        word: that orientation.

    Returns:
        One pair an axis at most, the farthest apart in relation to its size.
    """
    values = sorted({value for file in places for value in file if 0 < value != IGNORED})
    count = len(values)
    files, like, radius = (np.zeros((count, count)) for _ in range(3))
    step, nearest = np.zeros((count, count, 3)), np.full((count, count, 3), np.inf)
    for file in places:
        none = (np.nan, np.nan, (np.nan,) * 3)
        sizes, radii, centres = (
            np.array([file.get(value, none)[k] for value in values]) for k in range(3)
        )
        apart = centres[:, None] - centres[None] if count else step  # (V, V, 3)
        both = np.isfinite(apart[..., 0])
        files += both
        like += np.where(both, np.log(sizes[:, None] / sizes[None]), 0)
        radius += np.where(both, (radii[:, None] + radii[None]) / 2, 0)
        step += np.where(both[..., None], apart, 0)
        nearest = np.fmin(nearest, apart)
    fits = (files >= FEWEST) & (np.abs(like) <= files * np.log(LIKE))
    share = np.where(step > 0, step, 0) / np.where(radius > 0, radius, np.inf)[..., None]
    found = []
    for axis, letter in enumerate(word):
        farthest = np.abs(step).argmax(axis=-1) == axis
        ok = fits & farthest & (nearest[..., axis] > 0) & (share[..., axis] >= 1)
        if ok.any():
            one, other = np.unravel_index(np.where(ok, share[..., axis], 0).argmax(), ok.shape)
            pair = (values[int(one)], values[int(other)])
            found.append(Apart(letter, pair, int(files[one, other])))
    return tuple(found)


def places_of(look: LabelSummary, pixel_size: Sequence[float]) -> Places:
    """Where the values of a label lie.

    Args:
        look: at the label, its axes those of an orientation.
        pixel_size: along these, `(X, Y[, Z])`.
    """
    if look.centres is None:
        return {}
    pixel, dims = np.ones(3), len(pixel_size)
    pixel[:dims] = pixel_size
    found = {}
    for value, count, centre in zip(
        look.values.tolist(), look.counts.tolist(), look.centres, strict=True
    ):
        size = count * float(np.prod(pixel))
        radius = np.cbrt(size * 3 / (4 * np.pi)) if dims == 3 else np.sqrt(size / np.pi)
        found[value] = (size, float(radius), tuple((centre * pixel).tolist()))
    return found
