"""A tile depends on seed, epoch and position alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor, get_track_meta
from monai.transforms import (
    Compose,
    Lambdad,
    LoadImaged,
    RandFlipd,
    RandLambdad,
    RandRotated,
    RandShiftIntensityd,
)

from unet_med.data import EpochSampler, SeededDataset, find_pairs, save_image
from unet_med.transforms import RandElasticDeformd, RandTileCropd, SelectSliced


def make(tiles: int | None = None, seed: int = 0, images: int = 5, **options: Any) -> SeededDataset:
    items = [{"image": torch.full((1, 2, 2), float(10 * k))} for k in range(images)]
    random = RandShiftIntensityd(keys="image", offsets=1.0, prob=1.0)
    return SeededDataset(items, Compose([random]), seed=seed, tiles_per_epoch=tiles, **options)


def epoch(dataset: SeededDataset, number: int, workers: int = 0) -> list[float]:
    sampler = EpochSampler(dataset)
    sampler.set_epoch(number)
    loader = DataLoader(dataset, sampler=sampler, batch_size=1, num_workers=workers)
    return [float(batch["image"].mean()) for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_same_tiles_on_any_number_of_workers(workers: int) -> None:
    expected = [float(make()[5 + k]["image"].mean()) for k in range(5)]
    assert epoch(make(), 1, workers) == pytest.approx(expected, abs=0)


def test_workers_that_are_threads_take_turns() -> None:
    meeting = threading.Barrier(2)

    def wait(image: torch.Tensor) -> torch.Tensor:
        with suppress(threading.BrokenBarrierError):
            meeting.wait(0.2)  # after both have been seeded, where both are let in
        return image

    shift = RandShiftIntensityd(keys="image", offsets=1.0, prob=1.0)
    chain = Compose([RandFlipd("image", prob=0), Lambdad("image", wait), shift])
    dataset = SeededDataset([{"image": torch.zeros(1, 2, 2)}], chain)
    meeting.abort()
    alone = [dataset[position]["image"] for position in range(2)]
    meeting.reset()
    with ThreadPoolExecutor(2) as threads:
        together = [item["image"] for item in threads.map(dataset.__getitem__, range(2))]
    assert [image.flatten()[0] for image in together] == [image.flatten()[0] for image in alone]


def test_epochs_and_seeds_differ() -> None:
    assert epoch(make(), 0) != epoch(make(), 1)
    assert epoch(make(seed=0), 0) != epoch(make(seed=1), 0)
    assert epoch(make(), 3) == epoch(make(), 3)


@pytest.mark.parametrize("tiles", [3, 5, 12])
def test_every_image_comes_equally_often(tiles: int) -> None:
    dataset = make(tiles)
    assert len(dataset) == tiles
    seen = [round(float(dataset[k]["image"].mean()) / 10) for k in range(60)]
    assert np.bincount(seen).tolist() == [12] * 5


def test_deterministic_head_runs_once_and_stays_untouched() -> None:
    calls: list[int] = []

    def count(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x

    def spoil(x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)

    items = [{"image": torch.zeros(1, 2, 2)}]
    transform = Compose([Lambdad("image", count), RandLambdad("image", spoil, prob=1.0)])
    dataset = SeededDataset(items, transform)
    assert [float(dataset[k]["image"].max()) for k in range(3)] == [1.0, 1.0, 1.0]
    assert len(calls) == 1


@pytest.mark.parametrize("tile_size", [4, 8, 12])  # of an image of 8 px: a part, all, mirrored
def test_an_image_stays_untouched_by_what_follows_the_crop(tile_size: int) -> None:
    def spoil(x: torch.Tensor) -> torch.Tensor:
        x.affine.mul_(2)
        return x.add_(1)

    def spoil_extra(x: list[int]) -> list[int]:
        x.append(1)
        return x

    item = {"image": MetaTensor(torch.rand(1, 8, 8)), "extra": [0]}
    transform = Compose(
        [
            RandTileCropd("image", tile_size),
            Lambdad("image", spoil, track_meta=False),
            Lambdad("extra", spoil_extra, track_meta=False),
        ]
    )
    dataset = SeededDataset([item], transform, tiles_per_epoch=3)
    first = dataset[0]
    dataset[1]
    again = dataset[0]
    torch.testing.assert_close(again["image"].as_tensor(), first["image"].as_tensor())
    torch.testing.assert_close(again["image"].affine, first["image"].affine)
    assert again["extra"] == [0, 1]


def test_random_transforms_without_metadata_give_the_same_tiles() -> None:
    def noted(x: torch.Tensor) -> torch.Tensor:
        kinds.append(type(x))
        return x

    def tiles(track_meta: bool) -> list[torch.Tensor]:
        dataset = SeededDataset([item], transform, tiles_per_epoch=4, track_meta=track_meta)
        return [dataset[k]["image"] for k in range(4)]

    kinds: list[type] = []
    item = {"image": MetaTensor(torch.rand(1, 12, 12), torch.diag(torch.tensor([0.5, 0.5, 1])))}
    transform = Compose(
        [
            RandTileCropd("image", 8),
            RandFlipd("image", prob=0.5),
            RandRotated("image", range_x=0.7, prob=0.5, padding_mode="reflection"),
            RandElasticDeformd("image", prob=0.5),
            Lambdad("image", noted, track_meta=False),
        ]
    )
    tracked, plain = tiles(True), tiles(False)
    assert kinds == [MetaTensor] * 4 + [torch.Tensor] * 4
    for one, other in zip(tracked, plain, strict=True):
        assert torch.equal(one.as_tensor(), other)
    assert get_track_meta()  # of everything else
    broken = Compose([RandLambdad("image", lambda x: 1 / 0, prob=1.0)])
    with pytest.raises(RuntimeError):
        SeededDataset([item], broken, track_meta=False)[0]
    assert get_track_meta()


def test_a_stack_of_planes_is_decoded_once(
    tmp_path: Path, rng: np.random.Generator, decoded: list[str]
) -> None:
    for folder, top in (("images", 4000), ("labels", 2)):
        for name, planes in (("a", 30), ("b", 1), ("c", 2)):
            stack = rng.integers(0, top, (1, 9, 8, planes)).astype(np.uint16)
            save_image(tmp_path / folder / f"{name}.tif", stack)
    items = find_pairs(tmp_path / "images", tmp_path / "labels", stacks=True)
    keys = ["image", "label"]
    load = LoadImaged(keys, reader="unet_med.data.AutoReader", ensure_channel_first=True)
    spoil = Lambdad("image", lambda x: x.mul_(2))  # in place: planes must not share memory
    transform = Compose([load, SelectSliced(keys), spoil])
    expected = [transform(item) for item in items]
    decoded.clear()
    dataset = SeededDataset(items, transform)
    assert len(items) == 33
    assert sorted(decoded) == ["a.tif", "a.tif", "b.tif", "b.tif", "c.tif", "c.tif"]
    for item, wanted in zip(dataset._cache or [], expected, strict=True):
        assert item.keys() == wanted.keys()
        assert item["image"].meta["filename_or_obj"] == wanted["image"].meta["filename_or_obj"]
        for key in keys:
            assert torch.equal(item[key], wanted[key])
            assert item[key].untyped_storage().nbytes() == 4 * 9 * 8  # nothing of the stack


def test_in_memory_stacks_are_not_mistaken_for_one() -> None:
    stacks = [torch.rand(1, 3, 3, 4) for _ in range(2)]
    items = [{"image": stack, "slice": k} for k in (0, 3) for stack in stacks]
    dataset = SeededDataset(items, Compose([SelectSliced("image")]))
    for item, wanted in zip(dataset._cache or [], items, strict=True):
        assert torch.equal(item["image"], wanted["image"][..., wanted["slice"]])


def test_it_is_iterated_and_sliced_as_a_list_of_its_first_epoch() -> None:
    dataset = make()
    expected = epoch(dataset, 0)

    def values(items: Any) -> list[float]:
        return [float(item["image"].mean()) for item in items]

    assert values(dataset) == values(dataset) == expected
    for part in (slice(0, 2), slice(None, None, -2), slice(3, 99), slice(-2, None)):
        assert values(dataset[part]) == expected[part]
    assert values(dataset[[4, 0]]) == [expected[4], expected[0]]
    assert values([dataset[-1], dataset[-5], dataset[np.int64(2)]]) == [
        expected[k] for k in (-1, -5, 2)
    ]
    assert dataset.source(-1) == dataset.source(4)
    with pytest.raises(IndexError, match="position -6 of a data set of 5 tiles"):
        dataset[-6]


def test_without_cache_the_tiles_are_the_same() -> None:
    assert epoch(make(cache=False), 2) == epoch(make(), 2)


def test_every_pass_of_a_plain_loader_is_a_new_epoch() -> None:
    """No engine and no call of `set_epoch`: plain loops and Lightning."""
    dataset = make()
    loader = DataLoader(dataset, sampler=EpochSampler(dataset), batch_size=1)
    passes = [[float(batch["image"].mean()) for batch in loader] for _ in range(3)]
    assert passes == [epoch(make(), number) for number in range(3)]
    assert len({value for values in passes for value in values}) == 15
