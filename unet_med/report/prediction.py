"""Record beside results which weights made them from which images."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor
from monai.engines.utils import IterationEvents

from unet_med import devices
from unet_med.bundle.writing import planned_bundle
from unet_med.data.atomic import write_json
from unet_med.data.cases import NAME, files_in, files_of, one_place, result_name, same_name
from unet_med.data.changed_results import ChangedResults
from unet_med.data.checksum import sha256
from unet_med.data.entries import WRITTEN
from unet_med.data.lock import locked
from unet_med.data.plane_kind import PLANES, planes_stated
from unet_med.errors import one_line
from unet_med.handlers.skipped_failures import image_of
from unet_med.planning.learned import Learned
from unet_med.report.doubtful import say_doubtful
from unet_med.report.entries import (
    ARRAYS,
    arrays_in,
    describe,
    entries_of,
    hash_of,
    is_made_by,
    is_of_same_image,
    is_other,
    is_written,
    joined,
    learned_of,
    without,
)
from unet_med.report.found_results import FoundResults
from unet_med.report.found_widths import FoundWidths
from unet_med.report.provenance import CHOSE, LEARNED, RECORD, now, read_record, versions

EVERY_SECONDS = 10.0

_log = logging.getLogger(__name__)


class PredictionRecord:
    """Handler that writes `record.json` into the folder of the results.

    It holds versions, device, time, the SHA-256 of the weights, and for every image
    its file, shape, pixel size and SHA-256, under the name that its results carry, with the kinds
    of results that these weights and settings wrote (`outputs`) and the SHA-256 of each file of
    them (`digests`); of a stack also whether its planes
    are images (`planes`); of one that taught the network `learned`, and of one that was held out,
    and chose how it makes objects, `chose`. A further run of the same
    weights and settings into the folder adds its images; what other weights left is listed as
    `earlier`. Of an image that other weights or settings make anew, older results that these do not
    write are removed, so that all under one name are of one network; but a file that is no longer
    as it was written goes to the folder `kept`. A run that would write over
    the results of another image of the same name is refused, and one that would write over files
    that no prediction made.
    Of an image that an evaluator with `faults` sets aside, older results are removed; what the
    record does not name stays. Processes that write into one folder take turns
    (`unet_med.data.lock`), so that each of them is recorded.
    It is written before the first result, with the names that the run writes under (`claimed`),
    after the first image and every ten seconds, so that a run that is stopped leaves no record of
    what it has written over, and no result that a further run would not know for its own.

    Args:
        folder: where the results go.
        weights: file of the weights, if any.
        settings: further plain values to record, by name.
        reader: the reader of the images; what it chooses in files that hold several (`choice` of
            `AutoReader`) is written down, for the report reads them again.
        name: template of the results' names, see `unet_med.data.cases.result_name`.
        file: the one result, where it is not named so.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        weights: str | os.PathLike[str] | None = None,
        settings: dict[str, Any] | None = None,
        reader: Any = None,
        *,
        name: str = NAME,
        file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.weights = weights
        self.settings = dict(settings or {})
        self.name = name
        self.file = None if file is None else Path(file)
        if choice := getattr(reader, "choice", None):
            self.settings["choice"] = choice
        self._learned: Learned | None = None
        self._reset()
        self.widths = FoundWidths(planned_bundle(weights), self.settings)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.register_events(IterationEvents.FORWARD_COMPLETED)  # which ignite's own lack
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._claim)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._drop_failed)
        engine.add_event_handler(Events.COMPLETED, lambda: say_doubtful(self._images))
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._end)
        self.widths.attach(engine)

    def _reset(self) -> None:
        """Nothing is known of a run yet."""
        self._images: dict[str, dict[str, Any]] = {}
        self._claimed: list[str] = []  # names of images, from the first result of a run
        self._array: str | None = None
        self._results = 0
        self._began = self._due = 0.0  # s
        self._made_by: dict[str, Any] | None = None
        self._removed = False
        self._changed = ChangedResults(self.folder)

    def _start(self, engine: Engine) -> None:
        self._reset()
        self._began = time.monotonic()
        self._changed.begin()
        self.refuse_others(_sources(engine))

    def refuse_others(self, sources: Iterable[Any], *, array: str | None = None) -> None:
        """Refuse images whose results would replace others of the same name.

        Args:
            sources: file, or files, of each.
            array: of an image that is no file's, the SHA-256 of its pixels; such share one name.

        Raises:
            ValueError: those of another image, or files that no prediction made; names them.
        """
        record = read_record(self.folder)
        known, arrays = entries_of(record), arrays_in(record, self._maker())
        places = {one_place(name): entry for name, entry in known.items()}
        results = FoundResults(self.folder, self.file)
        for source in sources:
            name, files = result_name(source, self.name), files_of(source)
            if not (there := results.in_the_way(name)):
                continue
            before = known.get(same_name(name), places.get(one_place(name)))
            found = next(iter(there.values()))[0].name
            if before is None:
                raise ValueError(
                    f"{self.folder} holds {found}, which no prediction recorded: give another "
                    f"output{' folder' * (self.file is None)}, or move it"
                )
            if array != arrays.get(same_name(name)):
                raise ValueError(
                    f"{self.folder} holds {found} of another image, or made by other weights or "
                    "settings: give each array a folder of its own, or delete what it holds"
                )
            if before and is_other(files, before):
                raise ValueError(
                    f"{self.folder} holds the results of {before['file']}, and those of {files[0]} "
                    f"would replace them: give another output folder"
                )

    def claim(
        self, sources: Iterable[Any], device: torch.device | str, array: str | None = None
    ) -> None:
        """Record the names that results are about to be written under.

        Whatever stops the run then, a further one knows them for its own.

        Args:
            sources: file, or files, of each image.
            device: on which the network runs.
            array: as for `refuse_others`.
        """
        self._began = self._began or time.monotonic()
        self._claimed = [result_name(source, self.name) for source in sources]
        self._array = array
        if self._claimed:
            self._put(device)

    def _claim(self, engine: Engine) -> None:
        """Claim the names of all images when the first one is about to be written."""
        if not self._claimed:
            state: Any = engine.state
            self.claim(_sources(engine), state.device)

    def unfinished(self, data: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
        """Items of a data list without those that the same weights and settings have done.

        An image is done if the record has it with its SHA-256 and every output, which are there.
        Of a record of an earlier version, which names no outputs, no image is done.

        Args:
            data: items with an `image`.
            outputs: what is wanted of each: `mask`, `instances`, `probabilities`.
        """
        record = read_record(self.folder)
        if not is_made_by(record, self._maker()):
            return list(data)
        results = FoundResults(self.folder, self.file)

        def is_done(image: Any) -> bool:
            name = result_name(image, self.name)
            entry = record.get("images", {}).get(name)
            if entry is None:
                return False
            ours = results.of(name).keys() & set(entry.get(WRITTEN, ()))
            return set(outputs) <= ours and hash_of(files_of(image)) == entry["sha256"]

        return [item for item in data if not is_done(item["image"])]

    def _drop_failed(self, engine: Engine) -> None:
        """Remove older results of images that were set aside, and what is recorded of them."""
        self._drop(engine, [fault.image for fault in getattr(engine, "faults", ())])

    def _end(self, engine: Engine, error: BaseException) -> None:
        """Record what was done before an error, and remove older results of the image it is of."""
        if image := image_of(error):
            self._write(engine)
            self._drop(engine, [image])
        raise error

    def _drop(self, engine: Engine, images: Sequence[str]) -> None:
        """Remove the results of images, and what is recorded of them."""
        sources = {files_of(source)[0]: source for source in _sources(engine)}
        failed = [sources.get(image, image) for image in images]
        names = {same_name(result_name(source, self.name)) for source in failed}
        if not names or not self.folder.is_dir():
            return
        with locked(self.folder / RECORD):
            record = read_record(self.folder)
            known = entries_of(record)
            if not (ours := names & known.keys()):  # else somebody else's files
                return
            results = FoundResults(self.folder, self.file)
            for name in ours:
                found = results.recorded(name, known[name])
                self._changed.remove({path: each.digest for path, each in found.items()})
            self._claimed = [name for name in self._claimed if same_name(name) not in ours]
            write_json(self.folder / RECORD, without(record, ours), indent=2)

    def _keep(self, engine: Engine) -> None:
        output: Any = engine.state.output
        items = output if isinstance(output, list) else [output]
        self._results += len(items)
        for item in items:
            image = item.get("image")
            if isinstance(image, MetaTensor) and "filename_or_obj" in image.meta:
                self._add(image)
        if time.monotonic() >= self._due:
            self._write(engine)

    def _add(self, image: MetaTensor) -> None:
        """Record an image; one whose file has gone since it was read only keeps its name."""
        files = files_in(image.meta)
        try:
            self._images[result_name(files, self.name)] = self._entry(image)
        except OSError as error:  # of this file alone, which must not end the run
            _log.warning(
                "%s cannot be read again, so %s does not list it: %s",
                files[0],
                self.folder / RECORD,
                one_line(error),
            )

    def _entry(self, image: MetaTensor) -> dict[str, Any]:
        """What is recorded of an image: `describe`, its planes, and if it taught or chose."""
        entry = describe(image)
        if self.settings.get("spatial_dims") == 2 and len(entry["shape"]) == 4:
            entry[PLANES] = self.settings.get(PLANES) or planes_stated(image.meta)
        if self._learned is None:
            self._learned = learned_of(self.weights)
        if self._learned.has(entry["sha256"]):
            return {**entry, LEARNED: True}
        return {**entry, CHOSE: True} if self._learned.chose(entry["sha256"]) else entry

    def note(self, image: MetaTensor, device: torch.device | str, seconds: float) -> None:
        """Record an image that was segmented without an engine, such as by a `Segmenter`.

        Args:
            image: read from a file; of what is no file's, nothing could be told.
            device: on which.
            seconds: that it took.
        """
        files = files_in(image.meta)
        if not all(Path(file).exists() for file in files):
            return
        self._began, self._results = time.monotonic() - seconds, 1
        self._images = {result_name(files, self.name): self._entry(image)}
        self._put(device)
        say_doubtful(self._images)

    def _write(self, engine: Engine) -> None:
        if not self._results:
            return  # every image was set aside: there is nothing that it could be of
        state: Any = engine.state
        self._put(state.device)
        self._due = time.monotonic() + EVERY_SECONDS

    def _put(self, device: Any) -> None:
        with locked(self.folder / RECORD):
            before = read_record(self.folder)
            self._remove_replaced(before)
            write_json(self.folder / RECORD, self._joined(before, device), indent=2)

    def _remove_replaced(self, before: Mapping[str, Any]) -> None:
        """Remove what another maker left of images, and this one has not written anew."""
        ours, known = self._kept(before), entries_of(before)
        anew = {
            name: entry
            for name, entry in self._images.items()
            if WRITTEN in entry
            and same_name(name) in known
            and not is_of_same_image(entry, ours.get(name))
        }
        if not anew:
            return
        results = FoundResults(self.folder, self.file)
        for name, entry in anew.items():
            found = results.recorded(name, known[same_name(name)])
            replaced = {
                path: each.digest
                for path, each in found.items()
                if not is_written(path, each.kind, entry)
            }
            self._say_removed(self._changed.remove(replaced))

    def _say_removed(self, files: Sequence[Path]) -> None:
        if files and not self._removed:  # in a long run once
            self._removed = True
            _log.warning(
                "removed what was not written anew, such as %s: it is of other weights, settings "
                "or pixels than the record now says",
                files[0],
            )

    def _kept(self, before: Mapping[str, Any]) -> Mapping[str, Any]:
        """Images that the same weights and settings have done."""
        return before.get("images", {}) if is_made_by(before, self._maker()) else {}

    def _joined(self, before: Mapping[str, Any], device: Any) -> dict[str, Any]:
        """What the folder's record says from now on."""
        own = [] if self._array is None else self._claimed
        arrays = arrays_in(before, self._maker()) | {same_name(n): self._array for n in own}
        return {
            "finished": now(),
            "seconds": round(time.monotonic() - self._began, 3),
            "versions": versions(),
            "device": devices.describe(device),
            **self._maker(),
            **joined(before, self._kept(before), self._images, self._claimed),
            **({ARRAYS: arrays} if arrays else {}),
        }

    def _maker(self) -> dict[str, Any]:
        if self._made_by is None:
            settings = json.loads(json.dumps(self.settings))  # as the record has them
            self._made_by = {"weights": self._weights(), "settings": settings}
        return self._made_by

    def _weights(self) -> dict[str, str] | None:
        if self.weights is None or not Path(self.weights).is_file():
            return None
        return {"file": str(Path(self.weights).absolute()), "sha256": sha256(self.weights)}


def _sources(engine: Engine) -> Iterator[Any]:
    """File, or files, of each image that an engine goes through, where it says them."""
    loader: Any = getattr(engine.state, "dataloader", None)
    for item in getattr(getattr(loader, "dataset", None), "data", None) or ():
        source = item.get("image") if isinstance(item, dict) else None
        if isinstance(source, (str, Path, list)):
            yield source


def unfinished(
    data: Sequence[Any], record: PredictionRecord, outputs: Sequence[str], resume: bool = True
) -> list[Any]:
    """What is still to do of a data list, see `PredictionRecord.unfinished`.

    Args:
        data: the list.
        record: of the folder that the results go to.
        outputs: what is wanted of each image.
        resume: False: all of it.
    """
    return record.unfinished(data, outputs) if resume else list(data)
