"""Images kept in files: the same tiles, found again by hash, never half made."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.transforms import (
    Compose,
    Lambdad,
    LoadImaged,
    Orientationd,
    RandFlipd,
    RandSpatialCropd,
)
from processes import finish, start

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import (
    AutoReader,
    EpochSampler,
    ImageCache,
    SeededDataset,
    find_pairs,
    save_image,
)
from unet_med.data import digest as digest_module
from unet_med.data import image_cache as module
from unet_med.data.digest import digest
from unet_med.data.forecast import Forecast
from unet_med.data.item_file import narrowed, write_item
from unet_med.transforms import (
    ElementSized,
    LabelInstancesd,
    RandElasticDeformd,
    RandTileCropd,
    SelectSliced,
    Standardized,
)

KEYS = ["image", "label"]


def cohort(folder: Path, shape: tuple[int, ...], channels: int = 1, count: int = 3) -> Path:
    """Images of noise with labels of a few objects, pixels of 0.5 um, the planes 2 um apart."""
    rng = np.random.default_rng(0)
    sizes = [0.5, 0.5, 2.0] if len(shape) == 3 else [0.5, 0.5, 1.0]
    for k in range(count):
        image = rng.integers(0, 4000, (channels, *shape)).astype(np.uint16)
        label = (rng.random((1, *shape)) > 0.7) * rng.integers(1, 300, (1, *shape))
        for name, array in (("images", image), ("labels", label.astype(np.uint16))):
            path = folder / name / f"{k}.{'nii.gz' if len(shape) == 3 else 'tif'}"
            save_image(path, array, np.diag([*sizes, 1.0]))
    return folder


LOAD_CHANNEL_0 = LoadImaged(KEYS, reader=AutoReader(channel=0), ensure_channel_first=True)


def chain(tile: int, *more: Any, size: float | None = None, stacks: bool = False) -> Compose:
    """What a training does, from the file to the tile."""
    return Compose(
        [
            LoadImaged(KEYS, reader="unet_med.data.AutoReader", ensure_channel_first=True),
            *([SelectSliced(KEYS)] if stacks else []),
            *([ElementSized(KEYS, size, mode=["bilinear", "nearest"])] if size else []),
            Standardized("image"),
            LabelInstancesd("label", "instances"),
            *(more or (RandTileCropd(KEYS, tile), RandFlipd(KEYS, 0.5, 0))),
            RandElasticDeformd(KEYS, sigma=1.0, mode=["bilinear", "nearest"], prob=0.5),
        ]
    )


def same(one: Any, other: Any) -> None:
    """Equal to the bit, types and metadata included."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes()
        if isinstance(one, MetaTensor):
            same(dict(one.meta), dict(other.meta))
            operations = one.applied_operations, other.applied_operations
            same(*map(_without_ids, operations))
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other or (one != one and other != other)


def _without_ids(value: Any) -> Any:
    """What was done to an image; an id is that of a Python object, and differs in any two runs."""
    if isinstance(value, dict):
        return {k: _without_ids(v) for k, v in value.items() if k != "id"}
    return [_without_ids(part) for part in value] if isinstance(value, list) else value


def tiles(dataset: SeededDataset, workers: int = 0) -> list[Any]:
    loader = DataLoader(dataset, sampler=EpochSampler(dataset), batch_size=1, num_workers=workers)
    return [{key: batch[key].as_tensor().clone() for key in KEYS} for batch in loader]


@pytest.mark.parametrize(
    ("shape", "channels", "options"),
    [
        ((40, 36), 1, {}),
        ((40, 36), 3, {}),
        ((40, 36), 1, {"size": 0.8}),
        ((20, 18, 9), 1, {}),
        ((20, 18, 9), 2, {"size": 0.7}),
        ((20, 18, 9), 1, {"stacks": True}),
    ],
    ids=["2d", "2d-channels", "2d-resampled", "3d", "3d-channels-resampled", "planes"],
)
def test_tiles_are_equal_to_the_bit(
    shape: tuple[int, ...], channels: int, options: dict[str, Any], tmp_path: Path
) -> None:
    data = cohort(tmp_path, shape, channels)
    planes = options.get("stacks", False)
    items = find_pairs(data / "images", data / "labels", stacks=planes)
    transform = chain(12, **options)
    memory = SeededDataset(items, transform, tiles_per_epoch=30)
    files = SeededDataset(items, transform, tiles_per_epoch=30, cache=ImageCache(tmp_path / "c"))
    assert len(list((tmp_path / "c").iterdir())) == len(items) == (27 if planes else 3)
    for k in range(30):
        same(files[k], memory[k])
    same(tiles(files, workers=2), tiles(memory))


@pytest.mark.parametrize("first", ["view", "whole"])
def test_other_first_transforms_find_the_same(first: str, tmp_path: Path) -> None:
    """One that takes a view of the mapped file, and one that changes all of it in place."""
    data = cohort(tmp_path, (20, 18, 9))
    items = find_pairs(data / "images", data / "labels")
    more: tuple[Any, ...] = (RandSpatialCropd(KEYS, (8, 8, 4), random_size=False),)
    if first == "whole":
        more = (_Spoil(KEYS, 1.0), RandTileCropd(KEYS, 8))
    memory = SeededDataset(items, chain(8, *more))
    files = SeededDataset(items, chain(8, *more), cache=ImageCache(tmp_path / "c"))
    before = {path: path.read_bytes() for path in (tmp_path / "c").iterdir()}
    for k in [0, 1, 2, 0, 1, 2]:
        same(files[k], memory[k])
    assert before == {path: path.read_bytes() for path in (tmp_path / "c").iterdir()}


class _Spoil(RandFlipd):
    def __call__(self, data: Any, lazy: bool | None = None) -> Any:
        return {key: value.add_(1) for key, value in data.items()}


def test_whole_images_are_the_same_too(tmp_path: Path) -> None:
    """As validation takes them; what MONAI notes of a transform holds arrays."""
    data = cohort(tmp_path, (20, 18, 9))
    items = find_pairs(data / "images", data / "labels")
    steps = [*chain(8, size=0.8).transforms[:4], Orientationd(KEYS, "LPI", labels=None)]
    memory = SeededDataset(items, Compose(steps))
    files = SeededDataset(items, Compose(steps), cache=ImageCache(tmp_path / "c"))
    for k in range(3):
        same(files[k], memory[k])
    assert any("original_affine" in op["extra_info"] for op in files[0]["image"].applied_operations)


def test_other_processes_are_told_paths(tmp_path: Path) -> None:
    """A spawned worker gets the data set by pickle; a forked one shares it."""
    data = cohort(tmp_path, (64, 64, 20))
    items = find_pairs(data / "images", data / "labels")
    files = SeededDataset(items, chain(8), cache=ImageCache(tmp_path / "c"))
    sent = pickle.dumps(files)
    assert len(sent) < 64 * 64 * 20  # a byte a voxel of one of six volumes
    again = pickle.loads(sent)
    for k in range(3):
        same(again[k], files[k])


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells")
def test_a_tile_reads_a_tile(tmp_path: Path) -> None:
    shape, crop = (1, 256, 256, 128), RandTileCropd(KEYS, 16)  # 34 MB
    path = tmp_path / f"{'0' * 64}.pt"
    write_item(path, *narrowed({"image": torch.ones(shape), "label": torch.ones(shape).int()}))
    files = module.InFiles([path], [{}])
    crop(files.take(0, KEYS)[0])
    before = anonymous_bytes()
    kept = [files.take(0, KEYS) for _ in range(10)]
    tiles = [crop(item) for item, _ in kept]
    assert anonymous_bytes() - before < 2e6
    assert float(tiles[0]["image"].sum()) == 16**3
    assert kept[0][1] == {"label": torch.int32}
    assert kept[0][0]["label"].dtype == torch.uint8


@pytest.fixture
def images(tmp_path: Path) -> list[dict[str, Any]]:
    data = cohort(tmp_path, (40, 36))
    return find_pairs(data / "images", data / "labels")


BYTES = 3 * 6 * 40 * 36  # in memory, of image and label, whose numbers need 16 bits


@pytest.mark.parametrize(
    ("limit", "ranks", "spills"),
    [(1.02, 1, False), (0.98, 1, True), (1.02, 2, False), (0.0001, 1, True)],
)
def test_memory_decides(
    limit: float, ranks: int, spills: bool, images: list[Any], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    spill = tmp_path / "models/image_cache"
    cache = ImageCache(spill=spill, ranks=ranks, max_bytes=int(limit * BYTES))
    dataset = SeededDataset(images, chain(12), cache=cache, progress=True)
    assert spill.exists() == spills
    said = "3 images take about 2.6"
    assert (said in caplog.text) == spills
    same(tiles(dataset), tiles(SeededDataset(images, chain(12))))


def test_what_another_process_began_is_said_once(
    images: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first process says it, also where the second was faster and has written a file."""
    second, first = (
        ImageCache(spill=tmp_path / "spill", rank=rank, ranks=2, max_bytes=1) for rank in (1, 0)
    )
    SeededDataset(images, chain(12), cache=second)
    assert "kept in" not in caplog.text
    for _ in ("training", "validation"):
        SeededDataset(images, chain(12), cache=first, progress=True)
    said = "another process or an earlier run: they are kept in " + str(tmp_path / "spill")
    assert caplog.text.count(said) == caplog.text.count("kept in") == 1


@pytest.mark.parametrize(("ranks", "spills"), [(1, False), (2, True)])
def test_half_of_what_is_free_is_for_images_of_all_processes(
    ranks: int, spills: bool, images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: int(2.1 * BYTES))
    SeededDataset(images, chain(12), cache=ImageCache(spill=tmp_path / "spill", ranks=ranks))
    assert (tmp_path / "spill").exists() == spills
    SeededDataset(images, chain(12), cache=ImageCache(ranks=1 << 40))  # no spill: always in memory


def test_images_are_in_memory_no_longer_than_until_it_is_clear_that_they_do_not_fit(
    images: list[Any], tmp_path: Path, decoded: list[str]
) -> None:
    seen: list[int] = []
    cache = ImageCache(spill=tmp_path / "spill", max_bytes=BYTES // 2)

    def load(items: Any) -> Iterator[Any]:
        for _ in items:
            seen.append(len(list((tmp_path / "spill").glob("*.pt"))))
            yield {"image": torch.zeros(1, 40, 36), "label": torch.zeros(1, 40, 36).int()}

    cache.keep(images, [], load)
    assert seen == [0, 1, 2]  # the first told enough, and was written before the second came


def test_a_folder_that_another_process_removes_meanwhile_is_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(spill=tmp_path / "spill", max_bytes=1)
    monkeypatch.setattr(Path, "is_dir", lambda _: True)  # it was there, and is no longer
    cache.clear()


def test_a_cleared_cache_leaves_nothing_and_loses_nothing(
    images: list[Any], tmp_path: Path
) -> None:
    spill = tmp_path / "models/image_cache"
    cache = ImageCache(spill=spill, max_bytes=1)
    dataset = SeededDataset(images, chain(12), cache=cache)
    expected = tiles(dataset)
    (spill / f".{'a' * 64}.pt.part").mkdir()  # of a process that was killed
    (spill / "notes.txt").write_text("mine")
    cache.clear()
    assert [path.name for path in spill.iterdir()] == ["notes.txt"]
    (spill / "notes.txt").unlink()
    cache.clear()
    assert not spill.exists()
    assert spill.parent.exists()
    cache.clear()
    same(tiles(dataset), expected)


@pytest.mark.parametrize("max_bytes", [None, 1], ids=["memory", "files"])
def test_trainings_that_share_a_cache_load_images_once(
    max_bytes: int | None, images: list[Any], tmp_path: Path, decoded: list[str]
) -> None:
    """The next ones learn from a part of the images, in another order; files stay to the end."""
    cache = ImageCache(spill=tmp_path / "spill", max_bytes=max_bytes)
    with cache.shared():
        first = tiles(SeededDataset(images, chain(12), cache=cache))
        assert len(decoded) == 2 * 3
        assert cache.before is not None
        took = cache.before.seconds
        assert took > 0
        cache.clear()
        assert (tmp_path / "spill").exists() == (max_bytes == 1)
        part = SeededDataset(images[:0:-1], chain(12), cache=cache)
        again = tiles(SeededDataset(images, chain(12), cache=cache))
        assert len(decoded) == 2 * 3
        assert cache.before.seconds == took
        other = SeededDataset(images, chain(12, Standardized("image")), cache=cache)
        assert len(decoded) == 2 * 2 * 3  # nothing of another chain is taken for its own
    assert not (tmp_path / "spill").exists()
    same(again, first)
    same(tiles(part), tiles(SeededDataset(images[:0:-1], chain(12))))
    same(tiles(other), tiles(SeededDataset(images, chain(12, Standardized("image")))))


def test_a_file_that_changes_between_trainings_is_loaded_anew(
    images: list[Any], tmp_path: Path, decoded: list[str]
) -> None:
    cache = ImageCache()
    with cache.shared():
        SeededDataset(images, chain(12), cache=cache)
        save_image(Path(images[1]["image"]), np.ones((1, 40, 36), np.uint16), np.eye(4))
        after = tiles(SeededDataset(images, chain(12), cache=cache))
    same(after, tiles(SeededDataset(images, chain(12))))


def test_a_shared_cache_that_fails_leaves_its_files(images: list[Any], tmp_path: Path) -> None:
    cache = ImageCache(spill=tmp_path / "spill", max_bytes=1)
    with suppress(ZeroDivisionError), cache.shared():
        SeededDataset(images, chain(12), cache=cache)
        raise ZeroDivisionError
    assert len(list((tmp_path / "spill").iterdir())) == 3


def test_labels_take_no_more_memory_than_their_numbers_need() -> None:
    items = [{"image": torch.rand(1, 4, 4), "label": torch.full((1, 4, 4), 300)} for _ in range(3)]
    dataset = SeededDataset(items, Compose([RandTileCropd(KEYS, 3)]))
    assert [item["label"].dtype for item in dataset._cache or ()] == 3 * [torch.int16]
    assert dataset[0]["label"].dtype == torch.int64
    assert torch.equal(dataset[0]["label"], torch.full((1, 3, 3), 300))
    whole = SeededDataset(items, Compose([]))
    whole[0]["label"].zero_()
    assert torch.equal(whole[0]["label"], items[0]["label"])


def test_a_folder_that_the_user_named_is_kept(images: list[Any], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "mine", tmp_path / "spill")
    SeededDataset(images, chain(12), cache=cache)
    cache.clear()
    assert len(list((tmp_path / "mine").iterdir())) == 3
    assert not (tmp_path / "spill").exists()


def test_what_is_kept_is_found_again(images: list[Any], tmp_path: Path, decoded: list[str]) -> None:
    cache = ImageCache(spill=tmp_path / "spill", max_bytes=1)
    expected = tiles(SeededDataset(images, chain(12), cache=cache))
    decoded.clear()
    large = ImageCache(spill=tmp_path / "spill")  # resumed where more memory is free
    same(tiles(SeededDataset(images, chain(12), cache=large)), expected)
    assert decoded == []
    moved = find_pairs(shutil.move(tmp_path / "images", tmp_path / "i"), tmp_path / "labels")
    dataset = SeededDataset(moved, chain(12), cache=cache)
    assert decoded == []
    memory = SeededDataset(moved, chain(12))
    for k in range(3):
        same(dataset[k], memory[k])  # and names the file where it lies now


@pytest.mark.parametrize("package", ["tifffile", "pillow", "SimpleITK", "imagecodecs", "zarr"])
def test_what_another_version_decoded_is_not_taken(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name() -> str:
        return digest_module.ItemNames([SelectSliced("image")]).of({"image": 1})

    before, known = name(), digest_module.version_of
    monkeypatch.setattr(digest_module, "version_of", lambda p: "0" if p == package else known(p))
    assert name() != before


def test_a_file_that_changed_is_not_taken_for_what_it_was(
    images: list[Any], tmp_path: Path, decoded: list[str]
) -> None:
    cache = ImageCache(tmp_path / "c")
    SeededDataset(images, chain(12), cache=cache)
    shutil.copy(images[0]["image"], images[1]["image"])
    shutil.copy(images[0]["label"], images[2]["label"])
    decoded.clear()
    dataset = SeededDataset(images, chain(12), cache=cache)
    assert sorted(map(os.path.basename, decoded)) == ["1.tif", "1.tif", "2.tif", "2.tif"]
    same(tiles(dataset), tiles(SeededDataset(images, chain(12))))


@pytest.mark.parametrize(
    "other",
    [
        chain(12, size=0.8),
        chain(12, Lambdad("image", lambda x: x + 1), RandTileCropd(KEYS, 12)),
        Compose([*chain(12).transforms[:2], RandTileCropd(KEYS, 12)]),
        Compose([LOAD_CHANNEL_0, *chain(12).transforms[1:]]),
    ],
)
def test_another_chain_has_files_of_its_own(
    other: Compose, images: list[Any], tmp_path: Path
) -> None:
    cache = ImageCache(tmp_path / "c")
    SeededDataset(images, chain(12), cache=cache)
    SeededDataset(images, chain(24), cache=cache)  # differs in what is random
    assert len(list((tmp_path / "c").iterdir())) == 3
    dataset = SeededDataset(images, other, cache=cache)
    assert len(list((tmp_path / "c").iterdir())) == 6
    same(dataset[0]["image"], SeededDataset(images, other)[0]["image"])


def test_names_are_those_of_another_process(images: list[Any], tmp_path: Path) -> None:
    def keep() -> None:
        SeededDataset(images, chain(12, size=0.8), cache=ImageCache(tmp_path / "c"))

    assert finish(start(keep)) == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "c").iterdir()}
    dataset = SeededDataset(images, chain(12, size=0.8), cache=ImageCache(tmp_path / "c"))
    dataset[0]  # what has been used keeps its name
    SeededDataset(images, dataset.transform, cache=ImageCache(tmp_path / "c"))
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "c").iterdir()}


def test_killed_while_writing(
    images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, numbers = torch.save, count()

    def die(value: Any, file: Any) -> None:
        save(value, file)
        if next(numbers) == 1:
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def keep() -> None:
        monkeypatch.setattr(torch, "save", die)
        SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "c"))

    assert finish(start(keep)) == -signal.SIGKILL
    assert len(list((tmp_path / "c").glob("*.pt"))) == 1
    dataset = SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "c"))
    assert len(list((tmp_path / "c").iterdir())) == 3, "half-written files stay"
    same(tiles(dataset), tiles(SeededDataset(images, chain(12))))


def test_a_file_that_was_cut_short_is_written_again(images: list[Any], tmp_path: Path) -> None:
    SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "c"))
    for k, path in enumerate(sorted((tmp_path / "c").iterdir())):
        path.write_bytes(path.read_bytes()[: (0, 100, path.stat().st_size // 2)[k]])
    dataset = SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "c"))
    same(tiles(dataset), tiles(SeededDataset(images, chain(12))))


def test_processes_that_train_together_share_the_files(images: list[Any], tmp_path: Path) -> None:
    def keep(rank: int) -> None:
        cache = ImageCache(tmp_path / "c", rank=rank, ranks=3)
        same(tiles(SeededDataset(images, chain(12), cache=cache)), expected)

    expected = tiles(SeededDataset(images, chain(12)))
    processes = [start(keep, rank) for rank in range(3)]
    assert [finish(process) for process in processes] == [0, 0, 0]
    assert len(list((tmp_path / "c").iterdir())) == 3


def test_processes_begin_with_different_images(images: list[Any], tmp_path: Path) -> None:
    seen: list[str] = []

    def load(items: Any) -> Iterator[Any]:
        for item in items:
            seen.append(Path(item["image"]).name)
            yield {"image": torch.zeros(1)}

    ImageCache(tmp_path / "c", rank=1, ranks=3).keep(images, [], load)
    assert seen == ["1.tif", "2.tif", "0.tif"]


def test_a_disk_with_too_little_room_is_refused(
    images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 3 * (4 + 2) * 40 * 36  # labels up to 300 lie in 16 bits
    free = 1.02 * needed

    def usage(path: Any) -> Any:
        return shutil._ntuple_diskusage(10 * free, 0, free)

    monkeypatch.setattr(module.shutil, "disk_usage", usage)
    SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "enough"))
    free = 0.98 * needed
    with pytest.raises(
        ValueError, match=r"3 images take about 2\.6e-05 GB.*2\.54e-05 GB free: name"
    ):
        SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "c"))
    assert list((tmp_path / "c").iterdir()) == []


def test_a_disk_that_fills_up_is_named(
    images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(value: Any, file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match=r"\.pt cannot be written: No space left"):
        SeededDataset(images, chain(12), cache=ImageCache(tmp_path / "c"))
    assert list((tmp_path / "c").iterdir()) == []


class Strange:
    """Nothing that torch would load without trust."""


def test_what_no_file_can_hold_is_refused(images: list[Any], tmp_path: Path) -> None:
    add = Lambdad("section", lambda x: Strange(), overwrite="strange")
    transform = chain(12, add, RandTileCropd(KEYS, 12))
    items = [{**item, "section": "training"} for item in images]
    with pytest.raises(ValueError, match=r"Strange in it cannot be kept in a file.*remove it"):
        SeededDataset(items, transform, cache=ImageCache(tmp_path / "c"))
    assert list((tmp_path / "c").iterdir()) == []


def test_facts_of_a_case_are_kept_with_it(images: list[Any], tmp_path: Path) -> None:
    """What a transform adds: text, numbers, arrays, and entries of the data list."""
    add = Lambdad("label", lambda x: np.argwhere(x.numpy() > 0)[:5], overwrite="where")
    transform = chain(12, add, RandTileCropd(KEYS, 12))
    items = [{**item, "section": "a", "fold": k} for k, item in enumerate(images)]
    memory = SeededDataset(items, transform)
    files = SeededDataset(items, transform, cache=ImageCache(tmp_path / "c"))
    assert memory[0].keys() >= {"where", "section", "fold"}
    for k in range(3):
        same(files[k], memory[k])


def test_text_that_names_a_folder_is_text(
    images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data list says `validation`, and such a folder lies beside it."""
    monkeypatch.chdir(tmp_path)
    items = [{**item, "section": "validation"} for item in images]
    SeededDataset(items, chain(12), cache=ImageCache(tmp_path / "c"))
    before = {path.name for path in (tmp_path / "c").iterdir()}
    Path("validation").mkdir()
    Path("validation/large").write_bytes(b"0" * 100)
    SeededDataset(items, chain(12), cache=ImageCache(tmp_path / "c"))
    assert before == {path.name for path in (tmp_path / "c").iterdir()}


@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-300, 300), min_size=1),
    kind=st.sampled_from([torch.int16, torch.int32, torch.int64, torch.uint8, torch.float32]),
)
def test_the_smallest_type_that_holds_all(values: list[int], kind: torch.dtype) -> None:
    label = torch.tensor(values).to(kind)
    small, types = narrowed({"label": label})
    same(small["label"].to(kind), label)
    smaller = [t for t in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
               if t.itemsize < small["label"].dtype.itemsize]  # fmt: skip
    assert kind == torch.float32 or not any(
        torch.equal(label.to(t).to(kind), label) for t in smaller
    )
    assert types == ({} if small["label"].dtype == kind else {"label": kind})


def make(add: float, factor: float = 2.0) -> Callable[[float], float]:
    return lambda x: x * factor + add


class Settings:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
        self.generator = np.random.RandomState()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        (None, "None"),
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
        ((1,), [1]),
        ({"a": 1}, {"a": 2}),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.zeros((1, 4)), np.zeros((2, 2))),
        (torch.zeros(3), torch.ones(3)),
        (MetaTensor(torch.zeros(3)), MetaTensor(torch.zeros(3), affine=2 * torch.eye(4))),
        (make(1.0), make(2.0)),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x: np.min(x), lambda x: np.max(x)),
        (Settings(a=1), Settings(a=2)),
        (Settings(a=1), Settings(b=1)),
        (Settings, Strange),
        (np.min, np.max),
        (torch.int8, torch.uint8),
        (Path("a"), Path("b")),
    ],
    ids=count(),
)
def test_digests_tell_apart(one: Any, other: Any) -> None:
    assert digest(one) == digest(one)
    assert digest([{"x": one}]) == digest([{"x": one}])
    assert digest(one) != digest(other)


def test_a_digest_copies_no_array() -> None:
    """But one whose pixels lie in another order; equal ones have one digest nevertheless."""
    array = np.arange(4 * 1024 * 1024, dtype=np.float32).reshape(2048, 2048)
    other = np.asfortranarray(array)
    peaks = []
    for value in (array, torch.from_numpy(array)):
        tracemalloc.start()
        digest(value)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < array.nbytes / 8
    assert digest(array) == digest(other) != digest(array.T)
    assert digest(np.float32(2)) != digest(np.array(2, np.float32))


def test_digests_of_equals_are_equal() -> None:
    for one, other in [
        (make(1.0), make(1.0)),
        (Settings(a=[1]), Settings(a=[1])),
        ({"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}),
        (np.zeros((4, 4))[:, ::2], np.zeros((4, 2))),
        ("".join(["a", "b"]), "ab"),
    ]:
        assert digest(one) == digest(other)
    circle: list[Any] = [1]
    circle.append(circle)
    assert digest(circle) == digest(circle)


def test_the_rest_takes_what_its_files_tell(tmp_path: Path) -> None:
    items = []
    for name, size in (("a", 100), ("b", 300), ("c", 200)):
        (tmp_path / name).write_bytes(bytes(size))
        items.append({"image": str(tmp_path / name)})
    forecast = Forecast([*items[:2], *({**items[2], "slice": k} for k in range(4))])
    assert (forecast.total, forecast.rest) == (0, 0)
    forecast.add(0, 1000)
    assert (forecast.total, forecast.rest) == (6000, 5000)
    forecast.add(2, 1500)  # a plane of four, of which the file tells 50 bytes
    assert forecast.total == round(2500 / 150 * 600)


SETTINGS = {
    "label_kind": "instances",
    "features": [2, 4],
    "tile_size": 32,
    "batch_size": 2,
    "tiles_per_epoch": 6,
    "epochs": 2,
    "val_interval": 1,
    "checkpoint_minutes": 0,
    "num_workers": 0,
    "device": "$torch.device('cpu')",
}


@pytest.fixture
def lay(tmp_path: Path, cells: Path) -> Callable[..., Path]:
    """Makes a bundle that is ready to be trained."""

    def make(name: str, **settings: Any) -> Path:
        folder = bundle.copy_bundle(tmp_path / name)
        paths = {"images": f"{cells}/images", "labels": f"{cells}/labels"}
        modern = bundle.override_file("modern")
        assert modern is not None
        bundle.write_settings(folder, [modern], {**SETTINGS, **paths, **settings})
        return folder

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "models/model.pt", weights_only=True)


def test_a_training_from_files_ends_with_the_same_weights(
    lay: Callable[..., Path], tmp_path: Path
) -> None:
    """Stopped, it leaves the files to the run that resumes it; finished, it removes them."""
    memory = lay("memory")
    bundle.load_workflow(memory, "train").run()
    assert not (memory / "models/image_cache").exists()
    files = lay("files", **{"cache::max_bytes": 1})
    workflow = bundle.load_workflow(files, "train")
    trainer = workflow.parser.get_parsed_content("train::trainer")
    kept = {path.name: path.stat().st_ino for path in (files / "models/image_cache").iterdir()}
    assert len(kept) == 3  # two to train on, one to validate

    def stop(engine: Any) -> None:
        raise KeyboardInterrupt

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), stop)
    with pytest.raises(KeyboardInterrupt):
        workflow.run()
    again = bundle.load_workflow(files, "train", {"resume": True})
    again.parser.get_parsed_content("train::trainer")
    assert kept == {p.name: p.stat().st_ino for p in (files / "models/image_cache").iterdir()}
    again.run()
    assert not (files / "models/image_cache").exists()
    same(weights(files), weights(memory))


def test_the_command_line_names_a_folder(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--images", f"{cells}/images", "--labels", f"{cells}/labels"]
    words += ["--features", "2", "4", "--device", "cpu", "--output", "out", "--cache", "scratch"]
    assert main([*words, "--epochs", "1"]) == 0
    said = capsys.readouterr().err
    assert f"--cache_dir {tmp_path}/scratch" in said
    assert f"{tmp_path}/scratch keeps the images for later trainings" in said
    kept = {path.name: path.stat().st_ino for path in (tmp_path / "scratch").iterdir()}
    assert len(kept) == 3
    assert main([*words, "--epochs", "2", "--resume"]) == 0
    assert kept == {path.name: path.stat().st_ino for path in (tmp_path / "scratch").iterdir()}
    text = "".join(path.read_text() for path in (tmp_path / "out/configs").glob("*.json"))
    assert str(tmp_path) not in text  # a bundle names no place of the machine
