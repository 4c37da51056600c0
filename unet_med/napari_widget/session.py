"""A session of annotating and training: a folder that the command line reads as well.

SESSION/images/NAME.tif   what was annotated; files of other formats may be put there as well
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
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np
from tifffile import TiffFile

from unet_med.bundle import read_plan
from unet_med.bundle.files import weights_file
from unet_med.data import load_header, load_image, save_image, sha256, stem, turned_onto
from unet_med.data.array_writer import smallest_label_dtype
from unet_med.data.cases import one_place
from unet_med.data.digest import digest
from unet_med.data.file_reader import Volume
from unet_med.data.folder_files import image_files
from unet_med.data.formats import NIFTI, TIFF, format_of, result_suffix
from unet_med.data.grids import RAS
from unet_med.data.orientation import affine_along
from unet_med.data.pixel_size import MICROMETRES
from unet_med.data.pixel_size import in_words as sizes_in_words
from unet_med.errors import user_error
from unet_med.napari_widget.layers import image_layers, place_of
from unet_med.napari_widget.segmenting import Array, LayerData, Output, in_words
from unet_med.planning.plan import ASKED
from unet_med.planning.source import known_images

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
        orientation: str | None = None,
    ) -> list[str]:
        """Write an image and its labels; new labels of the same pixels replace the old ones.

        An image that is there already keeps its file, and its labels their format.

        Args:
            name: of the layer, from which that of a new file is made; or of a pair.
            image: `(C, X, Y[, Z])`.
            labels: `(X, Y[, Z])`, whole numbers.
            spacing: pixel size, um, `(X, Y[, Z])`; None: it is not known.
            planes: of a stack, each of which is written as an image of its own; None: a stack
                is a volume.
            orientation: where X, Y and Z end in the body, such as `"LPS"`: a new file is a NIfTI,
                which states it; None: it is not known.

        Returns:
            Names that were written.

        Raises:
            ValueError: the labels have another shape, an orientation has no pixel size, or a file
                that the session has not written states another pixel size.
        """
        if labels.shape != image.shape[1:]:
            raise ValueError(
                f"the labels are {in_words(labels[None])}, and {name} is {in_words(image)}: choose "
                "the labels that were painted on it"
            )
        if image.shape[3:] == (1,):  # a stack of one plane
            image, labels, spacing = image[..., 0], labels[..., 0], spacing and spacing[:2]
        if orientation is not None and spacing is None:
            raise ValueError(
                f"{name} states its orientation, {orientation}, and no pixel size, without which "
                'no file keeps it: set layer.units = "mm" and its scale, and add it again'
            )
        if planes is None or image.ndim == 3:
            return [self._write(name, image, labels, spacing, orientation)]
        spacing = spacing and spacing[:2]
        return [
            self._write(f"{name}-z{z:03}", image[..., z], labels[..., z], spacing, orientation)
            for z in planes
        ]

    def _write(
        self,
        name: str,
        image: Array,
        labels: Array,
        spacing: tuple[float, ...] | None,
        orientation: str | None,
    ) -> str:
        """Write labels onto the image that has these pixels; write it as well, if there is none."""
        file = self._with_pixels(name, image)
        if file is None:
            file = self.images / f"{self._new_name(name)}{'.nii.gz' if orientation else '.tif'}"
            affine = None if spacing is None else affine_along(orientation or RAS, spacing)
            labelled = smallest_label_dtype(labels)
            # The labels first: an image without them would stop a training.
            save_image(self.labels / file.name, labelled, affine, has_channels=False)
            save_image(file, image, affine)
        else:
            if spacing is not None:
                self._set_size(file, image, spacing)
            self._replace_labels(file, labels)
        return stem(file)

    def _with_pixels(self, name: str, image: Array) -> Path | None:
        """The file that holds an image's pixels, that of its name first; None: there is none."""
        wanted = pixel_digest(image)
        files = sorted(_files_in(self.images), key=lambda file: stem(file) != name)
        return next((f for f in files if _digest_of(f) == wanted and _holds(f, image)), None)

    def _new_name(self, name: str) -> str:
        """A name that no file of the session has, whatever its suffix."""
        files = [file for folder in (self.images, self.labels) for file in _files_in(folder)]
        taken = {one_place(stem(file)) for file in files}
        own = file_name(name)
        names = (own if k == 1 else f"{own}-{k}" for k in count(1))
        return next(each for each in names if one_place(each) not in taken)

    def _replace_labels(self, file: Path, labels: Array) -> None:
        """Write the labels of an image file, on its grid, in the format that they have."""
        header = load_header(file)
        known = {stem(label): label for label in _files_in(self.labels)}
        label = known.get(stem(file), self.labels / f"{stem(file)}{result_suffix(file)}")
        own = header.affine if format_of(label) is NIFTI else affine_along(RAS, header.pixel_size)
        affine = own if header.states_size else None
        labelled = smallest_label_dtype(labels).reshape(header.spatial_shape)
        save_image(label, labelled, affine, header.spatial_unit, has_channels=False, like=file)

    def _set_size(self, file: Path, image: Array, spacing: tuple[float, ...]) -> None:
        """Give an image file the pixel size of its layer, um, where it states another or none.

        Raises:
            ValueError: the session has not written the file, or its bundle knows it.
        """
        header = load_header(file)
        stated = header.states_size
        own = np.array(header.pixel_size) * MICROMETRES[header.spatial_unit]
        if stated and np.allclose(own[: len(spacing)], spacing, rtol=1e-3):
            return
        sizes = [sizes_in_words(each) for each in (spacing, own)]
        about = f"the pixels of the layer are {sizes[0]} um, and {file.name} states "
        about += f"{sizes[1]} um" if stated else "no pixel size"
        if not _loses_nothing(file, header):
            raise ValueError(
                f"{about}; a session gives one to TIFFs of its own alone: write it into the file, "
                'or set layer.units = "pixel", and add it again'
            )
        if sha256(str(file)) in known_images(read_plan(self.bundle)):
            raise ValueError(
                f"{about}; the session's bundle has learned from it as it is, and would take it "
                "for a new image: add it to a new session"
            )
        save_image(file, image.astype(header.array.dtype), affine_along(RAS, spacing))

    def read(self, name: str) -> list[LayerData]:
        """Layers of an annotated image: its channels, or its colours, and its labels."""
        file, label = self.pairs()[name]
        image, labels = load_image(file), load_image(label).numpy()[0]
        labels = turned_onto(labels, label, file, (f"label {label.name}", f"image {file.name}"))
        painted = labels.T.astype(np.int32)  # ([Z,] Y, X)
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


def pixel_digest(image: Array) -> str:
    """What tells an image from others: its pixels, in the precision in which files are read."""
    pixels = image[..., 0] if image.shape[3:] == (1,) else image
    return digest(np.asarray(pixels, np.float32))


def _digest_of(file: Path) -> str | None:
    """`pixel_digest` of a file; None: it cannot be read, which a training will say."""
    state = file.stat()
    return _digest_as_of(file, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)  # files are read once, not at each image that is added
def _digest_as_of(file: Path, *_: int) -> str | None:
    try:
        return pixel_digest(load_image(file).numpy())
    except Exception as error:
        if user_error(error) is None:
            raise
        return None


def _holds(file: Path, image: Array) -> bool:
    """Whether a file of the same digest has the same pixels, also where 32 bits merge them."""
    there = load_image(file).numpy().reshape(image.shape)
    return np.array_equal(there, image.astype(there.dtype), equal_nan=there.dtype.kind == "f")


def _loses_nothing(file: Path, header: Volume) -> bool:
    """Whether our writer keeps all that a file says, as of one that it wrote."""
    if format_of(file) is not TIFF or header.channel_names:
        return False
    with TiffFile(file) as tif:
        return 'Creator="tifffile.py' in (tif.ome_metadata or "")
