"""What is to be done, fixed before the first block."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unet_med.bundle import find_trained
from unet_med.data.atomic import atomic_write
from unet_med.data.grids import ORIENTED
from unet_med.data.pixel_size import beyond_sizes
from unet_med.data.sources import DiskImage, open_source
from unet_med.geometry.plain import whole
from unet_med.instances import along_axes
from unet_med.segmentation import Segmenter, Volume
from unet_med.segmentation.volume import Found
from unet_med.volumes.blocks import Block, split
from unet_med.volumes.components import around, require_thickness
from unet_med.volumes.grid import choose_layout, choose_tile
from unet_med.volumes.identity import id_of, parts_of, relative_settings
from unet_med.volumes.job_file import STATISTICS, job_folder, publish, read_fields, text_of
from unet_med.volumes.markers import Markers
from unet_med.volumes.store import Layer, Layout, create_store, is_whole, open_level

_log = logging.getLogger(__name__)

OUTPUTS = ("mask", "probabilities", "uncertainty", "instances", "rois")


@dataclass(frozen=True)
class BlockJob:
    """Source, network and grid of one run; its `markers` say what has been done.

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
        if output.exists() and not (job_folder(output) / "job.json").is_file():
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
            settings=relative_settings(bundle, settings or {}),
            outputs=tuple(name for name in OUTPUTS if name in wanted),
            layout=layout,
            tile=choose_tile(layout, volume, tile, threads, workers),
            layers=_layers(segmenter, wanted),
            device=device.split(":")[0],
            threads=whole("threads", threads),
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
        job = replace(job, parts=parts_of(job, image, volume.found))
        _say_left_out(image)
        return job._publish(volume.found)

    @classmethod
    def load(cls, output: str | Path) -> BlockJob:
        """The job of an output.

        Raises:
            FileNotFoundError: there is none.
            ValueError: its file is damaged.
        """
        fields = read_fields(Path(output).absolute())
        stored = fields.pop("id", None)
        job = cls(**fields)
        if job.id != stored:
            raise ValueError(
                f"{job.folder / 'job.json'} has been changed by hand: delete {job.folder} to begin "
                f"anew"
            )
        return job

    @cached_property
    def id(self) -> str:
        """Hash of all that decides the result."""
        return id_of(self.parts)

    @property
    def ids(self) -> dict[str, Any]:
        """The settings as a `Segmenter` takes them, with the place where the bundle lies now."""
        if "checkpoint" not in self.settings:
            return self.settings
        return {**self.settings, "checkpoint": str(self.bundle / self.settings["checkpoint"])}

    @property
    def folder(self) -> Path:
        """Where the job and its markers lie."""
        return job_folder(self.output)

    @cached_property
    def markers(self) -> Markers:
        """What has been done of it."""
        return Markers(self.folder, self.id)

    @cached_property
    def blocks(self) -> list[Block]:
        """All blocks, in C order."""
        return split(self.layout.shape, self.layout.block)

    def layer(self, name: str) -> Layer | None:
        """The layer of a name; None: the output has none."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def pixels(self, name: str) -> Any:
        """What stands in a layer at full resolution, a zarr array `([C,] [Z,] Y, X)`, or None."""
        layer = self.layer(name)
        return None if layer is None else open_level(self.output, layer)

    @cached_property
    def statistics(self) -> Found:
        """What the first pass found."""
        with np.load(self.folder / STATISTICS, allow_pickle=False) as file:
            return dict(file)

    def volume(self, device: torch.device | str) -> Volume:
        """The source, opened, as the bundle's network works it on a device."""
        segmenter = Segmenter(self.bundle, device=device, trust=self.trust, **self.ids)
        return Volume(segmenter, open_source(self.source, **self.choice), self.statistics)

    def at(self, source: str | Path, bundle: str | Path) -> BlockJob:
        """The job, checked, with its source and bundle where they lie now.

        It is written so, for other processes read where to find them.

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
            ValueError: says what has, or that the output is gone.
        """
        self.require_output()
        now = parts_of(self, open_source(self.source, **self.choice), self.statistics)
        for name, value in now.items():
            if value != self.parts[name]:
                raise ValueError(
                    f"the {name} changed since {self.output.name} was planned, so its blocks would "
                    f"not fit together: bring it back, or choose a new --output"
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
        begun = self.markers.count()
        there = self.output.exists()
        if is_whole(self.output, self.layers, self.layout) or not (begun or there):
            return None
        both = f"{self.output} and {self.folder}" if there else str(self.folder)
        gone = "is no longer whole" if there else "is gone"
        return (
            f"{self.output} {gone}, to which {begun} of {len(self.blocks)} blocks were "
            f"written: bring it back, or delete {both} to begin anew"
        )

    def _publish(self, statistics: Found) -> BlockJob:
        """Write job and output; another's that is there already must be the same."""
        if not publish(self.folder, self._text(), statistics):
            other = BlockJob.load(self.output)
            if other.id != self.id:
                raise FileExistsError(
                    f"{self.output} belongs to another job: choose a new --output, or resume"
                )
        self.require_output()
        return self

    def _text(self) -> str:
        return text_of(self.id, asdict(self))


def _say_left_out(image: DiskImage) -> None:
    """Say what the output does not hold of where its source lies, and what does."""
    affine = image.affine if image.spacing_source in ORIENTED else None
    if affine is not None and (beyond := beyond_sizes(affine)):
        _log.warning(
            "OME-Zarr and TIFF hold pixel sizes, not %s: results are in the order of the voxels "
            "of %s, whose affine record.json keeps",
            " and ".join(beyond),
            image.path,
        )


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
    """Refuse blocks in which the bundle's instances would grow past the next neighbours."""
    layout = job.layout
    dims, axes = len(layout.shape), job.instances["axes"]
    sizes = [along_axes(job.instances[name], dims, axes) for name in ("grow", "reach")]
    needed = around(*sizes)[::-1]  # of (X, Y[, Z])
    require_thickness(layout.block, layout.shape, needed)
