"""The pixels that images are brought to before the network sees them: their own, or others.

Objects of 20 to 30 px are learned in a fraction of the steps that objects of 70 px take, and a
network that knows objects of one size wants images of one pixel size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_med.data.orientation import axis_of
from unet_med.data.pixel_size import FAR, as_list, cannot_become, far_apart, in_words
from unet_med.planning.fingerprints import MEDIAN, SMALL, Fingerprint
from unet_med.planning.object_width import compact_width, object_widths
from unet_med.planning.plan import ASKED, Decision, Decisions
from unet_med.planning.sizes import in_unit

LARGE = 1.5  # times the wanted width: objects above it are brought to it
FACTORS = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 32.0)
MOST = 0.5  # of the pixels: what a mask of wholes covers
ALIKE = 1.05  # pixel sizes that differ by less are one
ANISOTROPIC = 3.0  # the coarsest axis against the others; nnU-Net's threshold
KEPT = {
    "mask": "masks may hold structures of a pixel or two: images keep their own pixels",
    "classes": "images keep their own pixels",
}

Sizes = NDArray[np.float64]


class Aim(NamedTuple):
    """What objects are brought to, px."""

    wanted: float  # width of the median one
    smallest: float  # that those of the 5th percentile keep


CELLS = Aim(25.0, 8.0)
WHOLES = Aim(96.0, 16.0)  # half of a tile: what an image shows is seen with what lies about it


def decide_pixel_size(
    found: Fingerprint, steering: Mapping[str, Any], *, kind: str, dims: int
) -> Decisions:
    """`element_size`, the unit that it is in, and `scale`, of which one at most has a value.

    Raises:
        ValueError: both are asked for; or an image does not say its pixel size, or hardly says
            the right one, and is to be brought to another.
    """
    size, scale = (_checked(steering.get(id), id, dims) for id in ("element_size", "scale"))
    if size is not None and scale is not None:
        raise ValueError(
            f"--element-size {in_words(size)} and --scale {in_words(scale)} both say what pixels "
            "the network sees: give one"
        )
    if size is not None:
        _require_sizes(found, size, dims)
        return pixels_decided(size, found.cases[0].image.unit, None, ASKED)
    if scale is not None:
        return scale_decided(scale, ASKED)
    if (preset := steering.get("preset") or "modern") != "modern":
        return pixels_decided(None, None, None, f"{preset} takes images as they are")
    return _by_rule(found, kind, dims)


def pixels_decided(size: Any, unit: str | None, scale: Any, reason: str) -> Decisions:
    """`element_size`, `element_unit` and `scale` for one reason."""
    values = {"element_size": size, "element_unit": unit, "scale": scale}
    return {id: Decision(value, reason) for id, value in values.items()}


def scale_decided(scale: Any, reason: str) -> Decisions:
    """`pixels_decided` of images that are scaled, or keep their own pixels."""
    return pixels_decided(None, None, own_pixels(scale), reason)


def own_pixels(scale: Any) -> Any:
    """A scale as the configs have it: one factor of 1 is how they say an image's own pixels."""
    return 1 if set(as_list(scale)) == {1.0} else scale


def factors_of(numbers: Iterable[float]) -> list[float]:
    """Factors for a scale: of what medians of objects give, three digits say enough."""
    return [float(f"{number:.3g}") for number in numbers]


def _by_rule(found: Fingerprint, kind: str, dims: int) -> Decisions:
    """Objects of a wanted width, in pixels of one size."""
    sizes = _stated(found, dims)
    differ = sizes is not None and bool((sizes.max(0) / sizes.min(0)).max() > ALIKE)
    if differ and len({_axes(case.image.orientation) for case in found.cases}) > 1:
        why = "volumes lie along different axes: kept as they are"
        return pixels_decided(None, None, None, why)
    if sizes is not None and differ:
        _refuse_strangers(found, sizes)
    common = None if sizes is None else _common(sizes, kind)
    factors, reason = [1.0] * dims, KEPT.get(kind, "no label holds an object")
    aim = CELLS if kind == "instances" else WHOLES if _is_whole(found, kind, dims) else None
    if aim is not None and (widths := object_widths(found, dims, common)):
        if aim is WHOLES and (least := _narrowest(found, common)) is not None:
            widths[SMALL] = [least] * dims
        factors, reason = _factors(widths, aim)
    if sizes is None or not (differ or max(factors) > 1):
        scale = None if max(factors) == 1 else one_or_each([1 / factor for factor in factors])
        return pixels_decided(None, None, scale, reason)
    if differ:
        about = "the files differ in pixel size, and are brought to their median"
        reason = about if max(factors) == 1 else f"{about}; {reason}"
    assert common is not None
    wanted = [float(f"{size * f:.4g}") for size, f in zip(common, factors, strict=True)]
    return pixels_decided(one_or_each(wanted), found.cases[0].image.unit, None, reason)


def _stated(found: Fingerprint, dims: int) -> Sizes | None:
    """Pixel size of each image, `(images, dims)`, in the first one's unit; None: not all say it."""
    images = [case.image for case in found.cases]
    if any(not image.states_size for image in images):
        return None
    rows = [np.multiply(i.pixel_size[:dims], in_unit(i, images[0].unit)) for i in images]
    return np.array(rows)


def _axes(orientation: str | None) -> tuple[int, ...]:
    """Which axis of the body each axis of a file runs along: RAS and LPS alike."""
    return tuple(map(axis_of, orientation or ""))


def _common(sizes: Sizes, kind: str) -> Sizes:
    """The median; of classes the 10th percentile along a coarse axis, as nnU-Net does it."""
    median = np.median(sizes, axis=0)
    coarse = int(median.argmax())
    others = np.delete(median, coarse).max()
    if kind == "classes" and len(median) == 3 and median[coarse] > ANISOTROPIC * others:
        median[coarse] = max(np.percentile(sizes[:, coarse], 10), others)
    return median


def _is_whole(found: Fingerprint, kind: str, dims: int) -> bool:
    """Whether a mask, or each class, is one thing or a few, wider than a tile shows well.

    Lines and many objects are no such things: their outlines are longer, and what parts them may
    be a pixel or two wide. So may the rest be of labels that cover more than half.
    """
    if kind == "instances" or dims != 2 or found.covered is None or found.covered > MOST:
        return False
    width = compact_width(found) if kind == "mask" else _class_width(found)
    return width is not None and width > LARGE * WHOLES.wanted


def _class_width(found: Fingerprint) -> float | None:
    """Width of the median class of an image, px, where all are one thing or a few; else None."""
    objects = found.instances
    if objects is None or objects.width_px is None or objects.whole_px is None:
        return None
    return objects.width_px[MEDIAN]


def _narrowest(found: Fingerprint, pixel: Sizes | None) -> float | None:
    """How narrow a mask or class is, px as of `object_widths`: no result is dropped for it."""
    objects = found.instances
    if objects is None or objects.whole is None:
        return None
    if pixel is None:
        return objects.whole_px
    return objects.whole / float(np.sqrt(np.prod(pixel[:2])))


def _factors(widths: Mapping[int, Sequence[float]], aim: Aim) -> tuple[list[float], str]:
    """Own pixels a working one along each axis, and why; widths as of `object_widths`."""
    pairs = list(zip(widths[MEDIAN], widths[SMALL], strict=True))
    factors = [_factor(median, small, aim) for median, small in pairs]
    median, small = pairs[0]
    about = f"the median object is {median:.3g} px wide"
    if max(factors) > 1:
        return factors, f"{about}, then {median / factors[0]:.3g} px, and learned in fewer steps"
    if median <= LARGE * aim.wanted:
        return factors, f"{about}, which the network learns well: images keep their own pixels"
    return factors, f"{about}, but small ones {small:.3g} px: images keep their own pixels"


def _factor(median: float, small: float, aim: Aim) -> float:
    """The plain factor nearest to the wanted width that leaves small objects their pixels."""
    if median <= LARGE * aim.wanted:
        return 1.0
    room = [factor for factor in FACTORS if small / factor >= aim.smallest]
    return min(room, key=lambda factor: abs(np.log(median / aim.wanted / factor)), default=1.0)


def _checked(given: Any, id: str, dims: int) -> Any:
    """What the user gives, which is positive, and one number or one an axis."""
    if given is None:
        return None
    numbers, name = as_list(given), f"--{id.replace('_', '-')} {in_words(given)}"
    if not all(0 < number < np.inf for number in numbers):
        raise ValueError(f"{name} is not positive: leave it out to have it decided")
    if len(numbers) not in (1, dims):
        raise ValueError(f"{name} has {len(numbers)} values for {dims} axes: give 1 or {dims}")
    return given


def _refuse_strangers(found: Fingerprint, sizes: Sizes) -> None:
    """Files whose pixel size lies far from that of the others: a wrong unit, or none at all.

    One such file among many would be brought to the others' size, with hundreds of times its
    pixels.
    """
    median = np.median(sizes, axis=0)
    far = [k for k, size in enumerate(sizes) if far_apart(size, median)]
    if far:
        others = np.median(np.delete(sizes, far[0], axis=0), axis=0)
        more = f" (and {len(far) - 1} more files)" if len(far) > 1 else ""
        unit, (own, rest) = found.cases[0].image.unit, map(_sides, (sizes[far[0]], others))
        raise ValueError(
            f"{found.cases[far[0]].image.name}{more} says pixels of {own} {unit}, and the other "
            f"files {rest} {unit} in the median: images of one kind are no more than {FAR:g} times "
            "apart, as objectives of 5x and 40x are, and a wrong unit is more. Save it with its "
            "true pixel size (in Fiji: Image > Properties), leave it out, or give --scale 1, which "
            "keeps every image's own pixels"
        )


def _sides(size: Sizes) -> str:
    return in_words([float(side) for side in size])


def _require_sizes(found: Fingerprint, size: Sequence[float] | float, dims: int) -> None:
    for case in found.cases:
        if not case.image.states_size:
            raise ValueError(
                f"{case.image.name} does not say its pixel size, so it cannot be brought to "
                f"--element-size {in_words(size)}: give it with --pixel-size, save the file with "
                "it (in Fiji: Image > Properties), or give a factor, --scale"
            )
    wanted = np.broadcast_to(as_list(size), dims)
    sizes = _stated(found, dims)
    assert sizes is not None
    for case, own in zip(found.cases, sizes, strict=True):
        if cannot_become(own, wanted):
            raise ValueError(
                f"{case.image.name} says pixels of {_sides(own)} {found.cases[0].image.unit}, far "
                f"from --element-size {in_words(size)}: one of both is wrong. Save the file with "
                "its true pixel size (in Fiji: Image > Properties), or give another size"
            )


def one_or_each(numbers: Sequence[float]) -> float | list[float]:
    """A single number where all are equal."""
    return numbers[0] if len(set(numbers)) == 1 else list(numbers)
