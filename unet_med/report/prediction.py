"""Record beside results which weights made them from which images."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import affine_to_spacing

from unet_med.data.array_writer import known_unit
from unet_med.data.cases import case_name, files_in, files_of
from unet_med.report.provenance import (
    RECORD,
    device_name,
    now,
    read_record,
    sha256,
    versions,
    write_record,
)

EVERY_SECONDS = 10.0


class PredictionRecord:
    """Handler that writes `record.json` into the folder of the results.

    It holds versions, device, time, the SHA-256 of the weights, and for every image
    its file, shape, pixel size and SHA-256, under the name that its results carry. A
    further run of the same weights and settings into the folder adds its images; what
    other weights left is listed as `earlier`, and scores go with the results they are of. A run
    that would write over the results of another image of the same name is refused.
    It is written after the first image and every ten seconds, so that a run that is stopped leaves
    no record of what it has written over.

    Args:
        folder: where the results go.
        weights: file of the weights, if any.
        settings: further plain values to record, by name.
        reader: the reader of the images; what it chooses in files that hold several (`choice` of
            `AutoReader`) is written down, for the report reads them again.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        weights: str | os.PathLike[str] | None = None,
        settings: dict[str, Any] | None = None,
        reader: Any = None,
    ) -> None:
        self.folder = Path(folder)
        self.weights = weights
        self.settings = dict(settings or {})
        if choice := getattr(reader, "choice", None):
            self.settings["choice"] = choice
        self._images: dict[str, dict[str, Any]] = {}
        self._results = 0
        self._began = self._due = 0.0  # s
        self._made_by: dict[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._images.clear()
        self._results = 0
        self._began = time.monotonic()
        self._due = 0.0
        self._made_by = None
        self._refuse_to_replace(engine)

    def _refuse_to_replace(self, engine: Engine) -> None:
        """Refuse to write over the results of another image of the same name."""
        record = read_record(self.folder)
        known = {**record.get("earlier", {}), **record.get("images", {})}
        loader: Any = getattr(engine.state, "dataloader", None)
        for item in getattr(getattr(loader, "dataset", None), "data", None) or ():
            source = item.get("image") if isinstance(item, dict) else None
            if not isinstance(source, (str, Path, list)):
                continue
            name, file = case_name(source), Path(files_of(source)[0])
            before = known.get(name)
            if before and _is_other(file, before) and self._has_results(name):
                raise ValueError(
                    f"{self.folder} holds the results of {before['file']}, and those of {file} "
                    f"would replace them: give another output folder"
                )

    def _has_results(self, name: str) -> bool:
        return any(path.name.startswith(f"{name}_") for path in self.folder.iterdir())

    def _keep(self, engine: Engine) -> None:
        output: Any = engine.state.output
        items = output if isinstance(output, list) else [output]
        self._results += len(items)
        for item in items:
            image = item.get("image")
            if isinstance(image, MetaTensor) and "filename_or_obj" in image.meta:
                entry = describe(image)
                self._images[case_name(files_in(image.meta))] = entry
        if time.monotonic() >= self._due:
            self._write(engine)

    def _write(self, engine: Engine) -> None:
        if not self._results:
            return  # every image was set aside: there is nothing that it could be of
        if self._made_by is None:
            self._made_by = {"weights": self._weights(), "settings": self.settings}
        made_by = self._made_by
        before = read_record(self.folder)
        state: Any = engine.state
        same = all(before.get(key) == value for key, value in made_by.items())
        listed = {**(before.get("images", {}) if same else {}), **self._images}
        earlier = {**before.get("earlier", {}), **before.get("images", {})}
        earlier = {
            name: {key: entry[key] for key in ("file", "sha256")}
            for name, entry in earlier.items()
            if name not in listed
        }
        record = {
            "finished": now(),
            "seconds": round(time.monotonic() - self._began, 3),
            "versions": versions(),
            "device": device_name(state.device),
            **made_by,
            "images": listed,
            **({"earlier": earlier} if earlier else {}),
        }
        write_record(self.folder / RECORD, record)
        self._due = time.monotonic() + EVERY_SECONDS

    def _weights(self) -> dict[str, str] | None:
        if self.weights is None or not Path(self.weights).is_file():
            return None
        return {"file": str(Path(self.weights).absolute()), "sha256": sha256(self.weights)}


def _is_other(source: Path, before: dict[str, Any]) -> bool:
    """Whether an image is not the one that was recorded, which may have moved or changed."""
    if not source.exists() or str(source.absolute()) == before["file"]:
        return False
    return bool(sha256(source) != before["sha256"])


def describe(image: MetaTensor) -> dict[str, Any]:
    """File, shape `[C, X, Y[, Z]]`, pixel size and SHA-256 of a loaded image.

    Shape and pixel size are those of the file, as are those of the results, even if the network
    saw another pixel size.
    """
    files = [str(Path(file).absolute()) for file in files_in(image.meta)]
    unit = known_unit(image.meta)
    dims = image.ndim - 1
    shape = [int(side) for side in image.meta.get("spatial_shape", image.shape[1:])]
    affine = torch.as_tensor(image.meta.get("original_affine", image.affine))
    sizes = affine_to_spacing(affine, dims)
    return {
        "file": files[0],
        **({"files": files} if len(files) > 1 else {}),
        "sha256": sha256(files),
        "shape": [image.shape[0], *shape],
        "pixel_size": [round(float(size), 6) for size in sizes] if unit else None,
        "unit": unit,
        "affine": affine.tolist() if unit else None,
        **({"notes": notes.splitlines()} if (notes := image.meta.get("notes")) else {}),
    }
