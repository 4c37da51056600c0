"""DICOM SEG as labels: its segments on the planes of the series that it lies on.

A SEG holds the planes alone on which something was found, and segments may lie upon each other, so
that it is no label yet: it is laid on the series, by frame of reference and place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.dicom_frames import frames_of, group_of, read_dataset, stored_pixels
from unet_med.data.dicom_series import Series, open_series
from unet_med.data.file_reader import unreadable
from unet_med.data.grids import LPS_TO_RAS, TOLERANCE
from unet_med.data.protection import check_dicom_file, require_memory

_SEGMENT = "SegmentIdentification"


def segment_names(path: Path) -> dict[int, str]:
    """Name of each segment of a DICOM SEG, by its number; the background is none.

    Raises:
        ValueError: it is no DICOM SEG; names it.
    """
    with _naming(path, "DICOM SEG"):
        check_dicom_file(path)
        dataset = read_dataset(path)
        if (kind := dataset.get("Modality")) != "SEG":
            raise ValueError(f"its modality is {kind}" if kind else "it is no DICOM")
        described = dataset.get("SegmentSequence") or ()
        names = {int(each.SegmentNumber): str(each.get("SegmentLabel") or "") for each in described}
        return {number: name for number, name in names.items() if number > 0}


def label_of_seg(
    path: Path,
    source: Path,
    values: Mapping[int, int],
    *,
    series: str | None = None,
    ordered: bool = False,
) -> np.ndarray:
    """A DICOM SEG as a label on the grid of its series.

    Args:
        path: file of the SEG.
        source: folder or file of the series.
        values: of the label for each segment, by its number; of others nothing is drawn.
        series: UID, where the source holds several.
        ordered: segments may lie upon each other, and those later in `values` are above.

    Returns:
        `(X, Y, Z)`, 0 where no segment is.

    Raises:
        ValueError: it has another frame of reference than the series, or a frame on none of its
            planes; it holds fractions; or segments lie upon each other. Names the file.
    """
    with _naming(source, "DICOM series"):
        found = open_series(source, series)
    with _naming(path, "DICOM SEG"):
        check_dicom_file(path)
        dataset = read_dataset(path)
        planes = _planes_of(path, dataset, found)
        pixels = _binary(path, dataset, len(planes))
        label = np.zeros((len(found.frames or found.files), *pixels.shape[1:]), np.int32)
        for number, frame in _parts(dataset, pixels, list(values)):
            here = label[planes[frame]]
            inside = pixels[frame] == (number if _is_map(dataset) else 1)
            if not ordered and np.isin(here[inside], [0, values[number]], invert=True).any():
                raise ValueError(
                    f"its segment {number} lies upon another: name them with --segments, in an "
                    "order in which the later ones are above"
                )
            here[inside] = values[number]
    return label.transpose(2, 1, 0)


@contextmanager
def _naming(path: Path, kind: str) -> Iterator[None]:
    """Whatever is wrong, in one sentence that names the file."""
    try:
        yield
    except Exception as error:
        raise unreadable(path, error, kind) from error


def _planes_of(path: Path, dataset: Any, series: Series) -> list[int]:
    """On which plane of a series each frame lies.

    Raises:
        ValueError: the frame of reference is another, or some corner is beside the grid.
    """
    frames = frames_of(path)
    own, its = (_reference_of(each) for each in (dataset, read_dataset(series.files[0])))
    if own != its:
        raise ValueError(f"its frame of reference is {own}, that of the series {its}")
    columns, rows = next(iter(series.headers.values())).GetSize()[:2]
    across = frames.cosines[:, :3] * frames.sizes[0] * (columns - 1)
    down = frames.cosines[:, 3:] * frames.sizes[1] * (rows - 1)
    corners = frames.points[:, None] + np.stack([0 * across, across, down], axis=1)
    to_voxel = np.linalg.inv(LPS_TO_RAS @ series.affine)
    voxels = corners @ to_voxel[:3, :3].T + to_voxel[:3, 3]  # (N, 3 corners, X Y Z)
    planes = np.rint(voxels[:, 0, 2])
    wanted = np.zeros_like(voxels)
    wanted[:, 1, 0], wanted[:, 2, 1], wanted[:, :, 2] = columns - 1, rows - 1, planes[:, None]
    inside = planes.min() >= 0 and planes.max() < len(series.frames or series.files)
    off = np.abs(voxels - wanted).max()
    if (dataset.Columns, dataset.Rows) != (columns, rows) or not inside or off > TOLERANCE:
        raise ValueError(
            "it does not lie on the planes of the series: export it anew on the grid of this one"
        )
    return [int(plane) for plane in planes]


def _binary(path: Path, header: Any, frames: int) -> np.ndarray:
    """Pixels `(N, Y, X)`: 1 inside a frame's segment; of a label map numbers of segments."""
    require_memory(2 * frames * int(header.Rows) * int(header.Columns))  # as bits, and as bytes
    pixels = stored_pixels(read_dataset(path, pixels=True))
    if header.get("SegmentationType") != "FRACTIONAL":
        return pixels
    most = int(header.MaximumFractionalValue)
    if not np.isin(pixels, (0, most)).all():
        raise ValueError("it holds fractions, not segments: a label has one class a voxel")
    return (pixels > 0).astype(np.uint8)


def _parts(dataset: Any, pixels: np.ndarray, order: Sequence[int]) -> list[tuple[int, int]]:
    """Segment and frame of all that is to be drawn, in the order of the segments."""
    parts = []
    for frame, plane in enumerate(pixels):
        if _is_map(dataset):
            numbers = np.unique(plane).tolist()
        else:
            numbers = [int(group_of(dataset, frame, _SEGMENT).ReferencedSegmentNumber)]
        parts += [(number, frame) for number in numbers if number in order]
    return sorted(parts, key=lambda part: order.index(part[0]))


def _is_map(dataset: Any) -> bool:
    return bool(dataset.get("SegmentationType") == "LABELMAP")


def _reference_of(dataset: Any) -> str:
    return str(dataset.get("FrameOfReferenceUID") or "")
