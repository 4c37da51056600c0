"""Tiles are windows of the endlessly mirrored image, at places uniform over it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose
from oracles import crop_mirrored

from unet_med.data import ImageCache, SeededDataset
from unet_med.transforms import RandTileCrop, RandTileCropd
from unet_med.transforms import known as known_pixels
from unet_med.transforms.known import KnownPixels

KEYS = ("image", "label")


class EachInTurn:
    """Stands in for `self.R`: every value of every axis once, in order."""

    def __init__(self) -> None:
        self.next = 0

    def randint(self, stop: int) -> int:
        self.next, value = self.next + 1, self.next
        return value % stop


@st.composite
def crops(draw):
    dims = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(dims))
    sizes = tuple(draw(st.integers(1, 30)) for _ in range(dims))
    return shape, sizes, draw(st.integers(0, 999))


@given(crops())
def test_tile_is_a_window_of_the_mirrored_image(case):
    shape, sizes, seed = case
    image = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    tile = RandTileCrop(sizes).set_random_state(seed)(torch.from_numpy(image))
    rng = np.random.RandomState(seed)
    start = []
    for side, size in zip(shape, sizes, strict=True):
        centres = np.arange(side) if size % 2 else np.arange(max(side - 1, 1)) + 0.5
        start.append(int(rng.choice(centres) - (size - 1) / 2))
    np.testing.assert_array_equal(tile.numpy(), crop_mirrored(image, start, sizes))


@pytest.mark.parametrize("size", [1, 6, 15, 24])
def test_every_pixel_is_equally_often_in_a_tile(size):
    side = 40
    crop = RandTileCrop((size, 1))
    crop.R = EachInTurn()
    image = torch.arange(side).view(1, side, 1)
    places = side if size % 2 else side - 1
    counts = np.zeros(side)
    for place in range(places):
        crop.R.next = place
        counts += np.bincount(crop(image).flatten().numpy(), minlength=side)
    assert counts.sum() == places * size
    assert counts[1:-1].max() - counts[1:-1].min() <= 1
    assert (
        size <= 2 * counts[0] == 2 * counts[-1] <= size + 1
    )  # the mirror does not repeat the edge


def test_sides_differ_by_axis():
    crop = RandTileCropd(KEYS, (9, 20))
    out = crop({"image": torch.zeros(3, 12, 12), "label": torch.zeros(1, 12, 12)})
    assert out["image"].shape == (3, 9, 20)
    assert out["label"].shape == (1, 9, 20)


def test_affine_moves_along():
    affine = np.array([[0, 0.5, 0, 3], [0.25, 0, 0, -1], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    rows = torch.arange(20.0).view(20, 1).expand(20, 30)
    columns = torch.arange(30.0).expand(20, 30)
    image = MetaTensor(torch.stack([rows, columns]), affine=torch.from_numpy(affine))
    crop = RandTileCrop(5).set_random_state(0)
    inside = 0
    for _ in range(20):
        tile = crop(image)
        corner = tile[:, 0, 0].numpy()  # index of the tile's first pixel in the image
        if (tile[:, -1, -1].numpy() - corner == 4).all():
            inside += 1
            expected = affine @ [*corner, 0, 1]
            np.testing.assert_allclose(tile.affine.numpy()[:, -1], expected)
            np.testing.assert_allclose(tile.affine.numpy()[:, :3], affine[:, :3])
    assert inside > 5


@pytest.mark.parametrize("compose", [False, True])
def test_same_seed_same_tile(compose):
    image = torch.arange(10_000).view(1, 100, 100)

    def run(seed: int) -> torch.Tensor:
        crop = RandTileCropd("image", 8)
        (Compose([crop]) if compose else crop).set_random_state(seed=seed)
        return torch.stack([crop({"image": image})["image"].as_tensor() for _ in range(3)])

    torch.testing.assert_close(run(1), run(1), rtol=0, atol=0)
    assert (run(1) != run(2)).any()


def test_randomize_false_repeats_the_place():
    image = torch.arange(10_000).view(1, 100, 100)
    crop = RandTileCropd("image", 8).set_random_state(0)
    first, second = crop({"image": image}), crop({"image": image})
    again = crop({"image": image}, randomize=False)
    assert (first["image"] != second["image"]).any()
    torch.testing.assert_close(second["image"], again["image"], rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="there was none yet"):
        RandTileCrop(8)(image, randomize=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_size": 0}, "tile_size 0 px is less than 1"),
        (
            {"tile_size": 8, "middle": 5},
            "middle 5 px does not lie in the middle of tile_size 8 px; nearest that does: 4",
        ),
        ({"tile_size": 8, "middle": 11}, "nearest that does: 8"),
        ({"tile_size": 8, "middle": 0}, "middle 0 px is less"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        RandTileCropd(KEYS, **options)


def test_axes_must_fit_the_image():
    with pytest.raises(ValueError, match=r"size \(8, 8\) px has 2 sides for 3 image axes"):
        RandTileCrop((8, 8))(torch.zeros(1, 9, 9, 9))


def test_shapes_must_agree():
    data = {"image": torch.zeros(1, 9, 9), "label": torch.zeros(1, 9, 8)}
    with pytest.raises(ValueError, match=r"label is \(9, 8\) px, image is \(9, 9\) px"):
        RandTileCropd(KEYS, 8)(data)


def test_missing_keys():
    data = {"label": torch.zeros(1, 9, 9)}
    with pytest.raises(KeyError, match="image"):
        RandTileCropd(KEYS, 4)(data)
    out = RandTileCropd(KEYS, 4, allow_missing_keys=True)(data)
    assert out["label"].shape == (1, 4, 4)


@pytest.mark.parametrize(("size", "middle"), [(5, 3), (6, 4), (8, 8), (9, None), (30, 26)])
def test_an_annotated_pixel_lies_anywhere_in_a_tiles_middle(size: int, middle: int | None) -> None:
    """Each place there is as likely as any other, as long as the tile's centre is in the image."""
    label = torch.full((1, 12, 14), 255)
    label[0, 5, 8] = 1
    crop = RandTileCropd(["image", "label"], size, ignore=255, middle=middle).set_random_state(0)
    window = size // 2 if middle is None else middle
    first = (size - window) // 2
    found: Counter[tuple[int, ...]] = Counter()
    for _ in range(40 * min(window, 12) ** 2):
        item = crop({"image": label, "label": label})
        mirrored = (item["label"][0] == 1).nonzero().tolist()  # in a large tile several times
        start = crop.drawn._start
        assert start is not None
        place = (5 - start[0], 8 - start[1])
        assert [*place] in mirrored
        found[place] += 1
    sides = []
    for at, side in ((5, 12), (8, 14)):
        centres = range(1 - size % 2, side)
        starts = [centre - size // 2 for centre in centres]
        sides.append([at - s for s in starts if first <= at - s < first + window])
    assert set(found) == {(x, y) for x in sides[0] for y in sides[1]}
    assert min(found.values()) > 40 / 4


def test_tiles_hold_annotated_pixels_also_at_a_corner() -> None:
    label = torch.full((1, 20, 30), 255)
    annotated = {(0, 0), (7, 21), (19, 29)}
    for x, y in annotated:
        label[0, x, y] = 1
    place = torch.arange(600).reshape(1, 20, 30)
    crop = RandTileCropd(["image", "label"], 6, ignore=255, middle=4).set_random_state(0)
    seen = set()
    for _ in range(60):
        item = crop({"image": place, "label": label})
        inside = item["image"][0, 1:5, 1:5][item["label"][0, 1:5, 1:5] == 1]
        seen |= {divmod(int(pixel), 30) for pixel in inside}
        assert len(inside)
    assert seen == annotated
    empty = crop({"image": place, "label": torch.full((1, 20, 30), 255)})  # anywhere
    assert empty["image"].shape == (1, 6, 6)


@pytest.mark.parametrize("size", [3, 4])
def test_an_annotated_image_may_be_one_pixel_thick(size: int) -> None:
    label = torch.tensor([[[255, 0, 255]]])
    crop = RandTileCropd(["image", "label"], size, ignore=255).set_random_state(0)
    for _ in range(9):
        item = crop({"image": label, "label": label})
        assert (item["label"] == 0).any()
        assert item["label"].shape == (1, size, size)


class Listing(RandTileCrop):
    """Draws among the places of all pixels of a mask."""

    mask: np.ndarray

    def _one_of(self, where: object) -> list[int]:
        for _ in range(20):
            centre = [int(self.R.randint(side)) for side in self.mask.shape]
            if self.mask[tuple(centre)]:
                return centre
        places = np.argwhere(self.mask)
        return [int(k) for k in places[self.R.randint(len(places))]]


@pytest.mark.parametrize("shape", [(30, 20), (9, 11, 13)])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.05, 0.9])
@pytest.mark.parametrize(("dtype", "ignore"), [(torch.uint8, 255), (torch.int64, -1)])
def test_known_pixels_are_drawn_as_from_a_list_of_all(
    shape: tuple[int, ...], share: float, dtype: torch.dtype, ignore: int
) -> None:
    known = np.random.default_rng(len(shape)).random(shape) < share
    label = torch.where(torch.from_numpy(known), 2, ignore).to(dtype)[None]
    item = {"image": label, "label": label}
    crop = RandTileCropd(KEYS, 6, ignore=ignore).set_random_state(7)
    listing = Listing(6).set_random_state(7)
    listing.mask = known
    assert crop.notes is not None
    for k in range(30):
        out = crop(crop.notes(item) if k % 2 else item)
        assert set(out) == set(KEYS)
        listing.randomize(label, KnownPixels.of(label, ignore))
        assert crop.drawn._start == listing._start


@pytest.mark.parametrize("where", ["memory", "files"])
def test_a_tile_of_a_partly_annotated_volume_looks_at_a_few_lines(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = torch.full((1, 12, 10, 8), -1)
    label[0, 3, :, 5] = 1
    items = [{"image": label.float(), "label": label}]
    cache = ImageCache(tmp_path if where == "files" else None)
    crop = RandTileCropd(KEYS, 4, ignore=-1)
    dataset = SeededDataset(items, Compose([crop]), tiles_per_epoch=20, cache=cache)
    seen = []
    monkeypatch.setattr(known_pixels, "labels_of", lambda part: seen.append(part.numel()) or part)
    for k in range(20):
        item = dataset[k]
        assert (item["label"][0, 1:3, 1:3, 1:3] == 1).any()
        assert item["label"].dtype == torch.int64
        assert set(item) == set(KEYS)
    assert set(seen) == {1, 8}


def test_sides_of_a_tile_are_whole_numbers() -> None:
    assert RandTileCrop(np.array([6, 4])).tile_size == (6, 4)
    with pytest.raises(TypeError, match=r"^tile_size 6\.5 is no whole number"):
        RandTileCrop((6.5, 4))  # type: ignore[arg-type]
