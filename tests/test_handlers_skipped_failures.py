"""One bad image among many: named, set aside, and the others are segmented."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from ignite.metrics import MeanSquaredError
from monai.data import DataLoader, MetaTensor
from monai.handlers import MeanDice, MetricsSaver, from_engine

from unet_med.cli import main
from unet_med.data import save_image, sha256
from unet_med.errors import befalls_all, one_line
from unet_med.handlers import SkipFailuresDataset, SkipFailuresEvaluator

SIDE = 24


def good(path: Path, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 4000, (SIDE, SIDE)).astype(np.uint16)
    tifffile.imwrite(path, pixels)


def cut_short(path: Path) -> None:
    good(path)
    path.write_bytes(path.read_bytes()[:-300])


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("Dear sir, your image is attached", encoding="utf-8")


def colour(path: Path) -> None:
    colours = np.tile(np.uint8([10, 20, 30]), (SIDE, SIDE, 1))
    tifffile.imwrite(path, colours, photometric="rgb")


def not_a_number(path: Path) -> None:
    tifffile.imwrite(path, np.full((SIDE, SIDE), np.nan, np.float32))


def infinite(path: Path) -> None:
    tifffile.imwrite(path, np.full((SIDE, SIDE), np.inf, np.float32))


def terabyte(path: Path) -> None:
    shape = (1 << 20, 1 << 20)
    tiles = iter([np.zeros((16, 16), np.uint8)])
    tifffile.imwrite(path, tiles, shape=(16, 16), dtype="uint8", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name, value in zip(("ImageWidth", "ImageLength"), shape, strict=True):
            tif.pages[0].tags[name].overwrite(value, dtype=4)


BAD = {
    "cut_short": (cut_short, "truncated"),
    "empty": (empty, "as TIFF"),
    "text": (text, "not a TIFF file"),
    "colour": (colour, "3 channels"),
    "not_a_number": (not_a_number, "NaN or infinite"),
    "infinite": (infinite, "NaN or infinite"),
    "terabyte": (terabyte, "declares 1.1e+03 GB"),
}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty files, seven of which are bad."""
    folder = tmp_path_factory.mktemp("night")
    for k in range(43):
        good(folder / f"image_{k:02}.tif", k)
    for name, (write, _) in BAD.items():
        write(folder / f"image_{7 * len(name)}_{name}.tif")
    return folder


def three_good(folder: Path) -> Path:
    """A folder of a.tif, b.tif and c.tif, with nothing wrong."""
    images = folder / "images"
    images.mkdir()
    for name in "abc":
        good(images / f"{name}.tif")
    return images


def predict(images: Path, folder: Path, output: Path, *words: Any) -> int:
    given = ["--bundle", folder, "--output", output, "--device", "cpu", *words]
    return main([str(word) for word in ["predict", images, *given]])


def test_seven_bad_of_fifty(
    trained: Path, night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(night, trained, tmp_path / "results") == 3
    results = {path.name for path in (tmp_path / "results").iterdir()}
    written = {f"image_{k:02}_mask.tif" for k in range(43)}
    assert results == written | {"failed.json", "record.json"}
    out, err = capsys.readouterr()
    assert "43 of 50 images segmented" in out
    assert "7 set aside" in err
    report = json.loads((tmp_path / "results/failed.json").read_text(encoding="utf-8"))
    assert (report["images"], report["segmented"]) == (50, 43)
    reasons = {Path(fault["image"]).stem: fault["reason"] for fault in report["failed"]}
    assert len(reasons) == len(report["failed"]) == 7
    for name, (_, sentence) in BAD.items():
        reason = reasons[f"image_{7 * len(name)}_{name}"]
        assert sentence in reason
        assert reason in err


def test_results_are_those_of_the_good_images_alone(trained: Path, tmp_path: Path) -> None:
    good(tmp_path / "in.tif", 7)
    (tmp_path / "both").mkdir()
    shutil.copy(tmp_path / "in.tif", tmp_path / "both/b.tif")
    text(tmp_path / "both/a.tif")
    assert predict(tmp_path / "in.tif", trained, tmp_path / "alone", "--probabilities") == 0
    assert predict(tmp_path / "both", trained, tmp_path / "beside", "--probabilities") == 3
    alone, beside = (
        tifffile.imread(tmp_path / f"{name}_probabilities.tif") for name in ("alone/in", "beside/b")
    )
    np.testing.assert_array_equal(alone, beside)


class Scored:
    """Three images that MONAI's metric scores; of some the network, or the reader, fails."""

    def __init__(self, broken: str, folder: Path) -> None:
        half = torch.zeros(1, 4, 4)
        half[:, :2] = 1
        items = [{"image": name, "label": half.clone()} for name in "abc"]
        items[2]["label"][:] = 1  # twice as many
        self.evaluator = SkipFailuresEvaluator(
            torch.device("cpu"),
            DataLoader(SkipFailuresDataset(items, self.read), batch_size=1),
            torch.nn.Identity(),
            inferer=self.infer,
            key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
            additional_metrics={"mse": MeanSquaredError(from_engine(["pred", "label"]))},
            val_handlers=[MetricsSaver(str(folder), metric_details="dice")],
        )
        self.broken, self.half = broken, half

    def read(self, item: Any) -> Any:
        """An image that says its name."""
        if item["image"] in self.broken and item["image"] != "b":
            raise ValueError("no image")
        pixels = MetaTensor(self.half, meta={"filename_or_obj": item["image"]})
        return {**item, "image": pixels}

    def infer(self, image: Any, network: Any) -> Any:
        """The image, which is the label of the first two."""
        if "b" in self.broken and image.meta["filename_or_obj"] == ["b"]:
            raise MemoryError("no room")
        return image


@pytest.mark.parametrize(
    ("broken", "dice", "mse"),
    [("", 8 / 9, 8 / 3), ("a", 5 / 6, 4), ("b", 5 / 6, 4), ("bc", 1, 0)],
)
def test_a_metric_scores_the_others(broken: str, dice: float, mse: float, tmp_path: Path) -> None:
    """Of the last image half of the label is found: its Dice is 2/3, its sum of squares 8."""
    parts = Scored(broken, tmp_path)
    parts.evaluator.run()
    assert [fault.image for fault in parts.evaluator.faults] == list(broken)
    assert parts.evaluator.state.metrics["dice"] == pytest.approx(dice)
    assert parts.evaluator.state.metrics["mse"] == pytest.approx(mse)
    rows = (tmp_path / "dice_raw.csv").read_text().splitlines()[1:]
    assert len(rows) == 3 - len(broken)


def test_where_no_image_is_left_that_is_the_reason_and_no_metric(tmp_path: Path) -> None:
    parts = Scored("abc", tmp_path)
    with pytest.raises(ValueError, match="none of 3 images could be segmented; the first: no im"):
        parts.evaluator.run()


def test_a_run_without_faults_takes_the_old_report_away(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, results = tmp_path / "images", tmp_path / "results"
    images.mkdir()
    for name in "ab":
        good(images / f"{name}.tif")
    text(images / "c.tif")
    assert predict(images, trained, results) == 3
    assert (results / "failed.json").is_file()
    good(images / "c.tif")
    assert predict(images, trained, results) == 0
    left = sorted(path.name for path in results.iterdir())
    assert left == [*(f"{n}_mask.tif" for n in "abc"), "record.json"]


def test_fail_fast_ends_with_the_first(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in "ac":
        good(images / f"{name}.tif")
    text(images / "b.tif")
    assert predict(images, trained, tmp_path / "results", "--fail-fast") == 2
    assert "b.tif as TIFF" in capsys.readouterr().err
    written = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert written == ["a_mask.tif", "record.json"]


@pytest.mark.parametrize("late", [False, True], ids=["reading", "predicting"])
def test_an_image_that_ends_the_run_leaves_no_older_mask(
    trained: Path, tmp_path: Path, late: bool
) -> None:
    images, results = three_good(tmp_path), tmp_path / "results"
    assert predict(images, trained, results) == 0
    good(images / "a.tif", 7)
    (not_a_number if late else text)(images / "b.tif")
    assert predict(images, trained, results, "--fail-fast") == 2
    left = sorted(path.name for path in results.iterdir())
    assert left == ["a_mask.tif", "c_mask.tif", "record.json"]
    record = json.loads((results / "record.json").read_text(encoding="utf-8"))
    assert sorted(record["images"]) == ["a", "c"]
    assert record["images"]["a"]["sha256"] == sha256(images / "a.tif")


def test_none_segmented_is_an_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        text(images / f"{name}.tif")
    assert predict(images, trained, tmp_path / "results") == 2
    assert "none of 2 images could be segmented; the first: cannot read" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["failed.json"]


@pytest.mark.parametrize("where", ["inferer", "writer"])
def test_faults_after_reading_are_set_aside_too(
    where: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unet_med.inferers import OverlapTileInferer
    from unet_med.transforms import save

    images = three_good(tmp_path)
    whole = {"inferer": OverlapTileInferer.__call__, "writer": save.save_image}[where]
    calls: list[Any] = []

    def second_fails(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError("no room for this one") if where == "inferer" else ValueError("odd")
        return whole(*args, **kwargs)

    owner: Any = OverlapTileInferer if where == "inferer" else save
    monkeypatch.setattr(owner, "__call__" if where == "inferer" else "save_image", second_fails)
    assert predict(images, trained, tmp_path / "results") == 3
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["a_mask.tif", "c_mask.tif", "failed.json", "record.json"]
    sentence = "MemoryError: no room for this one" if where == "inferer" else "odd"
    assert f"b.tif: {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_broken_gpu_ends_the_run(
    wrapped: bool,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After an illegal access every later call fails, whatever the image."""
    from unet_med.inferers import OverlapTileInferer

    images = three_good(tmp_path)
    calls = []

    def broken(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        error = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel")
        if not wrapped:
            raise error
        raise RuntimeError("applying a layer") from error

    monkeypatch.setattr(OverlapTileInferer, "__call__", broken)
    assert predict(images, trained, tmp_path / "results") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("unet-med: error: the GPU can do no more in this process (")
    assert said.endswith("a.tif; go on with --resume")
    assert len(calls) == 1


def test_a_full_disk_ends_the_run(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unet_med.transforms import save

    images = three_good(tmp_path)
    calls = []

    def full(path: Path, *_: Any, **__: Any) -> None:
        calls.append(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(save, "save_image", full)
    assert predict(images, trained, tmp_path / "results") == 2
    assert "No space left" in capsys.readouterr().err
    assert len(calls) == 1


def test_whose_error_it_is() -> None:
    wrapped = RuntimeError("applying transform <x>")
    wrapped.__cause__ = ValueError("image a.tif\nis odd")
    assert one_line(wrapped) == "image a.tif is odd"
    assert not befalls_all(wrapped)
    assert befalls_all(OSError(errno.EROFS, "read-only"))
    assert befalls_all(ImportError("no tifffile"))
    assert not befalls_all(FileNotFoundError("a.tif"))
    assert not befalls_all(MemoryError())


@pytest.mark.parametrize(("text", "count"), [("3000", 4), ("100K", 5), (None, 5)])
def test_a_byte_budget_from_the_command_line(
    text: str | None, count: int, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNET_MED_MAX_BYTES", raising=False)
    images = tmp_path / "images"
    images.mkdir()
    for k in range(4):
        good(images / f"{k}.tif")
    save_image(images / "large.tif", np.zeros((1, 60, 60), np.uint8))
    words = ["--max-bytes", text] if text else []
    assert predict(images, trained, tmp_path / "results", *words) == (0 if count == 5 else 3)
    assert len(list((tmp_path / "results").glob("*_mask.tif"))) == count
    assert "UNET_MED_MAX_BYTES" not in os.environ


def test_a_byte_budget_that_is_none(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good(tmp_path / "a.tif")
    assert predict(tmp_path / "a.tif", trained, tmp_path / "results", "--max-bytes", "much") == 2
    assert "'much' is no number of bytes: write 8000000, 500M or 2G" in capsys.readouterr().err
