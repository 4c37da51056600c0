"""What the record beside a result says of its image, and whether planes are images of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.cases import same_name
from unet_med.data.changed_results import is_as_written
from unet_med.data.entries import DIGESTS
from unet_med.data.file_reader import Volume
from unet_med.data.plane_kind import PLANES, planes_numbered
from unet_med.planes import APART, JOINED, Planes
from unet_med.report.provenance import CHANGED, CHOSE, EARLIER, LEARNED, RECORD, record_of
from unet_med.scoring.matching import case_of


@dataclass(frozen=True)
class Recorded:
    """What is known of the image that a result is of.

    Attributes:
        planes: what was made of the planes of a stack; None: no record says it.
        learned: whether it taught the network.
        chose: whether it was held out, and chose how the network makes objects.
        orientation: in which a 2-D network saw its planes; None: as the file has them.
        earlier: whether other weights or settings made it than the record names.
        digest: SHA-256 of the file when it was written; None: no record says it.
    """

    planes: Planes | None = None
    learned: bool = False
    orientation: str | None = None
    earlier: bool = False
    digest: str | None = None
    chose: bool = False


def recorded_of(result: str) -> Recorded:
    """What `record.json` in the folder of a result says; nothing where there is none."""
    file = Path(result).absolute().parent / RECORD
    if not file.is_file():
        return Recorded()
    settings, images, earlier = _read(file.parent, file.stat().st_mtime_ns)
    dims = settings.get("spatial_dims")
    orientation = settings.get("orientation") if dims == 2 else None
    name = same_name(case_of(result))
    entry = images.get(name)
    digests = (entry or earlier.get(name) or {}).get(DIGESTS) or {}
    digest = {same_name(n): d for n, d in digests.items()}.get(same_name(Path(result).name))
    if entry is None:  # of an earlier run, or of another program
        return Recorded(orientation=orientation, earlier=name in earlier, digest=digest)
    planes = entry.get(PLANES) if dims == 2 else JOINED if dims == 3 else None
    taught, chose = bool(entry.get(LEARNED)), bool(entry.get(CHOSE))
    return Recorded(planes, taught, orientation, digest=digest, chose=chose)


@lru_cache(maxsize=1)
def _read(folder: Path, changed_ns: int) -> tuple[Mapping[str, Any], ...]:
    """Settings, and entries of images and of earlier ones by name."""
    record = record_of(folder)
    images, earlier = (
        {same_name(name): each for name, each in (record.get(part) or {}).items()}
        for part in ("images", EARLIER)
    )
    return record.get("settings") or {}, images, earlier


def planes_of(told: Planes | None, recorded: Recorded, label: np.ndarray, header: Volume) -> Planes:
    """Whether the planes of a stack are scored, or measured, one by one.

    What somebody says holds, then what was made of them, then the numbers of the objects, then
    the header.

    Args:
        told: by an option.
        recorded: of the result.
        label: numbers of objects, `(X, Y[, Z])`; of a plane there is nothing to decide.
        header: of their file.
    """
    if label.ndim < 3:
        return JOINED
    return told or recorded.planes or planes_numbered(label) or header.planes


def require_one_meaning(recorded: Recorded, truth: np.ndarray, name: str) -> None:
    """Refuse a truth that counts each plane anew, of a result whose objects go through planes.

    Raises:
        ValueError: names the truth, and what to say.
    """
    if recorded.planes == JOINED and planes_numbered(truth) == APART:
        raise ValueError(
            f"{name} numbers the objects of each plane anew, and in its result they go through "
            "planes: score with --planes apart or joined, or predict with --planes apart"
        )


def counts(results: Iterable[str]) -> dict[str, int]:
    """What a table of results must say of them, by how many; empty of what is true of none.

    That is `learned`, of images that taught the network; `chose`, that chose how it makes objects;
    `earlier`, made by other weights or
    settings than the record names; and `changed`, no longer as they were written.
    """
    found = [(result, recorded_of(result)) for result in results]
    numbers = {
        LEARNED: sum(each.learned for _, each in found),
        CHOSE: sum(each.chose for _, each in found),
        EARLIER: sum(each.earlier for _, each in found),
        CHANGED: sum(
            each.digest is not None and not is_as_written(Path(result), each.digest)
            for result, each in found
        ),
    }
    return {name: number for name, number in numbers.items() if number}
