"""Origin of results: versions, hashes, and the record beside them.

`record.json` in a folder of results names the weights and the files that made them.
`training.json` beside a network names what trained it. Both are plain JSON, for people and for
`unet-med report`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from unet_med.data.atomic import read_json
from unet_med.data.folder_files import RECORD
from unet_med.data.formats import DECODERS, version_of

TRAINING = "training.json"
EARLIER = "earlier"  # what other weights or settings left, and the number of these
CHANGED = "changed"  # number of results that are no longer as they were written
LEARNED = "learned"  # entry of an image that has taught the network, and the number of these
CHOSE = "chose"  # likewise, of one that was held out, and chose how objects are made
# of those in the second line, which read and write files, some may not be installed
PACKAGES = (
    *("unet-med", "torch", "monai", "numpy", "scipy", "scikit-image"),
    *(*DECODERS, "highdicom"),
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    from unet_med import __version__

    found = {"Python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        if version := __version__ if name == "unet-med" else version_of(name):
            found[name] = version
    return found


def now() -> str:
    """This moment, UTC, to the second: `2026-11-21T10:15:00+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def read_record(folder: str | os.PathLike[str], name: str = RECORD) -> dict[str, Any]:
    """The record in a folder; empty where there is none.

    Raises:
        ValueError: the file is there and is no JSON object.
    """
    path = Path(folder) / name
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error}: delete it and predict again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object: delete it and predict again")
    return content


def record_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The record in a folder of results; empty where there is none, or not one of ours."""
    with suppress(ValueError):
        record = read_record(folder)
        parts = (record.get(part) or {} for part in ("images", EARLIER, "settings"))
        if all(isinstance(part, dict) for part in parts):
            return record
    return {}


def recorded_names(record: Mapping[str, Any]) -> dict[int, str]:
    """Names of the classes by their values, as the bundle that made the results has them."""
    settings = record.get("settings") or {}
    names = settings.get("class_names") or []
    values = (settings.get("class_values") or range(len(names) + 1))[1:]
    return dict(zip(values, names, strict=False))
