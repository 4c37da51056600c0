"""Outlines that people drew in ImageJ or QuPath, as labels: each is an object with a number."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_med.data.atomic import read_json
from unet_med.data.file_reader import unreadable
from unet_med.data.protection import require_memory


class Drawing(NamedTuple):
    """The area that one outline holds.

    Attributes:
        plane: from 1 on; 0: not said.
        rings: corners `(N, 2)` of each, x and y in px, those of holes too; none of lines and
            points, which have no area, and of what QuPath ignores: classes that end in `*`.
    """

    plane: int
    rings: list[np.ndarray]


class Drawn(NamedTuple):
    """A label that was made of outlines.

    Attributes:
        label: a number for each outline, `(X, Y[, Z])`.
        outlines: how many there are.
        around: outlines that hold all of another one, and how many of these there are in all.
        left: drawings without an area.
    """

    label: np.ndarray
    outlines: int
    around: tuple[int, int]
    left: int


def read_outlines(path: Path) -> list[Drawing]:
    """What a file of outlines holds.

    Args:
        path: `.zip` or `.roi` of ImageJ, `.geojson` of QuPath.

    Raises:
        ValueError: it cannot be read; names it.
    """
    try:
        return (_of_geojson if path.suffix.lower() == ".geojson" else _of_imagej)(path)
    except Exception as error:
        raise unreadable(path, error, "outlines") from error


def label_of_outlines(path: Path, shape: Sequence[int]) -> Drawn:
    """Number the pixels whose centre an outline holds; an outline lies on those before it.

    Args:
        path: see `read_outlines`.
        shape: `(X, Y[, Z])` of the image, px.

    Raises:
        ValueError: the file cannot be read, most outlines lie beside the image, or one does not
            say its plane of several.
    """
    drawings = read_outlines(path)
    areas = [drawing for drawing in drawings if drawing.rings]
    beside = sum(_is_beside(drawing.rings, shape[:2]) for drawing in areas)
    if 2 * beside > len(areas):
        raise ValueError(
            f"{path}: {beside} of {len(areas)} outlines lie beside the image of {shape[0]} x "
            f"{shape[1]} px, as those of a larger one do: name the image on which they were drawn"
        )
    planes = np.zeros((*shape, 1)[2::-1], np.int32)  # (Z, Y, X)
    beneath = []
    for number, drawing in enumerate(areas, start=1):
        if len(planes) > 1 and not 0 < drawing.plane <= len(planes):
            raise ValueError(f"{path}: outline {number} does not say its plane, 1 to {len(planes)}")
        plane = planes[drawing.plane - 1 if len(planes) > 1 else 0]
        beneath.append(_draw(plane, drawing.rings, number))
    left = set(np.unique(planes).tolist()) - {0}  # of one that is there twice one is gone
    held = [number for number in beneath if number in left]
    around = len(set(held)), len(held)
    return Drawn(planes.T.reshape(shape), len(areas), around, len(drawings) - len(areas))


def _is_beside(rings: Sequence[np.ndarray], sides: Sequence[int]) -> bool:
    """Whether no part of an outline is in a plane `(X, Y)`."""
    corners = np.concatenate(rings)
    return bool((corners.max(0) <= 0).any() or (corners.min(0) >= np.array(sides)).any())


def _draw(label: np.ndarray, rings: Sequence[np.ndarray], number: int) -> int:
    """Number pixels of a plane `(Y, X)`, in place, and say whose all of them were; 0: no one's."""
    from matplotlib.path import Path as Ring

    corners = np.concatenate(rings)
    low, high = (np.clip(c, 0, None).astype(int) for c in (corners.min(0), corners.max(0) + 1))
    part = label[low[1] : high[1], low[0] : high[0]]
    y, x = np.indices(part.shape)
    centres = np.stack([x.ravel(), y.ravel()], 1) + low + 0.5
    inside = [Ring(ring).contains_points(centres) for ring in rings]
    own = np.logical_xor.reduce(inside).reshape(part.shape)
    before, part[own] = part[own], number
    return int(np.bincount(before).argmax()) if before.size and before.min() else 0


def _of_imagej(path: Path) -> list[Drawing]:
    import roifile
    from roifile import ROI_TYPE

    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            require_memory(sum(each.file_size for each in archive.infolist()))
    areas = (ROI_TYPE.POLYGON, ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
    read: Any = roifile.roiread(path)  # of a single outline it alone
    return [
        Drawing(
            roi.z_position or roi.position,
            list(roi.coordinates(multi=True)) if roi.roitype in areas else [],
        )
        for roi in (read if isinstance(read, list) else [read])
    ]


def _of_geojson(path: Path) -> list[Drawing]:
    """Those of a FeatureCollection, of a list of features, or of one feature, as QuPath writes."""
    content = read_json(path)
    features = content.get("features", [content]) if isinstance(content, dict) else content
    return [_of_feature(each) for each in features]


def _of_feature(feature: Any) -> Drawing:
    shape = feature["geometry"] or {"type": "none"}
    kind = (feature.get("properties") or {}).get("classification") or {}
    if not shape["type"].endswith("Polygon") or str(kind.get("name", "")).endswith("*"):
        return Drawing(0, [])
    several = shape["type"] == "MultiPolygon"
    polygons = shape["coordinates"] if several else [shape["coordinates"]]
    rings = [np.array(ring, float) for polygon in polygons for ring in polygon]
    return Drawing(shape.get("plane", {}).get("z", 0) + 1, rings)
