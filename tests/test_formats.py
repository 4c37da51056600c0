"""One table of formats: suffixes, readers and writers agree with it."""

from __future__ import annotations

import pytest

from unet_med import data
from unet_med.data.array_writer import ArrayWriter
from unet_med.data.file_reader import FileReader
from unet_med.data.formats import (
    FORMATS,
    NIFTI,
    OME_ZARR,
    SUFFIXES,
    TIFF,
    Format,
    format_of,
    result_suffix,
    stem,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a"),
        ("a.ome.tif", "a"),
        ("b.nii.gz", "b"),
        ("e.ome.zarr", "e"),
        ("c.1.png", "c.1"),
        ("d.xyz", "d"),
        ("E.OME.TIFF", "E"),
        ("f.ome.png", "f.ome"),
    ],
)
def test_stem(name: str, expected: str) -> None:
    assert stem(f"folder/{name}") == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.TIF", TIFF), ("b/c.nii.gz", NIFTI), ("d.ome.zarr", OME_ZARR), ("e.gz", None), ("f", None)],
)
def test_format_by_suffix(name: str, expected: Format | None) -> None:
    assert format_of(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.ome.zarr", ".tif"), ("b.PNG", ".tif"), ("c.nrrd", ".nii.gz"), ("series", ".nii.gz")],
)
def test_suffix_of_results(name: str, expected: str) -> None:
    assert result_suffix(name) == expected


def test_suffixes_are_of_one_format_each() -> None:
    assert len(set(SUFFIXES)) == len(SUFFIXES) > 10
    for first in SUFFIXES:
        assert not [other for other in SUFFIXES if other != first and other.endswith(first)]


@pytest.mark.parametrize("each", FORMATS, ids=lambda each: each.reader)
def test_readers_and_writers_are_public_and_know_their_suffixes(each: Format) -> None:
    reader, writer = each.reader_class(), each.writer_class()
    assert issubclass(reader, FileReader)
    assert reader.suffixes == each.suffixes
    assert getattr(data, reader.__name__) is reader
    if writer is not None:
        assert issubclass(writer, ArrayWriter)
        assert getattr(data, writer.__name__) is writer
