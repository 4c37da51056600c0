"""Base of all readers: one sentence for every error, plain metadata, a limit of memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from monai.config.type_definitions import PathLike
from monai.data.image_reader import ImageReader
from monai.utils.misc import ensure_tuple

from unet_med.data import protection
from unet_med.data.entries import CHANNEL_NAMES
from unet_med.data.grids import Grid, turn_of_channel
from unet_med.data.pixel_size import ASSUMED
from unet_med.data.plane_kind import PLANES, planes_stated
from unet_med.planes import APART, Planes

_SIGNATURES: tuple[tuple[tuple[str, ...], tuple[bytes, ...], str], ...] = (
    ((".gz", ".tgz", ".mgz"), (b"\x1f\x8b",), "compressed by gzip"),
    ((".png",), (b"\x89PNG",), "a PNG picture"),
    ((".jpg", ".jpeg"), (b"\xff\xd8\xff",), "a JPEG picture"),
    ((".tif", ".tiff", ".lsm"), (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "a TIFF"),
    ((".nii",), (b"\x5c\1\0\0", b"\0\0\1\x5c"), "a NIfTI that is not compressed"),
    ((".nrrd",), (b"NRRD000",), "an NRRD"),
    ((".npy",), (b"\x93NUMPY",), "a NumPy array"),
    ((), (b"PK\3\4",), "a ZIP archive"),
    ((), (b"\x89HDF",), "an HDF5 file"),
)  # suffixes, first bytes, name
_UNREADABLE = "unet_med_unreadable"  # attribute of what `unreadable` returns


@dataclass(frozen=True)
class Volume:
    """One image file in memory, in MONAI's axis order.

    Args:
        array: `(X, Y[, Z])`, or `(C, X, Y[, Z])` with channels.
        has_channels: the first axis is the channels.
        affine: 4x4, voxel to world in `spatial_unit`; the third axis of a 2-D image has size 1.
        spatial_unit: `"um"` or `"mm"`.
        spacing_source: origin of the pixel size; `"assumed"` if the file has none.
        channel_names: one a channel, where the file names all; else empty.
        unknown_axes: such as `"z"`, where the file states the pixel size of the others alone.
        coloured: its values are numbers of a palette's colours, and say nothing of brightness.
        pages: its planes are no slices, whatever their size: frames of a movie, or pages of which
            somebody told the pixel size alone.
        unnamed: the file does not say which of its axes is x, as NumPy's do not.
        other_affine: a second place that the header states, which other programs read.
        sharpened: a label's smeared edges were cut at half; see `smeared_mask`.
    """

    array: np.ndarray
    has_channels: bool
    affine: np.ndarray
    spatial_unit: str
    spacing_source: str
    channel_names: tuple[str, ...] = ()
    unknown_axes: str = ""
    coloured: bool = False
    pages: bool = False
    unnamed: bool = False
    other_affine: np.ndarray | None = None
    sharpened: bool = False

    @property
    def planes(self) -> Planes:
        """Whether planes lie in one volume: somebody states how far apart; see `plane_kind`."""
        place = {"spacing_source": self.spacing_source, "unknown_axes": self.unknown_axes}
        return APART if self.pages else planes_stated(place)

    @property
    def states_size(self) -> bool:
        """Whether the file states its pixel size."""
        return self.spacing_source != ASSUMED

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """`(X, Y[, Z])` in pixels."""
        return self.array.shape[1:] if self.has_channels else self.array.shape

    @property
    def pixel_size(self) -> tuple[float, ...]:
        """Along `(X, Y[, Z])`, in `spatial_unit`."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return tuple(sizes[: len(self.spatial_shape)])

    def meta(self) -> dict[str, Any]:
        """MONAI's metadata in plain Python and tensors, for its weights-only caches."""
        affine = torch.tensor(self.affine, dtype=torch.float64)
        return {
            "affine": affine,
            "original_affine": affine.clone(),
            "spatial_shape": list(self.spatial_shape),
            "original_channel_dim": 0 if self.has_channels else float("nan"),
            "space": "RAS",
            "spatial_unit": self.spatial_unit,
            "spacing_source": self.spacing_source,
            "unknown_axes": self.unknown_axes,
            "coloured": self.coloured,
            "unnamed": self.unnamed,
            CHANNEL_NAMES: "\n".join(self.channel_names),
            PLANES: self.planes,
        }


class FileReader(ImageReader):
    """Base of our MONAI readers: `read` only takes names, `get_data` opens and checks files.

    After an exception in `read`, MONAI's `LoadImage` tries its next reader, which may return
    one page of a stack without a word; an exception in `get_data` reaches the user.

    Args:
        max_bytes: refuse files that declare more bytes than this once decoded; the environment
            variable `UNET_MED_MAX_BYTES`, or half of the free memory, by default.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[str] = "image"

    def __init__(self, max_bytes: int | None = None) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether every file has a suffix of this reader."""
        return all(str(name).lower().endswith(self.suffixes) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:
        """Take file names; nothing is opened and nothing fails here."""
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: Sequence[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read what `read` returned; several files become the channels of one image.

        Returns:
            `(X, Y[, Z])` or `(C, X, Y[, Z])` in native byte order, and its metadata.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file cannot be read in full, or holds more than one image of
                at most channels and three spatial axes; one sentence naming the file.
        """
        files = [Path(path) for path in ensure_tuple(img)]
        volume = self.open_channels(files)
        several = {"files": [str(path) for path in files]} if len(files) > 1 else {}
        return volume.array, {**volume.meta(), **several}

    def open_channels(self, paths: Sequence[Path], *, header_only: bool = False) -> Volume:
        """Read the files of one image, whose channels they hold; see `open`.

        Raises:
            ValueError: a file cannot be read, or lies on another grid than the first.
        """
        volumes = [self.open(path, header_only=header_only) for path in paths]
        return _as_channels(volumes, paths, header_only=header_only)

    def open(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; every error becomes one sentence with its name.

        With `header_only` the pixels are not read: the volume's array is a `placeholder`.
        """
        try:
            if path.exists():  # which asks a file system that may not answer
                return _checked(self.load(path, header_only=header_only))
        except Exception as error:
            raise unreadable(path, error, self.kind) from error
        raise FileNotFoundError(f"{path} does not exist")

    @abstractmethod
    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one existing file; see `open`."""

    def require_memory(self, declared_bytes: int) -> None:
        """Refuse a file that declares more than the limit, before it is decoded."""
        protection.require_memory(declared_bytes, self.max_bytes)


def unreadable(path: Path, error: Exception, kind: str) -> ValueError:
    """What a user reads of a file that cannot be read, in one sentence."""
    found = ValueError(f"cannot read {path} as {kind}: {_reason(error)}{_other_content(path)}")
    setattr(found, _UNREADABLE, True)
    return found


def is_unreadable(error: Exception) -> bool:
    """Whether an error says that a file cannot be read; of another, what it holds is known."""
    return isinstance(error, OSError) or getattr(error, _UNREADABLE, False)


def placeholder(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Zeros of a shape that need no memory; readers check axes on them without the pixels.

    >>> placeholder((2000, 2000, 2000), ">f8").shape
    (2000, 2000, 2000)
    """
    return np.broadcast_to(np.zeros((), np.dtype(dtype).newbyteorder("=")), tuple(shape))


def axes_without(sizes: Sequence[float | None]) -> str:
    """Axes of `(x, y[, z])` whose size a file does not state, where it states that of others.

    >>> axes_without((0.2, 0.2, None)), axes_without((None, None))
    ('z', '')
    """
    unknown = "".join(axis for axis, size in zip("xyz", sizes, strict=False) if not size)
    return unknown if len(unknown) < len(sizes) else ""


def _checked(volume: Volume) -> Volume:
    """Refuse volumes that are no image of real numbers on a finite grid; native byte order."""
    array = np.asarray(volume.array)
    if array.dtype.kind not in "buif":
        raise ValueError(f"its samples are {array.dtype}, only real numbers make an image")
    if len(volume.spatial_shape) not in (2, 3) or 0 in array.shape:
        raise ValueError(f"shape {volume.spatial_shape} is not 2 or 3 spatial axes of 1 px or more")
    if not np.isfinite(volume.affine).all():
        raise ValueError("its affine is not finite: its header states a pixel size of 0, or none")
    return replace(volume, array=array.astype(array.dtype.newbyteorder("="), copy=False))


def _reason(error: Exception) -> str:
    """Text of an exception in one line of bounded length."""
    text = " ".join(str(error).split()) or "no reason given"
    text = f"it has no {text}" if isinstance(error, KeyError) else text
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror  # such as `Permission denied`: the file may be whole
    elif not isinstance(error, ValueError | ImportError):  # of the latter: what to install
        text = f"it is damaged or not supported ({text})"
    return text if len(text) <= 400 else text[:397] + "..."


def _other_content(path: Path) -> str:
    """Advice where a file is, by its first bytes, of another format than its name says."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:  # a folder, or what cannot be read at all
        return ""
    for suffixes, starts, what in _SIGNATURES:
        if head.startswith(starts) and not path.name.lower().endswith(suffixes):
            return f"; by its content it is {what}: {_way_out(path, suffixes)}"
    return ""


def _way_out(path: Path, suffixes: tuple[str, ...]) -> str:
    if not suffixes:
        return "save the image in it in one of the formats that are read"
    plain = path.name[:-3] if suffixes[0] == ".nii" and path.name.lower().endswith(".gz") else None
    return f"rename it to {plain or path.name + suffixes[0]}"


def _as_channels(volumes: Sequence[Volume], paths: Sequence[Path], *, header_only: bool) -> Volume:
    """Join several files as channels of one image, on the grid of the first."""
    first = volumes[0]
    if len(volumes) == 1:
        return first
    grids = [Grid.of(each, path.name) for each, path in zip(volumes, paths, strict=True)]
    turns = [turn_of_channel(grid, grids[0]) for grid in grids]
    arrays = [v.array if v.has_channels else v.array[None] for v in volumes]  # (C, X, Y[, Z])
    if header_only:
        shape = (sum(map(len, arrays)), *first.spatial_shape)
        joined = placeholder(shape, np.result_type(*arrays))
    else:
        turned = (
            array if turn.keeps else np.stack([turn.of_array(channel) for channel in array])
            for array, turn in zip(arrays, turns, strict=True)
        )
        joined = np.concatenate(list(turned))
    names = tuple(name for volume in volumes for name in volume.channel_names)
    names = names if len(names) == len(joined) else ()
    return replace(first, array=joined, has_channels=True, channel_names=names)


def require_upright(turned: int, source: str) -> None:
    """Refuse an image that its file says to show turned or mirrored.

    Args:
        turned: as TIFF and EXIF number it; 1: as the pixels lie, 0: unknown.
        source: what says it, such as `"its EXIF data say"`.

    Raises:
        ValueError: some programs turn it and others do not.
    """
    if turned not in (0, 1):
        raise ValueError(
            f"{source} to show it turned (orientation {turned}), which some programs do and others "
            "do not, so its label may lie either way: save it turned"
        )
