"""The folder `OUTPUT.job` beside an output, and its `job.json`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.atomic import read_json
from unet_med.segmentation.volume import Found
from unet_med.volumes.store import Layer, Layout

STATISTICS = "statistics.npz"  # what the first pass found


def job_folder(output: Path) -> Path:
    """Folder of an output's job."""
    return output.with_name(output.name + ".job")


def read_undamaged(file: Path, way_out: str) -> dict[str, Any]:
    """Content of a file of a job.

    Raises:
        ValueError: it holds no JSON, as after a power failure; names it, and the way out.
    """
    try:
        return dict(read_json(file))
    except ValueError:
        raise ValueError(f"{file} is damaged, as a power failure leaves files: {way_out}") from None


def read_fields(output: Path) -> dict[str, Any]:
    """Fields of an output's job as they were, and its `id`; the output is where it lies now.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its file is damaged, or of an earlier version.
    """
    file = job_folder(output) / "job.json"
    if not file.is_file():
        raise FileNotFoundError(f"{output} has no job ({file}): start it with predict")
    content = read_undamaged(file, f"delete {file.parent} and {output} to begin anew")
    layout: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in content["layout"].items()
    }
    if "pyramid" not in layout:
        raise ValueError(f"{file} is of an earlier version: delete {file.parent} to begin anew")
    layout["pyramid"] = tuple(map(tuple, layout["pyramid"]))
    return {
        **content,
        **{name: Path(content[name]) for name in ("source", "bundle")},
        "output": output,
        **{k: tuple(content.get(k, ())) for k in ("outputs", "names", "values")},
        "layout": Layout(**layout),
        "tile": tuple(content["tile"]),
        "layers": tuple(Layer(**layer) for layer in content["layers"]),
    }


def text_of(id: str, fields: Mapping[str, Any]) -> str:
    """Content of `job.json`, of which `read_fields` makes the fields."""
    return json.dumps({"id": id, **fields}, indent=1, default=str)


def publish(folder: Path, text: str, statistics: Found) -> bool:
    """Write the folder of a job, in one step; False where another's is there already."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    part = beside / folder.name  # the folder around it is ours alone
    try:
        part.mkdir()
        np.savez(part / STATISTICS, **dict[str, Any](statistics))
        (part / "job.json").write_text(text, encoding="utf-8")
        os.rename(part, folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    finally:
        shutil.rmtree(beside)
    return True
