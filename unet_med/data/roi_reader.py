"""Outlines that people drew in ImageJ or QuPath, as labels: each is an object with a number."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unet_med.data.file_reader import unreadable
from unet_med.data.protection import require_memory


class Drawing(NamedTuple):
    """The area that one outline holds.

    Attributes:
        plane: from 1 on; 0: not said.
        rings: corners `(N, 2)` of each, x and y in px, those of holes too.
    """

    plane: int
    rings: list[np.ndarray]


def read_outlines(path: Path) -> list[Drawing]:
    """Areas that a file of outlines holds; lines and points have none.

    Args:
        path: `.zip` or `.roi` of ImageJ, `.geojson` of QuPath.

    Raises:
        ValueError: it cannot be read; names it.
    """
    try:
        return (_of_geojson if path.suffix.lower() == ".geojson" else _of_imagej)(path)
    except Exception as error:
        raise unreadable(path, error, "outlines") from error


def label_of_outlines(path: Path, shape: Sequence[int]) -> tuple[np.ndarray, int]:
    """Number the pixels whose centre an outline holds; an outline lies on those before it.

    Args:
        path: see `read_outlines`.
        shape: `(X, Y[, Z])` of the image, px.

    Returns:
        Label, `(X, Y[, Z])`, and how many outlines there are.

    Raises:
        ValueError: the file cannot be read, or an outline does not say its plane of several.
    """
    drawings = read_outlines(path)
    planes = np.zeros((*shape, 1)[2::-1], np.int32)  # (Z, Y, X)
    for number, drawing in enumerate(drawings, start=1):
        if len(planes) > 1 and not 0 < drawing.plane <= len(planes):
            raise ValueError(f"{path}: outline {number} does not say its plane, 1 to {len(planes)}")
        _draw(planes[drawing.plane - 1 if len(planes) > 1 else 0], drawing.rings, number)
    return planes.T.reshape(shape), len(drawings)


def _draw(label: np.ndarray, rings: Sequence[np.ndarray], number: int) -> None:
    """Number pixels of a plane `(Y, X)`, in place."""
    from matplotlib.path import Path as Ring

    corners = np.concatenate(rings)
    low, high = (np.clip(c, 0, None).astype(int) for c in (corners.min(0), corners.max(0) + 1))
    part = label[low[1] : high[1], low[0] : high[0]]
    y, x = np.indices(part.shape)
    centres = np.stack([x.ravel(), y.ravel()], 1) + low + 0.5
    inside = [Ring(ring).contains_points(centres) for ring in rings]
    part[np.logical_xor.reduce(inside).reshape(part.shape)] = number


def _of_imagej(path: Path) -> list[Drawing]:
    import roifile
    from roifile import ROI_TYPE

    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            require_memory(sum(each.file_size for each in archive.infolist()))
    areas = (ROI_TYPE.POLYGON, ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
    read: Any = roifile.roiread(path)  # of a single outline it alone
    return [
        Drawing(roi.z_position or roi.position, list(roi.coordinates(multi=True)))
        for roi in (read if isinstance(read, list) else [read])
        if roi.roitype in areas
    ]


def _of_geojson(path: Path) -> list[Drawing]:
    """Those of a FeatureCollection, of a list of features, or of one feature, as QuPath writes."""
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    features = content.get("features", [content]) if isinstance(content, dict) else content
    shapes = [each["geometry"] for each in features]
    return [_of_shape(shape) for shape in shapes if shape["type"].endswith("Polygon")]


def _of_shape(shape: Any) -> Drawing:
    several = shape["type"] == "MultiPolygon"
    polygons = shape["coordinates"] if several else [shape["coordinates"]]
    rings = [np.array(ring, float) for polygon in polygons for ring in polygon]
    return Drawing(shape.get("plane", {}).get("z", 0) + 1, rings)
