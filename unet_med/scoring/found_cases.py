"""Results that are measured, by the names of their cases."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_med import data
from unet_med.data.cases import Case, same_name
from unet_med.data.class_names import ClassNames
from unet_med.data.folder_files import FRACTIONS
from unet_med.data.formats import stem
from unet_med.data.pixel_size import MICROMETRES
from unet_med.scoring.matching import case_of, find_results

MASK, INSTANCES = "_mask", "_instances"


@dataclass(frozen=True)
class Found:
    """Results of one case.

    Attributes:
        mask: file of its classes, or of its foreground.
        instances: file of its objects.
        image: its image, where one was named.
    """

    mask: str | None = None
    instances: str | None = None
    image: Case | None = None

    @property
    def numbered(self) -> str | None:
        """File of its objects; of one that is not called a mask its numbers may be those."""
        if self.instances or self.mask is None or stem(self.mask).endswith(MASK):
            return self.instances
        return self.mask


def find_cases(results: str) -> dict[str, Found]:
    """Results by the names of their cases.

    Raises:
        ValueError: a folder without results.
    """
    files = find_results(results)
    parts: dict[str, dict[str, Any]] = {}
    for name, path in files.items():
        case = case_of(path)
        kind = INSTANCES if name.endswith(INSTANCES) else MASK
        if not name.endswith(FRACTIONS):
            parts.setdefault(same_name(case), {})[kind[1:]] = path
    if not parts:
        raise ValueError(f"{results} holds no masks and no instances: nothing can be measured")
    return {case: Found(**found) for case, found in parts.items()}


def refuse_idle(
    cases: Mapping[str, Found],
    images: str | None,
    names: ClassNames | None,
    choice: Mapping[str, Any],
    *,
    objects: bool,
) -> None:
    """Refuse what does nothing: somebody would take the numbers for what was asked.

    Raises:
        ValueError: names the first such option.
    """
    if images is None and (idle := [name for name in choice if name != "pixel_size"]):
        raise ValueError(f"--{idle[0]} has no effect without --images: leave it out")
    if objects and names:
        raise ValueError("--class-names has no effect on objects: leave it out")
    if (told := choice.get("pixel_size")) is not None:
        _require_size(cases, np.atleast_1d(told))


def _require_size(cases: Mapping[str, Found], told_um: np.ndarray[Any, Any]) -> None:
    """Refuse a pixel size where all files state theirs, and one states another: theirs counts.

    Raises:
        ValueError: names the file, and both.
    """
    stated = {}
    for found in cases.values():
        file = str(found.instances or found.mask)
        with suppress(ValueError, OSError):  # its row says why it cannot be read
            header = data.load_header(file)
            if not header.states_size:
                return
            factor = MICROMETRES[header.spatial_unit]
            stated[file] = np.multiply(header.pixel_size, factor)
    for file, own in stated.items():
        told = np.resize(told_um, len(own))  # one of each axis, or one for all
        if not np.allclose(own, told, rtol=1e-3):
            raise ValueError(
                f"--pixel-size {_listed(told_um)}: {file} states {_listed(own)} um, which counts; "
                "leave the option out, or correct the file"
            )


def _listed(sizes: np.ndarray[Any, Any]) -> str:
    return " ".join(f"{size:g}" for size in sizes)
