"""Whether planes of a stack are images of their own: what files and numbers of objects say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unet_med.data import load_header
from unet_med.data.plane_kind import planes_numbered, planes_stated

STACK = np.zeros((3, 8, 9), np.uint8)
SIZED = {"imagej": True, "resolution": (2, 2)}


@pytest.mark.parametrize(
    ("written", "choice", "expected"),
    [
        ({}, {}, "apart"),
        ({"resolution": (5000, 5000), "resolutionunit": "CENTIMETER"}, {}, "apart"),
        ({}, {"pixel_size": 0.5}, "apart"),  # nobody says how far apart
        ({}, {"pixel_size": [0.5, 0.5, 2]}, "joined"),
        ({**SIZED, "metadata": {"axes": "ZYX", "unit": "um", "spacing": 2.0}}, {}, "joined"),
        ({**SIZED, "metadata": {"axes": "ZYX"}}, {}, "apart"),
        ({**SIZED, "metadata": {"axes": "TYX", "unit": "um"}}, {"axes": "ZYX"}, "apart"),
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 1, "PhysicalSizeY": 1}}, {},
         "apart"),
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 1, "PhysicalSizeY": 1,
                                    "PhysicalSizeZ": 3}}, {}, "joined"),
    ],
)  # fmt: skip
def test_planes_whose_distance_is_stated_are_joined(
    tmp_path: Path, written: dict[str, Any], choice: dict[str, Any], expected: str
) -> None:
    file = tmp_path / "stack.tif"
    tifffile.imwrite(file, STACK, photometric="minisblack", **written)
    header = load_header(file, **choice)
    assert header.planes == expected
    assert planes_stated(header.meta()) == expected


def numbered(*planes: list[int]) -> np.ndarray:
    """Planes of one row each, `(X, 1, Z)`."""
    return np.array(planes).T[:, None]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (numbered([1, 1, 0, 2], [3, 3, 0, 4]), "apart"),  # numbers go on
        (numbered([1, 1, 0, 2, 2], [1, 0, 2, 3, 3], [1, 2, 3, 4, 4]), "apart"),  # begin anew
        (numbered([5, 5, 0, 2], [5, 5, 0, 0], [5, 0, 3, 0]), "joined"),
        (numbered([1, 1, 0, 2], [1, 1, 0, 2]), None),  # begin anew, or two columns
        (numbered([1, 1, 0, 0], [0, 0, 2, 2]), None),  # nothing lies upon another
        (numbered([-1, 0, 0, 0], [-1, 0, 0, 0]), None),
        (np.array([[1, 2]]), None),  # a plane
    ],
)
def test_numbers_of_objects_say_whether_they_go_through_planes(
    label: np.ndarray, expected: str | None
) -> None:
    assert planes_numbered(label) == expected
