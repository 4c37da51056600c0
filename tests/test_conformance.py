"""The page of files by other programs is what the readers do today."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = [
    pytest.mark.data,
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
DOCS = Path(__file__).resolve().parents[1] / "docs"
CHOICE = re.compile(
    r"--(series 0|channel 0|time 0(, or .* --axes ZC?YX, to train with --dims 2 too)?)$"
    r"|allow_multifile=True$"
)


@pytest.fixture(scope="module")
def conformance() -> Iterator[ModuleType]:
    """docs/make_conformance.py, importable by name, as its children's answers need it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield importlib.import_module("make_conformance")


@pytest.fixture(scope="module")
def rows(conformance: ModuleType, shared: Path) -> dict[str, tuple[str, ...]]:
    """Every file read again: its cells up to those of other readers."""
    data = shared / "data"
    files = [*conformance.tiff_files(data), *conformance.nifti_files(data)]
    found = {}
    for path in files:
        row = conformance.our_row(path)
        read = row.read or ()
        found[path.relative_to(data).as_posix()] = (row.stored, row.verdict, *read)
    return found


def page_cells(conformance: ModuleType) -> dict[str, list[str]]:
    """Cells of every line of the page's tables, by file."""
    lines = conformance.PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


@pytest.mark.long
def test_the_page_says_what_the_readers_do(
    conformance: ModuleType, rows: dict[str, tuple[str, ...]]
) -> None:
    page = page_cells(conformance)
    assert page.keys() == rows.keys()
    assert len(page) > 140
    for name, (stored, verdict, *read) in rows.items():
        expected = [stored, *(read or [verdict])]
        assert page[name][: len(expected)] == expected, f"renew with: {conformance.COMMAND}"


@pytest.mark.long
def test_every_file_is_equal_to_its_library_or_refused_in_a_sentence(
    rows: dict[str, tuple[str, ...]],
) -> None:
    verdicts = [cells[1] for cells in rows.values()]
    assert verdicts.count("equal") == 108
    assert not {"differs", "hangs", "crashes"} & set(verdicts)
    for name, (_, verdict, *_) in rows.items():
        assert "\n" not in verdict
        assert len(verdict) < 500
        assert name not in verdict


@pytest.mark.long
def test_sound_tiffs_are_refused_only_for_a_choice_to_make(
    rows: dict[str, tuple[str, ...]], conformance: ModuleType
) -> None:
    refused = {
        name: cells[1]
        for name, cells in rows.items()
        if len(cells) == 2 and not any(part in name for part in conformance.DAMAGED)
    }
    tiffs = {name: reason for name, reason in refused.items() if "nifti" not in name}
    assert len(tiffs) == 12
    for name, reason in tiffs.items():
        assert CHOICE.search(reason), name


def test_the_choice_that_is_named_reads_them(shared: Path) -> None:
    import tifffile

    from unet_med.data import TiffReader

    folder = shared / "data" / "tiff-conformance"
    singles = folder / "exampletiffs" / "ometiff_testdata" / "singles"
    for path in (folder.parent / "neubias/xyt_8bit_polyp.tif", singles / "time-series.ome.tif"):
        ours = TiffReader(time=2).open(path)
        np.testing.assert_array_equal(ours.array, tifffile.imread(path)[2].T)
    for kind in ("companion", "master"):
        planes = sorted((singles.parent / "multiples" / kind).glob("*.tiff"))
        true = [tifffile.imread(path, series=0, is_ome=False) for path in planes]
        for path in planes:
            ours = TiffReader(allow_multifile=True).open(path)
            np.testing.assert_array_equal(ours.array, np.stack(true).transpose(2, 1, 0))


def test_other_readers_are_stopped_or_named(
    conformance: ModuleType, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "SECONDS", 2)
    folder = shared / "data" / "tiff-conformance"
    by_itk, by_pillow = conformance._by_itk, conformance._by_pillow
    loop = folder / "pillow-corrupt" / "multipage_single_frame_loop.tiff"
    assert conformance.limited(conformance._compare, by_itk, loop) == "hangs"
    stack = folder / "scikit-image" / "multipage.tif"
    assert conformance.limited(conformance._compare, by_pillow, stack) == "first plane only"
    assert conformance.limited(_die) == "crashes"


def _die() -> None:
    import faulthandler
    import os

    faulthandler.disable()  # pytest's would report a crash that is meant
    os.abort()
