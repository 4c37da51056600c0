"""Shared fixtures: generated cells, a trained bundle, real data where present, one seed."""

from __future__ import annotations

import locale
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from in_memory import own_folder
from simulated_cuda import switch_on_if_asked

IN_MEMORY = "/dev/shm"
ROOM = 4 << 30  # bytes: the tests' processes want memory too


def keep_files_in_memory() -> None:
    """Put temporary files where writing through to the disk, as checkpoints do, takes no time.

    A run has a folder of its own there, and pytest's workers that of the run. Left alone: whoever
    says TMPDIR, a container's few megabytes, and where nothing may be run.
    """
    if "TMPDIR" in os.environ or not os.access(IN_MEMORY, os.W_OK):
        return
    place = os.statvfs(IN_MEMORY)
    if place.f_bavail * place.f_frsize >= ROOM and not place.f_flag & os.ST_NOEXEC:
        with suppress(OSError):  # where no folder can be locked, the disk will do
            os.environ["TMPDIR"] = str(own_folder(Path(IN_MEMORY)))
            tempfile.tempdir = None  # asked anew


keep_files_in_memory()
NO_GPU = switch_on_if_asked() or "no CUDA device; SIMULATED_CUDA=1 makes one"

import numpy as np  # noqa: E402 - a simulated device comes before all that may import torch
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU tests run where a GPU is; nowhere else do they count as failures."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real images, read in place."""
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def own_locale() -> Iterator[None]:
    """ITK, when it writes DICOM, leaves the locale `C` behind, in which text is read as ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


@pytest.fixture(scope="session", autouse=True)
def usual_tiles() -> Iterator[int]:
    """Tiles of an epoch as planned for users; tests have a quarter, four steps of `modern`."""
    from unet_med.planning import rules

    usual = rules.TILES_PER_EPOCH
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "TILES_PER_EPOCH", usual // 4)
        yield usual


DRAWING = ("test_bundle", "test_recipes", "test_workflows")  # modules that see pictures drawn


@pytest.fixture(scope="module", autouse=True)
def undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """The pictures of a training are composed, and written as one pixel: nobody looks at them."""
    if request.module.__name__.rpartition(".")[2] in DRAWING:
        yield
        return
    from PIL import Image

    from unet_med.data.atomic import atomic_write
    from unet_med.report import comparison, curve, record

    def save(figure: Any, path: Path, *_: Any) -> Path:
        with atomic_write(path) as beside:
            Image.new("L", (1, 1)).save(beside, "PNG")
        figure.clear()
        return path

    def draw(self: record.TrainingRecord) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(curve, "save", save)
            patch.setattr(comparison, "save", save)
            drawn(self)

    drawn = record.TrainingRecord._draw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record.TrainingRecord, "_draw", draw)
        yield


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three generated images of 72 x 64 px, `images`, and their instances, `labels`.

    Every test sees the same folder: copy it before you change it.
    """
    from unet_med.data import SyntheticCells

    folder = tmp_path_factory.mktemp("cells")
    SyntheticCells(3, (72, 64), num_cells=6).write(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cells: Path, usual_tiles: int) -> Path:
    """A bundle as `unet-med train` leaves it: `modern`, tiny, one whole epoch on `cells`.

    Every test sees the same folder: copy it before you change it.
    """
    from unet_med.cli import main
    from unet_med.planning import rules

    output = tmp_path_factory.mktemp("trained") / "out"
    words = ["--images", f"{cells}/images", "--labels", f"{cells}/labels", "--device", "cpu"]
    words += ["--features", "2", "4", "8", "--epochs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "TILES_PER_EPOCH", usual_tiles)  # which finds something
        assert main(["train", *words, "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, trained: Path, cells: Path) -> Path:
    """What `predict` makes of the cells; a file may have a `trained` of its own."""
    from unet_med.cli import main

    output = tmp_path_factory.mktemp("results")
    words = ["--bundle", str(trained), "--output", str(output), "--instances"]
    assert main(["predict", str(cells / "images"), *words]) == 0
    return output


@pytest.fixture
def as_nobody() -> Iterator[tuple[Path, Callable[[], AbstractContextManager[None]]]]:
    """A folder that others may read, and a block in which one is another user; only root can."""
    if sys.platform == "win32" or os.geteuid():
        pytest.skip("only root can become somebody else")

    @contextmanager
    def nobody() -> Iterator[None]:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder), nobody


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def volume(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 4000, (5, 6, 4)).astype(np.int16)  # X, Y, Z


@pytest.fixture
def picture(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (7, 9)).astype(np.uint8)  # Y, X


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the TIFF files whose pixels were decoded, as it happens."""
    import tifffile

    names: list[str] = []
    decode = tifffile.TiffPageSeries.asarray

    def note(series: tifffile.TiffPageSeries) -> np.ndarray:
        names.append(series.keyframe.parent.filename)
        return decode(series)

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", note)
    return names


os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers on two cores
