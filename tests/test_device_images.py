"""Images on a GPU: what workers draw of lines is what they would have cut of pixels."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, RandFlipd, RandRotate90d, SelectItemsd

from unet_med.data import EpochSampler, ImageCache, SeededDataset, image_cache
from unet_med.data.device_images import shapes_alike
from unet_med.data.entries import KNOWN, LINES
from unet_med.engines import PrepareBatchWeighted
from unet_med.handlers import OutOfMemory
from unet_med.networks import UNet
from unet_med.transforms import RandTileCropd
from unet_med.transforms.draws import CutTile, Flip, QuarterTurn

BOTH = ["image", "label"]
HERE = torch.device("cpu")  # it serves as any device would


def images(shapes: list[tuple[int, ...]], channels: int = 1) -> list[dict[str, Any]]:
    """Every pixel of all images is another number, as of all labels; some labels are unknown."""
    rng, items = np.random.default_rng(0), []
    for shape in shapes:
        image = torch.from_numpy(rng.normal(size=(channels, *shape))).float()
        label = torch.from_numpy(rng.permutation(np.prod(shape)).reshape(1, *shape))
        label[rng.random(label.shape) < 0.8] = -1
        items.append({"image": MetaTensor(image), "label": MetaTensor(label)})
    return items


def chain(size: Any, ignore: int | None, axis: Any, plane: tuple[int, int]) -> list[Any]:
    return [
        RandTileCropd(BOTH, size, ignore=ignore),
        RandFlipd(BOTH, prob=0.5, spatial_axis=axis),
        RandRotate90d(BOTH, prob=0.75, spatial_axes=plane),
    ]


def of_lines(steps: list[Any]) -> Compose:
    kinds = [CutTile, Flip, QuarterTurn]
    return Compose([kind(step) for kind, step in zip(kinds, steps, strict=True)])


def pair(items: list[dict[str, Any]], *settings: Any, tiles: int = 8, **keep: Any) -> Any:
    """Data sets of pixels, and of lines where the cache has room."""
    pixels = SeededDataset(items, Compose(chain(*settings)), tiles_per_epoch=tiles)
    cache = ImageCache(device=HERE, **keep)
    lines = SeededDataset(items, of_lines(chain(*settings)), tiles_per_epoch=tiles, cache=cache)
    return pixels, lines


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(st.integers(2, 3))
    sides = st.tuples(*[st.integers(1, 9)] * dims)
    size = draw(st.one_of(st.integers(1, 8), sides))
    plane = draw(st.permutations(range(-1, dims - 1)).map(lambda axes: tuple(axes[:2])))
    axis = draw(st.one_of(st.none(), st.integers(-dims, dims - 1), st.just((0, -1))))
    ignore = draw(st.sampled_from([None, -1]))
    shapes = draw(st.lists(sides, min_size=1, max_size=3))
    return {"items": images(shapes, draw(st.integers(1, 3))), "rest": (size, ignore, axis, plane)}


@given(cases())
@settings(max_examples=40)
def test_lines_give_the_pixels(case: dict[str, Any]) -> None:
    pixels, lines = pair(case["items"], *case["rest"])
    assert lines.on_device is not None
    for position in range(16):
        expected, found = pixels[position], lines[position]
        assert set(found) == {LINES}
        tile = lines.on_device.tiles([line[None] for line in found[LINES]])
        assert tile["image"].dtype == torch.float32
        assert tile["label"].dtype == torch.int32
        for key in BOTH:
            assert torch.equal(tile[key][0].to(expected[key].dtype), expected[key].as_tensor())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_workers(workers: int) -> None:
    pixels, lines = pair(images([(9, 8), (7, 11)], 2), 6, None, None, (0, 1))
    batches = [
        list(DataLoader(d, sampler=EpochSampler(d), batch_size=4, num_workers=workers))
        for d in (pixels, lines)
    ]
    prepare = PrepareBatchWeighted(dataset=lines)
    for sent, held in zip(*batches, strict=True):
        image, label = prepare(held)
        assert torch.equal(image, sent["image"].as_tensor())
        assert image.is_contiguous()
        assert label is not None
        assert torch.equal(label.long(), sent["label"].as_tensor())


def test_lines_without_their_images_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of lines, and no images that they are of"):
        PrepareBatchWeighted()({LINES: [torch.zeros(1, 2)] * 2})


def test_another_process_gets_no_pixels() -> None:
    _, lines = pair(images([(9, 8)]), 4, -1, 0, (0, 1))
    there = pickle.loads(pickle.dumps(lines))
    assert there.on_device.pixels is None
    assert there._cache is there.on_device
    for ours, theirs in zip(lines[3][LINES], there[3][LINES], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("ignore", [None, -1])
def test_main_memory_keeps_what_a_draw_reads(ignore: int | None) -> None:
    _, lines = pair(images([(9, 8), (5, 5)]), 4, ignore, 0, (0, 1))
    assert [set(item) for item in lines.on_device.kept] == [
        {"label", KNOWN} if ignore else set()
    ] * 2


def test_images_in_files_are_held_as_well(tmp_path: Path) -> None:
    items = images([(9, 8), (12, 7)])
    _, lines = pair(items, 4, -1, 0, (0, 1), folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    _, memory = pair(items, 4, -1, 0, (0, 1))
    assert torch.equal(lines.on_device.pixels, memory.on_device.pixels)
    for position in range(8):
        found, expected = lines[position][LINES], memory[position][LINES]
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("room", [0, 1])
def test_images_that_take_too_much_are_sent(
    room: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    need = 4 * (3 + 1) * (9 * 8 + 5 * 5)
    monkeypatch.setattr(image_cache, "free_bytes", lambda device: 4 * need - 4 + 4 * room)
    pixels, lines = pair(images([(9, 8), (5, 5)], 3), 4, None, 0, (0, 1))
    assert (lines.on_device is not None) == bool(room)
    said = "stay on cpu: " if room else "are sent to cpu tile by tile: "
    assert f"images    {said}1.55e-06 GB, and 6.2" in caplog.text
    if not room:
        for key in BOTH:
            assert torch.equal(lines[3][key], pixels[3][key])


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("image", torch.rand(2, 9, 8)),
        ("image", torch.rand(1, 9, 8).double()),
        ("image", torch.rand(1, 9, 8, 1)),
        ("label", torch.zeros(1, 8, 8)),
        ("label", np.zeros((1, 9, 8))),
        ("label", None),
    ],
)
def test_images_that_are_not_alike_are_sent(key: str, other: Any) -> None:
    items = images([(9, 8), (9, 8)])
    assert shapes_alike(items) == [(1, 9, 8)] * 2
    items[1][key] = other
    assert shapes_alike(items) is None
    assert ImageCache(device=HERE).on_device(image_cache.InMemory(items)) is None


def test_a_device_may_be_a_name() -> None:
    """As a bundle has it where `--device cuda:1` is given by itself."""
    kept = image_cache.InMemory(images([(9, 8)]))
    held, same = (ImageCache(device=device).on_device(kept) for device in ("cpu", HERE))
    assert held is not None
    assert same is not None
    assert torch.equal(held.pixels, same.pixels)


@pytest.mark.parametrize(
    "steps",
    [
        [RandTileCropd(BOTH, 4)],
        [RandFlipd(BOTH), CutTile(RandTileCropd(BOTH, 4))],
        [SelectItemsd(BOTH)],
    ],
)
def test_chains_that_cut_pixels_get_pixels(steps: list[Any]) -> None:
    dataset = SeededDataset(images([(9, 8)]), Compose(steps), cache=ImageCache(device=HERE))
    assert dataset.on_device is None
    assert set(dataset[0]) == set(BOTH)


def test_labels_become_int32() -> None:
    item = images([(2, 3)])[0]
    item["label"] = torch.tensor([[[0.0, 2.0, -1.0], [5e9, 7e9, 5e9]]], dtype=torch.float64)
    held = ImageCache(device=HERE).on_device(image_cache.InMemory([item]))
    assert held is not None
    assert held.pixels[1].tolist() == [0, 3, -1, 4, 5, 4]  # ranks, in their order


def test_too_little_memory_names_what_the_images_take() -> None:
    def step(engine: Engine, batch: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer = Engine(step)
    OutOfMemory(UNet(features=(2, 4))).attach(trainer)
    with pytest.raises(ValueError, match=r"3 tiles of \[28, 36\] px: .*\(cache::device null\)"):
        trainer.run([{LINES: [torch.zeros(3, 28), torch.zeros(3, 36)]}])
