"""Write docs/reference/conformance.md: what our readers make of files by other programs.

    python -m docs.make_conformance ../shared/data

Each file is read in a child process of its own that gets 20 seconds and 1 GB, since some
of these files make readers hang, crash or ask for terabytes. `tests/test_conformance.py`
makes the tables again and compares.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs  # noqa: F401 - children must find it imported
import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from unet_med.data.auto_reader import AutoReader
from unet_med.data.file_reader import Volume

PAGE = Path(__file__).resolve().parent / "reference" / "conformance.md"
COMMAND = "python -m docs.make_conformance ../shared/data"
SECONDS = 20
BYTES = 1 << 30  # beyond what the program itself takes
DAMAGED = ("pillow-corrupt", "fuzz_images")  # folders of files that are broken on purpose
MILLIMETRES = {"um": 1e-3, "mm": 1.0}

Array = np.ndarray[Any, Any]


class Row(NamedTuple):
    """What became of one file.

    Args:
        stored: what the library underneath says it holds, or its error.
        read: shape, dtype and pixel size from our reader; nothing where it refused.
        verdict: `"equal"` to the library's own array, `"differs"`, or our refusal.
        others: what other readers make of it.
    """

    stored: str
    read: tuple[str, str, str] | None
    verdict: str
    others: tuple[str, ...]


def tiff_rows(data: Path) -> dict[str, Row]:
    """Row of every TIFF below the two collections, by path from `data`."""
    return {_name(p, data): tiff_row(p) for p in tiff_files(data)}


def tiff_files(data: Path) -> list[Path]:
    """Files of both collections, in order."""
    folders = [data / "tiff-conformance", data / "neubias"]
    found = [p for folder in folders for p in sorted(folder.rglob("*"))]
    return [p for p in found if p.suffix in (".tif", ".tiff")]


def nifti_rows(data: Path) -> dict[str, Row]:
    """Row of every NIfTI of the collections, those that hold no image too."""
    return {_name(p, data): nifti_row(p) for p in nifti_files(data)}


def nifti_files(data: Path) -> list[Path]:
    """Volumes and headers of both collections, in order."""
    folders = [data / "nifti-conformance", data / "totalseg-nifti"]
    found = [p for folder in folders for p in sorted(folder.rglob("*"))]
    return [p for p in found if ".nii" in p.name or p.suffix == ".hdr"]


def tiff_row(path: Path) -> Row:
    """Read one TIFF with ours, tifffile, Pillow and ITK."""
    row = our_row(path)
    others = tuple(limited(_compare, reader, path) for reader in (_by_pillow, _by_itk))
    return row._replace(others=others)


def nifti_row(path: Path) -> Row:
    """Read one NIfTI with ours, nibabel and ITK."""
    return our_row(path)._replace(others=(limited(_compare_place, path),))


def our_row(path: Path) -> Row:
    """Read a file with ours and with the library underneath alone."""
    row = limited(_read, path)
    return Row("", None, row, ()) if isinstance(row, str) else row


def _name(path: Path, data: Path) -> str:
    return path.relative_to(data).as_posix()


# --- children -----------------------------------------------------------------------------------


def limited(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a call in a child process, or in one word what became of the child."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(sender, function, arguments))
    child.start()
    sender.close()
    try:
        answer = receiver.recv() if receiver.poll(SECONDS) else "hangs"
    except EOFError:
        answer = "crashes"
    child.kill()
    child.join()
    return answer


def _in_child(sender: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Call with limits, and without the libraries' warnings on the terminal."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    limit = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sender.send(function(*arguments))


def _read(path: Path) -> Row:
    """What our reader gives, and how it compares with the library's own array."""
    is_tiff = path.suffix in (".tif", ".tiff")
    describe, truth = (_describe_tiff, tiff_array) if is_tiff else (_describe_nifti, nifti_array)
    try:
        volume = AutoReader().open(path)
    except ValueError as error:
        reason = re.sub(r"^cannot read .* as (TIFF|NIfTI): ", "", str(error))
        return Row(describe(path), None, reason.replace(str(path), path.name), ())
    array, expected = volume.array, truth(path)
    equal = expected.dtype == array.dtype and np.array_equal(expected, array, equal_nan=True)
    names = ("C, " if volume.has_channels else "") + ", ".join("XYZ"[: len(volume.spatial_shape)])
    read = (f"{names}: {_times(array.shape)}", str(array.dtype), _size(volume))
    return Row(describe(path), read, "equal" if equal else "differs", ())


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _size(volume: Volume) -> str:
    if volume.spacing_source == "assumed":
        return "unknown"
    sizes = " x ".join(f"{size:.4g}" for size in volume.pixel_size)
    return f"{sizes} {volume.spatial_unit} ({volume.spacing_source})"


# --- TIFF ---------------------------------------------------------------------------------------


def _describe_tiff(path: Path) -> str:
    try:
        with tifffile.TiffFile(path) as tif:
            several = f"{len(tif.series)} series, " if len(tif.series) > 1 else ""
            series = tif.series[0]
            array = series.asarray()
            return f"{several}{series.axes} {_times(array.shape)} {array.dtype}"
    except Exception as error:
        return f"no image ({type(error).__name__})"


def tiff_array(path: Path) -> Array:
    """Tifffile's own array of the first series, its axes sorted to `([C,] X, Y[, Z])`."""
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        order = sorted(series.axes, key="CSXYZIQ".index)
        array = series.asarray().transpose([series.axes.index(letter) for letter in order])
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _compare(reader: Callable[[Path], Array], path: Path) -> str:
    """Another reader's array beside tifffile's, both as `([pages,] Y, X[, samples])`."""
    try:
        found = reader(path)
    except Exception:
        return "refused"
    try:
        with tifffile.TiffFile(path) as tif:
            axes, true = tif.series[0].axes, tif.series[0].asarray()
    except Exception:
        return f"reads {_times(found.shape)}"
    true = np.moveaxis(true, axes.index("S"), -1) if "S" in axes else true
    return _difference(found.squeeze(), true.squeeze())


def _difference(found: Array, true: Array) -> str:
    """How an array differs from the true one, in a few words."""
    as_type = "" if found.dtype == true.dtype else f" as {found.dtype}"
    if found.shape == true.shape:
        return (
            "equal" if np.array_equal(found, true, equal_nan=True) else "other values"
        ) + as_type
    if found.size == true.size and np.array_equal(found.ravel(), true.ravel()):
        return "axes lost" + as_type
    if true.ndim > found.ndim:
        first = true[(0,) * (true.ndim - found.ndim)]
        if first.shape == found.shape and np.array_equal(first, found):
            return "first plane only" + as_type
    return f"other shape {_times(found.shape)}{as_type}"


def _by_pillow(path: Path) -> Array:
    with Image.open(path) as picture:
        return np.asarray(picture)


def _by_itk(path: Path) -> Array:
    array: Array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))  # ([Z,] Y, X[, C])
    return array


# --- NIfTI --------------------------------------------------------------------------------------


def _describe_nifti(path: Path) -> str:
    try:
        image: Any = nibabel.load(path)
        unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "-"
        order = "big-endian " if image.header.endianness == ">" else ""
        dtype = image.get_data_dtype().newbyteorder("=")
        scaled = ", scaled" if getattr(image.dataobj, "slope", 1) != 1 else ""
        nan = ", NaN" if np.isnan(np.asarray(image.dataobj)).any() else ""
        what = type(image).__name__.removesuffix("Image")
        return f"{what}, {_times(image.shape)} {order}{dtype}{scaled}{nan}, {unit}"
    except Exception as error:
        return f"no image ({type(error).__name__})"


def nifti_array(path: Path) -> Array:
    """Nibabel's own array; a fourth axis first, as channels."""
    array = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    array = array if array.ndim < 4 else np.moveaxis(array, -1, 0)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _compare_place(path: Path) -> str:
    """Whether ITK gives the first, the last and a middle voxel the same place and value."""
    try:
        image = sitk.ReadImage(str(path))
    except Exception:
        return "refused"
    try:
        volume = AutoReader().open(path)
    except ValueError:
        return f"reads {_times(image.GetSize())}"
    array = volume.array if volume.has_channels else volume.array[None]  # (C, X, Y, Z)
    theirs = sitk.GetArrayFromImage(image)  # ([C,] Z, Y, X)
    theirs = theirs.reshape(array.shape[0], -1)
    same = np.allclose(theirs, _as_itk(array), rtol=1e-6, atol=0, equal_nan=True)  # ITK: float32
    near = all(_same_place(image, volume, share) for share in (0.0, 0.4, 1.0))
    return ("same values" if same else "other values") + (", same place" if near else ", elsewhere")


def _as_itk(array: Array) -> Array:
    """`(C, X, Y, Z)` to rows of `(Z, Y, X)`."""
    return array.transpose(0, 3, 2, 1).reshape(array.shape[0], -1)


def _same_place(image: Any, volume: Volume, share: float) -> bool:
    voxel = [int(share * (side - 1)) for side in volume.spatial_shape]
    rest = [0] * (image.GetDimension() - len(voxel))
    x, y, z, *_ = image.TransformIndexToPhysicalPoint([*voxel, *rest])
    ours = (volume.affine @ [*voxel, 1])[:3] * MILLIMETRES[volume.spatial_unit]
    return bool(np.allclose([-x, -y, z], ours, rtol=1e-4, atol=1e-3))  # ITK is LPS, float32


# --- the page -----------------------------------------------------------------------------------


def page(tiffs: dict[str, Row], niftis: dict[str, Row]) -> str:
    """The whole page, in Markdown."""
    return "\n".join([*_introduction(tiffs, niftis), *tables(tiffs, niftis)]) + "\n"


def _introduction(tiffs: dict[str, Row], niftis: dict[str, Row]) -> Iterator[str]:
    packages = ("tifffile", "imagecodecs", "pillow", "simpleitk", "nibabel")
    good = sum(row.verdict == "equal" for row in tiffs.values())
    yield "# Files by other programs\n"
    yield f"<!-- Made by `{COMMAND}`; edit the script, not this page. -->\n"
    yield f"What `unet_med.data.AutoReader` makes of {len(tiffs)} TIFF and {len(niftis)} NIfTI"
    yield "files from the test collections of other projects. `make conformance` makes this page"
    yield "again where the files are at hand. Made with"
    yield ", ".join(f"{name} {version(name)}" for name in packages) + ".\n"
    yield f"{good} TIFFs are read, each equal to tifffile's own array in values and dtype. The"
    yield "others are refused in one sentence: never the first plane for the whole, never 8 bits"
    yield "for 16."
    yield f"Each reader had {SECONDS} seconds and {BYTES >> 30} GB for a file; *hangs* and"
    yield "*crashes* are said of those that needed more, or took the process down."


def tables(tiffs: dict[str, Row], niftis: dict[str, Row]) -> Iterator[str]:
    """All tables, line by line."""
    damaged = {name: row for name, row in tiffs.items() if any(d in name for d in DAMAGED)}
    sound = {name: row for name, row in tiffs.items() if name not in damaged}
    columns = ("in the file", "as read", "dtype", "pixel size", "Pillow", "ITK")
    yield "\n## TIFF files that are read\n"
    yield from _table(("file", *columns), _read_lines(sound))
    yield "\n## TIFF files that need a choice\n"
    yield from _table(("file", "in the file", "what is said", "Pillow", "ITK"), _refused(sound))
    yield "\n## Damaged TIFF files\n"
    yield "Broken on purpose, or by a fuzzer. Some hold a whole image nevertheless:\n"
    yield from _table(("file", *columns), _read_lines(damaged))
    yield "\nThe others do not:\n"
    yield from _table(("file", "in the file", "what is said", "Pillow", "ITK"), _refused(damaged))
    yield "\n## NIfTI files\n"
    yield from _table(
        ("file", "in the file", "as read", "dtype", "voxel", "ITK"), _read_lines(niftis)
    )
    yield "\nRefused:\n"
    yield from _table(("file", "in the file", "what is said", "ITK"), _refused(niftis))


def _read_lines(rows: dict[str, Row]) -> Iterator[tuple[str, ...]]:
    for name, row in rows.items():
        if row.read is not None:
            shape = row.read[0] if row.verdict == "equal" else f"**{row.verdict}** {row.read[0]}"
            yield f"`{name}`", row.stored, shape, *row.read[1:], *row.others


def _refused(rows: dict[str, Row]) -> Iterator[tuple[str, ...]]:
    for name, row in rows.items():
        if row.read is None:
            yield f"`{name}`", row.stored, row.verdict, *row.others


def _table(head: Sequence[str], lines: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for cells in lines:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Read every file and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of tiff-conformance, neubias, ...")
    data = parser.parse_args().data
    PAGE.write_text(page(tiff_rows(data), nifti_rows(data)), encoding="utf-8")
    print(f"written {PAGE}")


if __name__ == "__main__":
    main()
