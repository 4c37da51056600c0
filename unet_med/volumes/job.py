"""What is to be done, fixed before the first block, and what has been done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from unet_med.bundle import find_trained, find_weights
from unet_med.data.atomic import atomic_write
from unet_med.data.sources import Source, open_source
from unet_med.instances import along_axes
from unet_med.segmentation import Segmenter, Volume
from unet_med.segmentation.volume import Found
from unet_med.volumes.blocks import Block, split
from unet_med.volumes.components import around
from unet_med.volumes.grid import choose_layout, choose_tile
from unet_med.volumes.statistics import fingerprint, load_statistics, save_statistics
from unet_med.volumes.store import Layer, Layout, create_store, is_whole

__all__ = ["BlockJob", "weights_of"]

FINISHED = "finished.json"  # of the last step, when it is done
OUTPUTS = ("mask", "probabilities", "uncertainty", "instances", "rois")


@dataclass(frozen=True)
class BlockJob:
    """Source, network and grid of one run, and the markers of its finished blocks.

    It lies beside the output as `OUTPUT.job/job.json`, with the source's statistics, a marker a
    finished block, and one of the last step. Its id is hashed from all that decides the result;
    whoever resumes with other weights, configs, source, grid or versions is refused.

    Attributes:
        source: image file or folder.
        output: OME-Zarr to write.
        bundle: folder of the trained bundle.
        settings: ids of its `inference.json` that are overridden; a `checkpoint` of the bundle's
            own is relative to it.
        outputs: of `mask`, `probabilities`, `uncertainty`, `instances`, `rois`.
        layout: sides of the volume, its blocks and levels, `([Z,] Y, X)`.
        tile: largest input sides of the network, px, `([Z,] Y, X)`, as many as it has axes.
        layers: what blocks write.
        device: `"cpu"` or a kind of GPU; their last digits differ.
        threads: of a worker on a CPU, on which last digits depend too.
        instances: how components become instances: `InstancesFromLogits.sizes`.
        objects: whether blocks store the classes of which instances are made; else those of
            the mask are.
        trust: whether the bundle may run what unet-med's own does not name.
        parts: hash of each thing that decides the result.
        choice: what the bundle's reader takes of files that hold several; see `open_source`.
        names: of the classes, the background first.
        values: of the classes in masks.
        channels: of the source.
    """

    source: Path
    output: Path
    bundle: Path
    settings: dict[str, Any]
    outputs: tuple[str, ...]
    layout: Layout
    tile: tuple[int, ...]
    layers: tuple[Layer, ...]
    device: str
    threads: int
    instances: dict[str, Any]
    objects: bool
    trust: bool
    parts: dict[str, str]
    choice: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    channels: int = 1

    @classmethod
    def create(
        cls,
        source: str | Path,
        output: str | Path,
        bundle: str | Path,
        *,
        block: Sequence[int] | None = None,
        tile: int | Sequence[int] | None = None,
        outputs: Sequence[str] = ("mask",),
        settings: Mapping[str, Any] | None = None,
        device: str = "cpu",
        threads: int = 1,
        workers: int = 1,
        trust: bool = False,
        progress: bool = False,
    ) -> BlockJob:
        """Lay out a run, with a first pass over the source for what the network needs of it all.

        Args:
            source: OME-Zarr folder, TIFF or NIfTI file.
            output: OME-Zarr to write.
            bundle: folder of a trained bundle.
            block: sides of a block, px, `([Z,] Y, X)`; multiples of the network's stride.
            tile: sides of the network's input inside a block, px, one or one an axis.
            outputs: of `mask` (always), `probabilities`, `uncertainty`, `instances`, `rois`
                (with instances).
            settings: ids of `inference.json` to override, such as `{"tta": None}`.
            device: `"cpu"` or a GPU.
            threads: of each worker on a CPU.
            workers: that will share this machine's GPUs; each plans its tiles for its share.
            trust: run also what unet-med's own bundle does not name.
            progress: whether to show the first pass.

        Returns:
            The job, written, with the empty output. Of several that create the same at once
            all get the same.

        Raises:
            FileExistsError: the output exists and belongs to another job, or to none.
            ValueError: source, network and sides do not go together, blocks could not equal one
                pass, or the output is gone that blocks were written to.
        """
        places = (source, output, find_trained(bundle))
        source, output, bundle = (Path(place).absolute() for place in places)
        if output.exists() and not (_folder(output) / "job.json").is_file():
            raise FileExistsError(f"{output} exists and has no job beside it: choose a new name")
        if unknown := set(outputs) - set(OUTPUTS):
            raise ValueError(f"output {min(unknown)!r} is none of {', '.join(OUTPUTS)}")
        wanted = {"mask", *outputs, *(["instances"] if "rois" in outputs else [])}
        segmenter = Segmenter(bundle, device=device, trust=trust, **(settings or {}))
        if "uncertainty" in wanted:
            segmenter.require_confidence()
        image = open_source(source, **segmenter.choice)
        volume = Volume(segmenter, image, progress=progress)
        layout = choose_layout(volume, block)
        rules = volume.rules
        job = cls(
            source=source,
            output=output,
            bundle=bundle,
            settings=_within(bundle, settings or {}),
            outputs=tuple(name for name in OUTPUTS if name in wanted),
            layout=layout,
            tile=choose_tile(layout, volume, tile, threads, workers),
            layers=_layers(segmenter, wanted),
            device=device.split(":")[0],
            threads=threads,
            instances=rules.sizes,
            objects="instances" in wanted and rules.threshold is not None,
            trust=trust,
            parts={},
            choice=segmenter.choice,
            names=tuple(segmenter.names),
            values=tuple(segmenter.class_values or range(segmenter.out_channels)),
            channels=image.channels,
        )
        if "instances" in wanted:
            _check_thickness(job)
        job = replace(job, parts=job._parts(image, volume.found))
        return job._publish(volume.found)

    @classmethod
    def load(cls, output: str | Path) -> BlockJob:
        """The job of an output.

        Raises:
            FileNotFoundError: there is none.
            ValueError: its file is damaged.
        """
        file = _folder(Path(output).absolute()) / "job.json"
        if not file.is_file():
            raise FileNotFoundError(f"{output} has no job ({file}): start it with predict")
        content = json.loads(file.read_text(encoding="utf-8"))
        stored = content.pop("id", None)
        layout: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content["layout"].items()
        }
        if "pyramid" not in layout:
            raise ValueError(f"{file} is of an earlier version: delete {file.parent} to begin anew")
        layout["pyramid"] = tuple(map(tuple, layout["pyramid"]))
        job = cls(
            **{
                **content,
                **{name: Path(content[name]) for name in ("source", "bundle")},
                "output": Path(output).absolute(),
                **{k: tuple(content.get(k, ())) for k in ("outputs", "names", "values")},
                "layout": Layout(**layout),
                "tile": tuple(content["tile"]),
                "layers": tuple(Layer(**layer) for layer in content["layers"]),
            }
        )
        if job.id != stored:
            raise ValueError(f"{file} has been changed by hand: delete {file.parent} to begin anew")
        return job

    @cached_property
    def id(self) -> str:
        """Hash of all that decides the result."""
        return _hash(self.parts)[:16]

    @property
    def ids(self) -> dict[str, Any]:
        """The settings as a `Segmenter` takes them, with the place where the bundle lies now."""
        if "checkpoint" not in self.settings:
            return self.settings
        return {**self.settings, "checkpoint": str(self.bundle / self.settings["checkpoint"])}

    @property
    def folder(self) -> Path:
        """Where the job and its markers lie."""
        return _folder(self.output)

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks, in C order."""
        return split(self.layout.shape, self.layout.block)

    @cached_property
    def statistics(self) -> Found:
        """What the first pass found."""
        return load_statistics(self.folder / "statistics.npz")

    def at(self, source: str | Path, bundle: str | Path) -> BlockJob:
        """The job, checked, with its source and bundle where they lie now.

        It is written so, for other processes read where to find them.

        Args:
            source: image file or folder.
            bundle: folder of the trained bundle.

        Raises:
            ValueError: see `check`.
        """
        moved = replace(self, source=Path(source).absolute(), bundle=Path(bundle).absolute())
        moved.check()
        if moved != self:
            with atomic_write(self.folder / "job.json") as part:
                part.write_text(moved._text(), encoding="utf-8")
        return moved

    def check(self) -> None:
        """Refuse to go on if anything that decides the result has changed.

        Raises:
            ValueError: says what has, that a marker is of another job, or that the output is gone.
        """
        self.require_output()
        now = self._parts(open_source(self.source, **self.choice), self.statistics)
        for name, value in now.items():
            if value != self.parts[name]:
                raise ValueError(
                    f"the {name} changed since {self.output.name} was planned, so its blocks would "
                    f"not fit together: bring it back, or choose a new --output"
                )
        for marker in self.markers():
            if marker["job"] != self.id:
                raise ValueError(
                    f"block {marker['block']} of {self.output.name} was made by job "
                    f"{marker['job']}, not {self.id}: choose a new --output"
                )

    def require_output(self) -> None:
        """Make the empty output, unless blocks were written to it, which are gone then.

        Raises:
            ValueError: see `lost`.
        """
        if lost := self.lost():
            raise ValueError(lost)
        create_store(self.output, self.layers, self.layout)  # if it is not there

    def lost(self) -> str | None:
        """In a sentence, that the output is not there to which markers say blocks were written.

        Markers alone would take the empty output that is made anew for one that is done.
        """
        # Looked at first: others make the output before their first block.
        begun = len([*(self.folder / "done").glob("[0-9]*.json")])
        there = self.output.exists()
        if is_whole(self.output, self.layers, self.layout) or not (begun or there):
            return None
        both = f"{self.output} and {self.folder}" if there else str(self.folder)
        gone = "is no longer whole" if there else "is gone"
        return (
            f"{self.output} {gone}, to which {begun} of {len(self.blocks)} blocks were "
            f"written: bring it back, or delete {both} to begin anew"
        )

    def finished(self) -> dict[str, Any] | None:
        """What was noted when the last step was done; None before, and once a block is done anew.

        Raises:
            ValueError: the note is of another job.
        """
        return self._read(self.folder / FINISHED)

    def note_finished(self, **details: Any) -> None:
        """Write the marker of the last step, in one step."""
        with atomic_write(self.folder / FINISHED) as part:
            part.write_text(json.dumps({"job": self.id, **details}), encoding="utf-8")

    def marker(self, block: Block) -> dict[str, Any] | None:
        """What was noted when a block was finished; None before.

        Raises:
            ValueError: the marker is of another job.
        """
        return self._read(self._path("done", block))

    def markers(self) -> list[dict[str, Any]]:
        """What was noted of all finished blocks."""
        return self._notes("done")

    def failures(self) -> list[dict[str, Any]]:
        """What was noted of blocks that were begun and not finished."""
        done = {marker["block"] for marker in self.markers()}
        return [note for note in self._notes("failed") if note["block"] not in done]

    def note(self, kind: str, block: Block, **details: Any) -> None:
        """Write a marker, in one step.

        Args:
            kind: `"done"`, which takes a note of failure away, or `"failed"`.
            block: what it is about.
            details: to note.
        """
        (self.folder / FINISHED).unlink(missing_ok=True)  # it knows nothing of what comes now
        name = ".".join(map(str, block.index))
        text = json.dumps({"job": self.id, "block": name, **details})
        with atomic_write(self._path(kind, block)) as part:
            part.write_text(text, encoding="utf-8")
        if kind == "done":
            self._path("failed", block).unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        marker: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if marker["job"] != self.id:
            raise ValueError(f"{path} is of job {marker['job']}, not {self.id}")
        return marker

    def _path(self, kind: str, block: Block) -> Path:
        return self.folder / kind / (".".join(map(str, block.index)) + ".json")

    def _notes(self, kind: str) -> list[dict[str, Any]]:
        notes = []
        for file in sorted((self.folder / kind).glob("[0-9]*.json")):
            with suppress(FileNotFoundError):  # of a failure, taken away by who did the block
                notes.append(json.loads(file.read_text(encoding="utf-8")))
        return notes

    def _parts(self, image: Source, statistics: Found) -> dict[str, str]:
        """What decides the result, as hashes."""
        names = ("inference", "metadata", "plan")
        configs = [self.bundle / "configs" / f"{name}.json" for name in names]
        configs = [path for path in configs if path.is_file()]  # a bundle may have no plan
        return {
            "weights": _file_hash(weights_of(self.bundle, self.ids)),
            "configs": _hash([[_file_hash(file) for file in configs], self.settings]),
            "source": _hash([image.identity, image.shape, image.channels, str(image.dtype)]),
            "statistics": fingerprint(statistics),
            "grid": _hash(
                [asdict(self.layout), self.tile, self.outputs, self.device, self.threads]
            ),
            "version of a package": _hash(_versions()),
        }

    def _publish(self, statistics: Found) -> BlockJob:
        """Write job and output; another's that is there already must be the same."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=f".{self.folder.name}."))
        part = beside / self.folder.name  # the folder around it is ours alone
        save_statistics(part / "statistics.npz", statistics)
        (part / "job.json").write_text(self._text(), encoding="utf-8")
        try:
            os.rename(part, self.folder)
        except OSError:
            other = BlockJob.load(self.output)
            if other.id != self.id:
                raise FileExistsError(
                    f"{self.output} belongs to another job: choose a new --output, or resume"
                ) from None
        finally:
            shutil.rmtree(beside)
        self.require_output()
        return self

    def _text(self) -> str:
        """Content of `job.json`."""
        return json.dumps({"id": self.id, **asdict(self)}, indent=1, default=str)


def _folder(output: Path) -> Path:
    return output.with_name(output.name + ".job")


def _layers(segmenter: Segmenter, outputs: Collection[str]) -> tuple[Layer, ...]:
    largest = max(segmenter.class_values or [segmenter.out_channels - 1])
    layers = [
        Layer("mask", "uint8" if largest < 256 else "uint16" if largest < 65536 else "uint32")
    ]
    if "probabilities" in outputs:
        dtype = str(segmenter.dtype).removeprefix("torch.")
        layers.append(Layer("probabilities", dtype, segmenter.out_channels))
    if "uncertainty" in outputs:
        layers.append(Layer("uncertainty", "float32"))
    if "instances" in outputs:
        layers.append(Layer("instances", "uint32"))
    return tuple(layers)


def _check_thickness(job: BlockJob) -> None:
    """What grows into a block must come from its next neighbours alone."""
    layout = job.layout
    dims, axes = len(layout.shape), job.instances["axes"]
    sizes = [along_axes(job.instances[name], dims, axes) for name in ("grow", "reach")]
    needed = around(*sizes)[::-1]  # of (X, Y[, Z])
    for side, length, least in zip(layout.block, layout.shape, needed, strict=True):
        if side < min(length, least):
            raise ValueError(
                f"blocks of {side} px are thinner than the {least} px within which the "
                f"bundle's instances grow: use larger blocks"
            )


def _within(bundle: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which weights of the bundle have no place but that, so that it may move."""
    weights = Path(settings.get("checkpoint", ""))
    if not weights.is_absolute() or not weights.is_relative_to(bundle):
        return dict(settings)
    return {**settings, "checkpoint": weights.relative_to(bundle).as_posix()}


def weights_of(bundle: Path, settings: Mapping[str, Any]) -> Path:
    """Weights of a bundle, or those that settings name."""
    return Path(settings["checkpoint"]) if "checkpoint" in settings else find_weights(bundle)


def _versions() -> dict[str, str]:
    import monai
    import numpy
    import torch

    import unet_med

    return {package.__name__: package.__version__ for package in (monai, numpy, torch, unet_med)}


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
