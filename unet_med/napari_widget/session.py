"""A session of annotating and training: a folder that the command line reads as well.

SESSION/images/NAME.tif   what was annotated
SESSION/labels/NAME.tif   its labels
SESSION/bundle            what the last training made of them
SESSION/bundle_previous   what the training before made
SESSION/training          the training at hand, until it has ended
SESSION/training.log      what it says
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np

from unet_med.bundle import read_plan
from unet_med.bundle.files import weights_file
from unet_med.data import load_image, save_image, stem
from unet_med.data.array_writer import smallest_label_dtype
from unet_med.data.folder_files import image_files
from unet_med.napari_widget.layers import image_layers, place_of
from unet_med.napari_widget.segmenting import Array, LayerData, Output, in_words
from unet_med.planning.labels import ASKED

SAVED_AS = "unet_med_file"  # of a layer's metadata: the stem of the file that it was read from


@dataclass(frozen=True)
class Session:
    """A folder of images, labels and the bundle that they trained.

    `unet-med train --images SESSION/images --labels SESSION/labels` trains on the same.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Session:
        """Begin a session, or go on with one; a training that was cut off is settled.

        Args:
            folder: of the session; made if it is missing.

        Raises:
            ValueError: no folder is named, a training is running in it, or it has a folder
                `training` that is no bundle, which a session would take for its own.
        """
        if not Path(folder).name:
            raise ValueError("choose a folder for the session first")
        session = cls(Path(folder).expanduser().absolute())
        session.require_own()
        for part in (session.images, session.labels):
            part.mkdir(parents=True, exist_ok=True)
        session.log().close()
        session.settle()
        return session

    @property
    def images(self) -> Path:
        """Folder of what was annotated."""
        return self.folder / "images"

    @property
    def labels(self) -> Path:
        """Folder of the labels, of the same names."""
        return self.folder / "labels"

    @property
    def bundle(self) -> Path:
        """What the last training made."""
        return self.folder / "bundle"

    @property
    def previous(self) -> Path:
        """What the training before made."""
        return self.folder / "bundle_previous"

    @property
    def training(self) -> Path:
        """The bundle of the training at hand."""
        return self.folder / "training"

    @property
    def is_trained(self) -> bool:
        """Whether there is a bundle that predicts."""
        return weights_file(self.bundle) is not None

    @property
    def label_kind(self) -> str | None:
        """What somebody said that the labels are, for the bundle; None: nobody did."""
        kind = read_plan(self.bundle).get("ids", {}).get("label_kind", {})
        return kind.get("value") if kind.get("reason") == ASKED else None

    def pairs(self) -> dict[str, tuple[Path, Path]]:
        """Files of image and labels, by name; what a system leaves in a folder is neither."""
        labels = {stem(file): file for file in _files_in(self.labels)}
        files = {stem(file): file for file in _files_in(self.images)}
        return {name: (file, labels[name]) for name, file in files.items() if name in labels}

    def add(
        self,
        name: str,
        image: Array,
        labels: Array,
        *,
        spacing: tuple[float, ...] | None = None,
        planes: Sequence[int] | None = None,
    ) -> list[str]:
        """Write an image and its labels; new labels of the same pixels replace the old ones.

        Args:
            name: of the layer, from which the file's is made.
            image: `(C, X, Y[, Z])`.
            labels: `(X, Y[, Z])`, whole numbers.
            spacing: pixel size, um, `(X, Y[, Z])`; None: it is not known.
            planes: of a stack, each of which is written as an image of its own; None: a stack
                is a volume.

        Returns:
            Names that were written.

        Raises:
            ValueError: the labels have another shape.
        """
        if labels.shape != image.shape[1:]:
            raise ValueError(
                f"the labels are {in_words(labels[None])}, and {name} is {in_words(image)}: choose "
                "the labels that were painted on it"
            )
        if image.shape[3:] == (1,):  # a stack of one plane
            image, labels, spacing = image[..., 0], labels[..., 0], spacing and spacing[:2]
        if planes is None or image.ndim == 3:
            return [self._write(name, image, labels, spacing)]
        return [
            self._write(f"{name}-z{z:03}", image[..., z], labels[..., z], spacing and spacing[:2])
            for z in planes
        ]

    def _write(
        self, name: str, image: Array, labels: Array, spacing: tuple[float, ...] | None
    ) -> str:
        """The labels first: an image without them would stop a training."""
        affine = None if spacing is None else np.diag([*spacing, 1.0, 1.0][:4])
        file = self._file(file_name(name), image)
        labelled = smallest_label_dtype(labels)
        save_image(self.labels / file, labelled, affine, has_channels=False)
        if not (self.images / file).exists():  # the same pixels, and perhaps more of its own
            save_image(self.images / file, image, affine)
        return stem(file)

    def _file(self, name: str, image: Array) -> str:
        """A file name that is free, or has these pixels already."""
        files = (f"{name}.tif" if k == 1 else f"{name}-{k}.tif" for k in count(1))
        return next(file for file in files if _is_free(self.images / file, image))

    def read(self, name: str) -> list[LayerData]:
        """Layers of an annotated image: its channels, or its colours, and its labels."""
        image, labels = map(load_image, self.pairs()[name])
        painted = labels.numpy()[0].T.astype(np.int32)  # ([Z,] Y, X)
        about = {"name": f"{name} labels", **place_of(image)}
        return [*image_layers(image, name, **{SAVED_AS: name}), (painted, about, "labels")]

    def output(self) -> Output:
        """What the bundle predicts: of instances the instances, else mask or classes."""
        from unet_med.bundle import load_config

        ids = load_config(self.bundle / "configs" / "inference.json")
        return "instances" if ids.get("label_kind") == "instances" else "mask"

    def log(self) -> IO[bytes]:
        """The file that a training writes to; while it is open nobody else gets it.

        A process that is given it holds it as long as it lives. Windows knows no such lock.

        Raises:
            ValueError: a training is running.
        """
        log = (self.folder / "training.log").open("ab")
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.close()
                raise ValueError(
                    f"a training is running in {self.folder}: wait for its end, or stop it where "
                    "it was started"
                ) from None
        return log

    def require_own(self) -> None:
        """Refuse a folder in which other things have the names of what a session removes.

        Raises:
            ValueError: says which.
        """
        for part in (self.training, self.bundle, self.previous):
            there = {path.name for path in part.iterdir()} if part.is_dir() else set()
            if there and not there & {"configs", "models"}:
                raise ValueError(
                    f"{part} is no trained bundle, and a session keeps one there: choose another "
                    "folder for the session"
                )

    def settle(self) -> bool:
        """Make what a training left the session's bundle, if it has weights; else remove it.

        The bundle before stays, as `bundle_previous`.

        Returns:
            Whether the bundle is a new one.
        """
        if weights_file(self.training) is None:
            shutil.rmtree(self.training, ignore_errors=True)
            return False
        if self.bundle.exists():
            shutil.rmtree(self.previous, ignore_errors=True)
            self.bundle.rename(self.previous)
        self.training.rename(self.bundle)
        self._say_where()
        return True

    def _say_where(self) -> None:
        """Name in the log the bundle that there is, not the folder in which it grew."""
        log = self.folder / "training.log"
        if log.is_file():
            grew, lies = (os.fsencode(path) for path in (self.training, self.bundle))
            ends = rb"(?![\w.-])"  # `training.log` is another name
            log.write_bytes(re.sub(re.escape(grew) + ends, lambda _: lies, log.read_bytes()))


def file_name(layer: str) -> str:
    """A layer's name as that of a file, without endings that mean something to the command line.

    >>> file_name("cells [2]: a_mask"), file_name("...")
    ('cells-2-a-mask', 'image')
    """
    return re.sub(r"[\W_]+", "-", layer).strip("-") or "image"


def _files_in(folder: Path) -> list[Path]:
    """Images of a folder; none where it holds none, or is gone."""
    try:
        return image_files(folder)
    except (FileNotFoundError, ValueError):
        return []


def _is_free(file: Path, image: Array) -> bool:
    if not file.exists():
        return True
    there = load_image(file).numpy()
    return np.array_equal(there, image.astype(there.dtype), equal_nan=there.dtype.kind == "f")
