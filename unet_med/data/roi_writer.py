"""Outlines of objects for other programs: an ImageJ ROI zip for Fiji, GeoJSON for QuPath."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.atomic import atomic_write
from unet_med.data.class_names import names_of
from unet_med.data.outlines import Outline, Polygon
from unet_med.data.segments import color_of
from unet_med.data.tally import Found

ROI_SUFFIXES = (".zip", ".geojson")
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0  # of java.awt.geom.PathIterator, as ImageJ stores shapes


class RoiWriter:
    """Writes the outlines of an image's objects, once for Fiji and once for QuPath.

    Outlines run along the edges of the pixels, in pixels of the file: filled, they give the
    object's pixels back, its holes too. An object of a volume has one in each of its planes.

    Args:
        classes: how many there are, with the background.
        class_names: of each but the background; None: not named.
        class_values: of each in masks; None: 0 to `classes` - 1.
        reader: of the images; the `time` that it chooses is where the outlines lie.
    """

    def __init__(
        self,
        classes: int = 2,
        class_names: Sequence[str] | None = None,
        class_values: Sequence[int] | None = None,
        reader: Any = None,
    ) -> None:
        self.names = names_of(class_values or range(classes), class_names)
        self.time: int | None = getattr(reader, "choice", {}).get("time")

    def write(
        self,
        path: str | os.PathLike[str],
        outlines: Iterable[Outline],
        found: Mapping[int, Found],
        *,
        channels: int = 1,
    ) -> list[Path]:
        """Write both files, each in one step.

        Args:
            path: their place and name without suffix.
            outlines: of all objects.
            found: what is known of each, by its number.
            channels: of the image, on which it depends how ImageJ counts planes.

        Returns:
            The files, `.zip` and `.geojson`.

        Raises:
            ImportError: roifile is missing.
        """
        files = [Path(f"{os.fspath(path)}{suffix}") for suffix in ROI_SUFFIXES]
        with (
            atomic_write(files[0]) as rois,
            atomic_write(files[1]) as features,
            zipfile.ZipFile(rois, "w", zipfile.ZIP_DEFLATED) as archive,
            features.open("w", encoding="utf-8") as text,
        ):
            between = '{"type": "FeatureCollection", "features": [\n'
            for outline in outlines:
                known = found[outline.number]
                name = self._label(outline)
                info = zipfile.ZipInfo(f"{name}.roi")  # of no time: what is made anew is the same
                info.external_attr = 0o600 << 16
                roi = self._roi(outline, known, channels)
                archive.writestr(info, roi, zipfile.ZIP_DEFLATED)
                text.write(between + json.dumps(self._feature(outline, known)))
                between = ",\n"
            text.write("\n]}\n" if between == ",\n" else between + "]}\n")
        return files

    def _label(self, outline: Outline) -> str:
        """Name of an outline, one of its own: number of the object, and plane, from 1."""
        plane = "" if outline.plane is None else f"-z{outline.plane + 1:04d}"
        return f"{outline.number:06d}{plane}"

    def _roi(self, outline: Outline, known: Found, channels: int) -> bytes:
        """One ROI as ImageJ stores it."""
        from roifile import ROI_TYPE, ImagejRoi

        rings = [ring for polygon in outline.polygons for ring in polygon]
        corners = np.concatenate(rings)
        roi = ImagejRoi.frompoints(rings[0] if len(rings) == 1 else corners)
        roi.roitype = ROI_TYPE.TRACED  # as by ImageJ's wand, on the edges of pixels
        roi.left, roi.top, roi.right, roi.bottom = map(int, (*corners.min(0), *corners.max(0)))
        if len(rings) > 1:
            path = np.array([*_path(rings)], np.float32)
            roi = ImagejRoi(
                roitype=ROI_TYPE.RECT, left=roi.left, top=roi.top, right=roi.right,
                bottom=roi.bottom, shape_roi_size=len(path), multi_coordinates=path,
            )  # fmt: skip
        roi.name = self._label(outline)
        score = {} if known.score is None else {"score": known.score}
        roi.properties = {"object": outline.number, "class": self.names[known.kind], **score}
        _place(roi, outline.plane, self.time, channels)
        return roi.tobytes()

    def _feature(self, outline: Outline, known: Found) -> dict[str, Any]:
        """One feature, with the properties that QuPath reads."""
        shapes = [_closed(polygon) for polygon in outline.polygons]
        single = len(shapes) == 1
        score = {} if known.score is None else {"score": known.score}
        return {
            "type": "Feature",
            "geometry": {
                "type": "Polygon" if single else "MultiPolygon",
                "coordinates": shapes[0] if single else shapes,
                "plane": {"c": -1, "z": outline.plane or 0, "t": self.time or 0},
            },
            "properties": {
                "objectType": "detection",
                "name": str(outline.number),
                "classification": {
                    "name": self.names[known.kind],
                    "color": list(color_of(known.kind)),
                },
                "measurements": {"object": outline.number, **score},
            },
        }


def _place(roi: Any, plane: int | None, time: int | None, channels: int) -> None:
    """Say in which plane of the image a ROI lies, from 1.

    ImageJ counts the planes of an image with one axis besides x and y by one number, and those of
    others (hyperstacks) by one an axis.
    """
    axes = sum((plane is not None, time is not None, channels > 1))
    if axes > 1:
        roi.z_position = 0 if plane is None else plane + 1
        roi.t_position = 0 if time is None else time + 1
    elif (number := time if plane is None else plane) is not None:
        roi.position = number + 1


def _path(rings: Sequence[Any]) -> Iterator[float]:
    """Rings as ImageJ's shapes: what an odd number of them surrounds is inside."""
    for ring in rings:
        for step, (x, y) in zip([_MOVE] + [_LINE] * (len(ring) - 1), ring.tolist(), strict=True):
            yield from (step, x, y)
        yield _CLOSE


def _closed(polygon: Polygon) -> list[list[list[int]]]:
    """Rings whose last corner is the first, as GeoJSON has them."""
    return [[*ring.tolist(), ring[0].tolist()] for ring in polygon]
