"""A part of an image: what one pass over the whole gives there, wherever it lies."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.pixels import BORDERS, Pixels
from unet_med.inferers.test_time_augmentation import views
from unet_med.inferers.tiling import tiling_of
from unet_med.networks import UNet

TTA = st.sampled_from([None, "flips", "rotations"])


@cache
def network(padding: str, upsample: str) -> UNet:
    torch.manual_seed(0)
    return UNet(features=(2, 3, 4), padding=padding, upsample=upsample).double().eval()


def ranges(length: int) -> Any:
    """(start, stop) of a part of an axis."""
    pairs = st.tuples(st.integers(0, length - 1), st.integers(1, length))
    return pairs.map(lambda p: (min(p[0], p[1] - 1), max(p[0] + 1, p[1])))


@settings(max_examples=30)
@given(st.data(), st.sampled_from(["valid", "same"]), st.sampled_from(["deconv", "bilinear"]), TTA)
def test_a_part_equals_the_whole_there(data: Any, padding: str, upsample: str, tta: Any) -> None:
    net = network(padding, upsample)
    shape = data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    box = tuple(data.draw(ranges(n)) for n in shape)
    mode = data.draw(st.sampled_from(["reflect", "replicate"]))
    inferer = OverlapTileInferer(tile_size=-1, tta=tta, mode=mode)
    image = torch.randn(2, 1, *shape, dtype=torch.float64)
    seen: list[int] = []

    def read(inner: Any) -> torch.Tensor:
        assert all(0 <= a < b <= n for (a, b), n in zip(inner, shape, strict=True))
        part = image[:, :, slice(*inner[0]), slice(*inner[1])]
        seen.append(part.numel())
        return part

    tiling = tiling_of(net, image, margin=None, stride=None)
    side = tiling.stepping_sides()[0] + 4 * data.draw(st.integers(0, 6))
    with torch.no_grad():
        whole = inferer(image, net)
        part = inferer.region(read, shape, box, net, tile=[side, side])
    expected = whole[:, :, slice(*box[0]), slice(*box[1])]
    torch.testing.assert_close(part, expected, rtol=0, atol=1e-12 * float(whole.std()))
    assert len(seen) == 1  # for all views


@given(st.data(), TTA, st.sampled_from([2, 3]))
def test_views_find_boxes_where_they_show(data: Any, kind: Any, dims: int) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * dims))
    box = tuple(data.draw(ranges(n)) for n in shape)
    image = torch.arange(torch.Size(shape).numel()).reshape(1, 1, *shape)
    inside = image[(..., *(slice(*side) for side in box))]
    for view in views(kind, dims):
        found = view.find(box, shape)
        shown = view.apply(image)
        assert tuple(shown.shape[2:]) == view.shape(shape)
        part = shown[(..., *(slice(*side) for side in found))]
        assert torch.equal(part, view.apply(inside))
        assert view.find_back(found, shape) == box


@pytest.mark.parametrize("box", [((-5, 9),), ((2, 4),), ((3, 12),), ((-20, -15),)])
def test_a_mirrored_box_reads_only_what_shows(box: Any) -> None:
    line = torch.arange(5)[None, None]
    wide = torch.tensor([0, 1, 2, 3, 4, 3, 2, 1] * 8)  # the endless mirror, from -24
    asked: list[Any] = []

    def read(inner: Any) -> torch.Tensor:
        asked.extend(inner)
        return line[..., slice(*inner[0])]

    start, stop = box[0]
    expected = wide[start + 24 : stop + 24]
    pixels = Pixels.load(read, (5,), box, BORDERS["reflect"])
    assert torch.equal(pixels.window(0, box)[0], expected)
    assert asked == [(int(expected.min()), int(expected.max()) + 1)]
