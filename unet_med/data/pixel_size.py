"""What a TIFF says of its pixels and channels; units of length, voxel sizes of an affine."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike

_log = logging.getLogger(__name__)

MICROMETRES = {
    "pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6,
    "thou": 25.4, "in": 25400.0, "inch": 25400.0, "um": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "micrometers": 1.0, "micrometre": 1.0, "nanometer": 1e-3,
    "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6, "picometer": 1e-6, "angstrom": 1e-4,
}  # fmt: skip
_RESOLUTION_UNIT_UM = {2: 25400.0, 3: 1e4}  # TIFF tag 296: inch, centimetre
# Dots an inch of screens, plots and printers, which programs write that know no pixel size. Sizes
# of microscopes are round in micrometres: 10 um are 2540 dpi, 50 um 508, which is none of these.
_PRINT_DPI = (
    *(72, 75, 90, 96, 100, 110, 120, 144, 150, 160, 175, 180, 192, 200, 216, 220, 225, 240, 250),
    *(266, 288, 300, 320, 350, 360, 400, 450, 480, 500, 600, 720, 750, 800, 900, 1000, 1200, 1440),
    *(1600, 1800, 2000, 2400),
)
_UNKNOWN = (None, None, None)
ASSUMED = "assumed"  # source of the pixel size of a file that states none
FAR = 8.0  # times, over all axes: as objectives of 5x and 40x are apart, and no unit is
FAR_ALONG_ONE = 32.0  # as slices of 10 mm and 0.4 mm are 25 apart
MADE_SMALLER = 32.0  # times: the most that a plan asks for, where all sizes are right
Sizes = tuple[float | None, float | None, float | None]


def pixel_size_um(tif: Any, number: int) -> tuple[Sizes, str]:
    """Pixel size of one series of a TIFF: OME-XML, else ImageJ's or Zeiss's, else tags.

    Args:
        tif: an open `tifffile.TiffFile`.
        number: position of the series in the file.

    Returns:
        `(x, y, z)` in micrometres, None for unknown ones, and the source:
        `"ome"`, `"imagej"`, `"lsm"`, `"resolution"` or `"assumed"`.
    """
    sources = {
        "ome": lambda: _from_ome(tif.ome_metadata, number, len(tif.series)),
        "imagej": lambda: _from_imagej(tif.imagej_metadata or {}, tif.pages[0].tags),
        "lsm": lambda: _from_lsm(tif.lsm_metadata or {}),
        "resolution": lambda: _from_resolution(tif.pages[0].tags),
    }
    for source, sizes in sources.items():
        x, y, z = sizes()
        if x and y:
            return (x, y, z), source
    return _UNKNOWN, ASSUMED


def unit_um(unit: str | None) -> float | None:
    """Length of a unit in micrometres; None for `pixel`, `reference frame` and unknown units.

    >>> unit_um("nm"), unit_um("pixel")
    (0.001, None)
    """
    name = (unit or "").strip().replace("\\u00B5", "µ").replace("μ", "µ")  # ImageJ; Greek mu
    return MICROMETRES.get(name, MICROMETRES.get(name.lower() if len(name) > 2 else name))


def channel_names(tif: Any, number: int) -> tuple[str, ...]:
    """Names of the channels of one series of a TIFF, by its OME-XML; empty where it has none."""
    pixels = _ome_pixels(tif.ome_metadata, number, len(tif.series))
    channels = [] if pixels is None else [e for e in pixels if e.tag.endswith("}Channel")]
    names = [channel.get("Name") for channel in channels]
    return tuple(name for name in names if name) if all(names) else ()


def _ome_pixels(xml: str | None, number: int, series: int) -> ElementTree.Element | None:
    """`Pixels` of one series; None: there is no telling which it is."""
    if not xml:
        return None
    pixels = [e for e in ElementTree.fromstring(xml).iter() if e.tag.endswith("}Pixels")]
    return pixels[number] if len(pixels) == series else None


def _from_ome(xml: str | None, number: int, series: int) -> Sizes:
    """`PhysicalSizeX` and its unit, micrometres by the schema."""
    pixels = _ome_pixels(xml, number, series)
    if pixels is None:
        return _UNKNOWN
    found = pixels.attrib

    def size(axis: str) -> float | None:
        value = _positive(found.get(f"PhysicalSize{axis}"))
        unit = unit_um(found.get(f"PhysicalSize{axis}Unit", "µm"))
        return value * unit if value and unit else None

    return size("X"), size("Y"), size("Z")


def _from_imagej(metadata: dict[str, Any], tags: Any) -> Sizes:
    """X and y as pixels per `unit` in the resolution tags, z as `spacing` in `unit`.

    `yunit` and `zunit` are there where they are others.
    ImageJ writes no `spacing` where it is 1 (`ij.io.FileSaver`), and reads none as 1.
    """
    names = (metadata.get(name, metadata.get("unit", "")) for name in ("unit", "yunit", "zunit"))
    unit, unit_y, unit_z = (unit_um(str(name)) for name in names)
    if not unit or not unit_y:
        return _UNKNOWN
    x, y = _per_pixel(tags, "XResolution", unit), _per_pixel(tags, "YResolution", unit_y)
    if unit in _RESOLUTION_UNIT_UM.values() and x and _is_printed(x):  # taken over from such a file
        return _UNKNOWN
    z = _positive(metadata.get("spacing", 1))  # Fiji writes a negative one at times
    return x, y, z * unit_z if z and unit_z else None


def _from_lsm(metadata: dict[str, Any]) -> Sizes:
    """`VoxelSizeX` and so on of Zeiss's LSM, in metres."""
    x, y, z = (_positive(metadata.get(f"VoxelSize{axis}")) for axis in "XYZ")
    return x and x * 1e6, y and y * 1e6, z and z * 1e6


def _from_resolution(tags: Any) -> Sizes:
    """Resolution tags in inch or centimetre, except the values of screens and printers."""
    unit = _RESOLUTION_UNIT_UM.get(int(tags.valueof("ResolutionUnit") or 0))
    if not unit:
        return _UNKNOWN
    x, y = (_per_pixel(tags, name, unit) for name in ("XResolution", "YResolution"))
    if x is None or y is None or x >= unit:  # one pixel an inch is a default, not a measure
        return _UNKNOWN
    return _UNKNOWN if _is_printed(x) else (x, y, None)


def _is_printed(size: float) -> bool:
    """Whether a pixel size, um, is a resolution of screens or printers."""
    return any(math.isclose(25400.0 / size, dpi, rel_tol=0.005) for dpi in _PRINT_DPI)


def _per_pixel(tags: Any, name: str, unit: float) -> float | None:
    numerator, denominator = tags.valueof(name) or (0, 1)
    per_unit = _positive(numerator / denominator if denominator else 0)
    return unit / per_unit if per_unit else None


def _positive(value: Any) -> float | None:
    """Magnitude of a number; None if it is no size."""
    try:
        size = abs(float(value))
    except (TypeError, ValueError):
        return None
    return size if 0 < size < math.inf else None


def far_apart(one: ArrayLike, other: ArrayLike, times: float = 1.0) -> bool:
    """Whether one of two pixel sizes is hardly true, if they are of images of one kind.

    They are more than 8 times apart in the mean over axes, or 32 times along one. What is resampled
    between them becomes 64 times as many pixels in a plane, and 512 times in a volume.

    Args:
        one: along each axis.
        other: likewise, in the same unit.
        times: that they may be further apart.

    >>> far_apart((0.5, 0.5), (254, 254)), far_apart((0.7, 0.7, 0.6), (0.7, 0.7, 10))
    (True, False)
    """
    logs = np.abs(np.log(np.divide(one, other)))
    return bool(logs.mean() > math.log(FAR * times) or logs.max() > math.log(FAR_ALONG_ONE * times))


def cannot_become(own: ArrayLike, new: ArrayLike) -> bool:
    """Whether an image of such pixels is hardly meant to be brought to the new ones.

    Args:
        own: along each axis.
        new: likewise, in the same unit; large objects have them up to 32 times as large.
    """
    larger = bool(np.prod(np.asarray(own, float)) < np.prod(np.asarray(new, float)))
    return far_apart(own, new, MADE_SMALLER if larger else 1.0)


DIRECTIONS, PLACE = "the directions of the axes", "the place in space"


def beyond_sizes(affine: np.ndarray) -> list[str]:
    """What an affine says besides voxel sizes, in words; less than a tenth of a voxel is no place.

    >>> beyond_sizes(np.diag([-2, 2, 1, 1])), beyond_sizes(np.eye(3))
    (['the directions of the axes'], [])
    """
    n = min(affine.shape[0] - 1, 3)
    matrix, sizes = affine[:n, :n], np.diag(affine)[:n]
    turned = (sizes <= 0).any() or np.abs(matrix - np.diag(sizes)).max() > 1e-5 * sizes.max()
    moved = np.abs(affine[:n, -1]) > 0.1 * np.linalg.norm(matrix, axis=0)
    return [DIRECTIONS] * bool(turned) + [PLACE] * bool(moved.any())


def voxel_sizes(affine: np.ndarray, kind: str) -> tuple[float, float, float]:
    """Voxel sizes `(Z, Y, X)` of an affine, for formats that hold nothing else of it.

    A place in space is left out, and a warning says so, of all files of a kind once.

    Raises:
        ValueError: it rotates or flips.
    """
    matrix = np.eye(3)
    n = min(affine.shape[0] - 1, 3)
    matrix[:n, :n] = affine[:n, :n]
    sizes = np.diag(matrix)
    beyond = beyond_sizes(affine)
    if DIRECTIONS in beyond:
        raise ValueError(
            f"affine {matrix.tolist()} rotates or flips, which {kind} cannot say; "
            "save as .nii.gz, or bring the image to RAS first"
        )
    for what in beyond:
        say_left_out(what, kind)
    return float(sizes[2]), float(sizes[1]), float(sizes[0])


@cache
def say_left_out(what: str, kind: str) -> None:
    """Say what files of a kind cannot hold of an image; once, for there may be thousands."""
    _log.warning("%s cannot hold %s of an image, and leaves it out: .nii.gz holds it", kind, what)


def as_list(sizes: Iterable[float] | float) -> list[float]:
    """One size, or one an axis, as a list."""
    return [float(sizes)] if isinstance(sizes, int | float) else [float(size) for size in sizes]


def in_words(sizes: Iterable[float] | float) -> str:
    """One size, or one an axis, for a sentence.

    >>> in_words([0.5, 1 / 3])
    '0.5 x 0.3333'
    """
    return " x ".join(f"{size:.4g}" for size in as_list(sizes))


def source_of(meta: Mapping[str, Any]) -> str:
    """What told the pixel size of an image; `ASSUMED` where nothing did.

    Readers other than ours name no source. An affine that they found in a file counts as stated,
    and so does one that somebody gave by hand, or with its unit; the identity alone is nobody's.

    Args:
        meta: of the image, its `affine` among it.

    >>> source_of({"spacing_source": "ome"}), source_of({"original_affine": np.eye(4)})
    ('ome', 'header')
    >>> source_of({"affine": np.diag([2, 2, 1])}), source_of({"affine": np.eye(3)}), source_of({})
    ('header', 'assumed', 'assumed')
    """
    if source := meta.get("spacing_source"):
        return str(source)
    if "original_affine" in meta or meta.get("spatial_unit"):
        return "header"
    affine = meta.get("affine")
    is_nobodys = affine is None or np.array_equal(affine, np.eye(len(affine)))
    return ASSUMED if is_nobodys else "header"


def states_size(meta: Mapping[str, Any]) -> bool:
    """Whether the affine of an image is stated, not assumed; see `source_of`."""
    return source_of(meta) != ASSUMED
