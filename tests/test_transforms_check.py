"""What comes in is looked at once, and said in one sentence."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from unet_med.transforms import CheckPaird, DropIgnoredd, SelectSliced, Standardize, Standardized
from unet_med.transforms.windowed import Box, Windowed

COLOURS = torch.arange(48.0).reshape(3, 4, 4)


def named(array: torch.Tensor, name: str = "folder/cell.tif") -> MetaTensor:
    return MetaTensor(array, meta={"filename_or_obj": name})


def test_plane_of_a_stack() -> None:
    volume = torch.arange(24.0).reshape(1, 2, 3, 4)
    item = SelectSliced(["image", "label"])({"image": volume, "label": volume + 1, "slice": 2})
    assert torch.equal(item["image"], volume[..., 2])
    assert torch.equal(item["label"], volume[..., 2] + 1)
    assert "slice" not in item


def test_a_plane_lies_where_it_lay_in_its_volume() -> None:
    affine = np.array([[0, 0, 3.0, 8], [0.5, 0, 0, 1], [0, -0.25, 0, 2], [0, 0, 0, 1]])
    volume = MetaTensor(torch.zeros(1, 4, 5, 6), affine=affine)
    plane = SelectSliced("image")({"image": volume, "slice": 4})["image"]
    np.testing.assert_array_equal(plane.affine.numpy() @ [1, 2, 0, 1], affine @ [1, 2, 4, 1])
    np.testing.assert_array_equal(volume.affine, affine)


def test_no_slice_no_change() -> None:
    volume = torch.zeros(1, 2, 3, 4)
    assert SelectSliced("image")({"image": volume})["image"] is volume


@pytest.mark.parametrize("shape", [(1, 4, 4, 2), (1, 4, 4)])
def test_plane_that_is_not_there(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"cell\.tif has shape .* no plane 2"):
        SelectSliced("image")({"image": named(torch.zeros(shape)), "slice": 2})


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (COLOURS, torch.zeros(1, 4, 4), r"\(RGB or RGBA\).*takes 1.*--channel 0$"),
        (torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 4), "3 spatial axes .* takes 2"),
        (torch.full((1, 4, 4), np.nan), torch.zeros(1, 4, 4), "NaN or infinite"),
        (torch.full((1, 4, 4), np.inf), torch.zeros(1, 4, 4), "NaN or infinite"),
        (torch.zeros(1, 4, 4), torch.zeros(1, 4, 5), r"\(4, 5\), its image cell\.tif \(4, 4\)"),
        (torch.zeros(1, 4, 4), torch.zeros(3, 4, 4), "3 channels, a label has one"),
        (torch.zeros(1, 4, 4), torch.full((1, 4, 4), np.nan), "label truth.tif holds NaN"),
    ],
)
def test_what_does_not_fit_is_named(image: Any, label: Any, message: str) -> None:
    item = {"image": named(image), "label": named(label, "truth.tif")}
    with pytest.raises(ValueError, match=message):
        CheckPaird(in_channels=1, spatial_dims=2)(item)


def test_a_volume_of_one_slice_is_a_plane_for_a_2d_network() -> None:
    volume = torch.arange(6.0).reshape(1, 2, 3, 1)
    item = SelectSliced(["image", "label"], spatial_dims=2)(
        {"image": volume, "label": volume[..., 0]}
    )
    for key in ("image", "label"):
        assert torch.equal(item[key], torch.arange(6.0).reshape(1, 2, 3))
    assert SelectSliced("image", spatial_dims=3)({"image": volume})["image"] is volume
    stack = torch.zeros(1, 2, 3, 2)
    assert SelectSliced("image", spatial_dims=2)({"image": stack})["image"] is stack


def test_slices_of_volumes_go_through_a_2d_network_and_planes_through_no_3d_one() -> None:
    plane, volume = named(torch.zeros(1, 4, 4)), named(torch.zeros(1, 4, 4, 4))
    for image in (plane, volume):
        CheckPaird(spatial_dims=2, slices=True)({"image": image})
    CheckPaird(spatial_dims=3, slices=True)({"image": volume})
    with pytest.raises(
        ValueError, match=r"cell\.tif has 2 spatial axes \(4, 4\), the network takes 3"
    ):
        CheckPaird(spatial_dims=3, slices=True)({"image": plane})


@pytest.mark.parametrize(
    ("channels", "taken", "way"),
    [(4, 1, " (in Fiji Image > Type > 8-bit)"), (4, 3, " (in Fiji Image > Type > RGB Color)"),
     (2, 1, " (in Fiji Image > Type > 8-bit)"), (5, 1, ""), (1, 3, "")],
)  # fmt: skip
def test_other_channels_are_refused_with_the_way_out(channels: int, taken: int, way: str) -> None:
    image = named(torch.zeros(channels, 4, 4))  # of four, all transparent
    said = f"the network takes {taken}: convert it{way}, or train with images like it"
    with pytest.raises(ValueError, match=re.escape(said)):
        CheckPaird(in_channels=taken)({"image": image})


GREY = " of equal colours, not opaque all over if the last is alpha"


@pytest.mark.parametrize(
    ("name", "blue", "kind", "hint"),
    [("a.png", 0, GREY, ", or take one with --channel 0"),
     ("a.tif", 1, "", ", or take one with --channel 0"),
     ("a.npy", 0, GREY, ""), ("a.nii.gz", 1, "", "")],
)  # fmt: skip
def test_one_channel_is_offered_where_the_reader_can_take_it(
    name: str, blue: int, kind: str, hint: str
) -> None:
    pixels = torch.arange(16.0).expand(4, 16).reshape(4, 4, 4).clone()
    pixels[2] += blue
    said = rf"\(RGB or RGBA\){kind}, the network takes 1: .*, or train with images like it{hint}$"
    with pytest.raises(ValueError, match=said):
        CheckPaird(in_channels=1)({"image": named(pixels, name)})


@pytest.mark.parametrize(("colours", "alpha"), [(3, None), (3, 255), (3, 65535), (1, 255)])
def test_grey_saved_in_colours_is_grey(colours: int, alpha: int | None) -> None:
    grey = torch.arange(16.0).reshape(1, 4, 4)
    opaque = [] if alpha is None else [torch.full((1, 4, 4), float(alpha))]
    image = MetaTensor(torch.cat([*[grey] * colours, *opaque]), affine=2 * torch.eye(4))
    checked = CheckPaird(in_channels=1)({"image": image})["image"]
    np.testing.assert_array_equal(checked, grey)
    np.testing.assert_array_equal(checked.affine, image.affine)
    seen = Windowed(lambda box: image[:, slice(*box[0])], len(image), (4, 4), torch.eye(4), {})
    window = CheckPaird(in_channels=1).by_window(seen, {})
    assert window.channels == 1
    np.testing.assert_array_equal(window.read(((1, 3), (0, 4))), grey[:, 1:3])


def test_colours_keep_their_channels_and_lose_an_opaque_alpha() -> None:
    opaque = torch.cat([COLOURS, torch.full((1, 4, 4), 255.0)])
    checked = CheckPaird(in_channels=3)({"image": opaque})["image"]
    np.testing.assert_array_equal(checked, COLOURS)
    opaque[3, 2, 2] = 254
    transparent = r"4 channels \(RGB or RGBA\), not opaque all over if the last is alpha, the netw"
    with pytest.raises(ValueError, match=transparent):
        CheckPaird(in_channels=3)({"image": opaque})
    seen = Windowed(lambda box: opaque[:, slice(*box[0])], 4, (4, 4), torch.eye(4), {})
    window = CheckPaird(in_channels=3).by_window(seen, {})
    np.testing.assert_array_equal(window.read(((0, 2), (0, 4))), COLOURS[:, :2])
    with pytest.raises(ValueError, match=transparent):
        window.read(((2, 3), (0, 4)))
    with pytest.raises(ValueError, match=r"4 channels \(RGB or RGBA\), the network takes 1"):
        CheckPaird(in_channels=1)({"image": opaque})  # nor are its colours equal
    first = COLOURS.clone()
    first[:, 0] = 0  # of which the first window is grey
    seen = Windowed(lambda box: first[:, slice(*box[0])], 3, (4, 4), torch.eye(4), {})
    window = CheckPaird(in_channels=1).by_window(seen, {})
    np.testing.assert_array_equal(window.read(((0, 1), (0, 4))), torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="has 3 channels"):
        window.read(((1, 2), (0, 4)))


def test_what_fits_passes_unchanged() -> None:
    item = {"image": named(torch.zeros(2, 4, 4)), "label": named(torch.zeros(1, 4, 4))}
    checked = CheckPaird(in_channels=2, spatial_dims=2)(item)
    assert checked["image"] is item["image"]
    assert CheckPaird(in_channels=2)({"image": item["image"]})["image"] is item["image"]


def test_ignored_pixels_become_background_on_both_sides() -> None:
    label = torch.tensor([[0, 1, 255, 2]])
    pred = torch.tensor([[1, 1, 2, 0]])
    item = DropIgnoredd(["pred", "label"])({"pred": pred, "label": label})
    assert item["pred"].tolist() == [[1, 1, 0, 0]]
    assert item["label"].tolist() == [[0, 1, 0, 2]]


@pytest.mark.gpu
def test_a_label_follows_a_prediction_that_the_gpu_had_no_room_for() -> None:
    label = torch.tensor([[0, 1, 255, 2]], device="cuda")
    item = DropIgnoredd(["pred", "label"])({"pred": torch.tensor([[1, 1, 2, 0]]), "label": label})
    assert {item[key].device.type for key in ("pred", "label")} == {"cpu"}
    assert item["pred"].tolist() == [[1, 1, 0, 0]]
    assert item["label"].tolist() == [[0, 1, 0, 2]]


def test_instance_255_is_no_ignore_label() -> None:
    item = DropIgnoredd(["label"], ignore=-1)({"label": torch.tensor([[255, -1]])})
    assert item["label"].tolist() == [[255, 0]]


@given(st.integers(0, 2**31))
def test_standardised_by_channel(seed: int) -> None:
    image = np.random.default_rng(seed).normal(5, 3, (2, 7, 5))
    result = Standardize()(torch.from_numpy(image)).numpy()
    for channel, expected in zip(result, image, strict=True):
        expected = (expected - expected.mean()) / expected.std()
        np.testing.assert_allclose(channel, expected, atol=1e-5)


def test_each_plane_of_a_stack_for_a_2d_network() -> None:
    stack = torch.stack([torch.rand(1, 6, 5), 100 * torch.rand(1, 6, 5)], dim=-1)
    result = Standardize(spatial_dims=2)(stack)
    for k in range(2):
        torch.testing.assert_close(result[..., k], Standardize()(stack[..., k]))


def test_windows_of_a_stack_have_the_statistics_of_their_planes() -> None:
    stack = torch.rand(1, 6, 5, 4) * torch.tensor([1.0, 100, 7, 0.1])
    rule = Standardize(spatial_dims=2)

    def read(box: Any) -> torch.Tensor:
        return stack[(..., *(slice(*side) for side in box))]

    image = Windowed(read, 1, (6, 5, 4), torch.eye(4), {})
    blocks = [((0, 6), (0, 5), (0, 1)), ((0, 4), (0, 5), (1, 4)), ((4, 6), (0, 5), (1, 4))]
    window = rule.by_window(image, rule.first_pass(image, blocks))
    for first, stop in ((1, 3), (3, 4)):
        expected = rule(stack)[:, 1:5, :, first:stop]
        found = window.read(((1, 5), (0, 5), (first, stop)))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_constant_image_becomes_zero_and_meta_stays() -> None:
    image = named(torch.full((1, 4, 4), 7, dtype=torch.uint8))
    result = Standardized("image")({"image": image})["image"]
    assert result.dtype == torch.float32
    assert torch.count_nonzero(result) == 0
    assert result.meta["filename_or_obj"] == "folder/cell.tif"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("value", "side"), [(255.0, 1000), (37.3, 700), (0.1, 300), (-1e-3, 333)])
def test_constant_images_become_zero_whole_and_by_window(
    value: float, side: int, dtype: torch.dtype
) -> None:
    """Their mean is off by a rounding, by which the deviation would then be, and 0 / 0 be 1."""
    pixels = torch.full((2, side, side), value, dtype=dtype)
    pixels[1] = torch.randint(2, (side, side))  # none is the mean
    rule = Standardize()
    assert torch.count_nonzero(rule(pixels)[0]) == 0
    assert torch.count_nonzero(rule(pixels)[1]) == side**2
    planes = torch.stack([pixels, pixels.flip(0)], dim=-1)  # another channel of each
    assert torch.count_nonzero(Standardize(2)(planes)) == 2 * side**2

    def read(box: Box) -> torch.Tensor:
        return pixels[(slice(None), *(slice(*part) for part in box))]

    image = Windowed(read, 2, (side, side), torch.eye(4), {})
    boxes = [((0, 7), (0, side)), ((7, side), (0, side))]
    window = rule.by_window(image, rule.first_pass(image, boxes)).read(boxes[1])
    torch.testing.assert_close(window.float(), rule(pixels)[:, 7:], rtol=0, atol=1e-5)
    assert torch.count_nonzero(window[0]) == 0


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("classes", [0, 2, 255, 3], "value 3: classes are 0 to 2, and 255 for ignored"),
        ("classes", [0, -1], "value -1: classes are 0 to 2"),
        ("classes", [0, 254], "value 254: "),
        ("mask", [0, 255, 128], "value 128: a mask has one value besides 0.*first one is 255"),
        ("instances", [0, 7, -2], "value -2: instances are 1, 2, ..., and -1"),
    ],
)
def test_values_that_a_label_cannot_hold(kind: str, values: list[int], said: str) -> None:
    check = CheckPaird(label_kind=kind, num_classes=3)
    label = named(torch.tensor([[values]]), "labels/bad.tif")
    with pytest.raises(ValueError, match=rf"label bad\.tif holds the {said}"):
        check({"image": torch.zeros(1, *label.shape[1:]), "label": label})


@pytest.mark.parametrize(
    ("kind", "values"),
    [("classes", [0, 1, 2, 255]), ("mask", [0, 7, 7]), ("mask", [0]), ("instances", [-1, 0, 900])],
)
def test_values_that_a_label_may_hold(kind: str, values: list[int]) -> None:
    label = torch.tensor([[values]])
    item = {"image": torch.zeros(1, *label.shape[1:]), "label": label}
    assert CheckPaird(label_kind=kind, num_classes=3)(item)["label"] is label


@pytest.mark.parametrize("kind", ["mask", "classes", "instances", None])
def test_masks_of_bool_are_labels(kind: str | None) -> None:
    mask = torch.tensor([[[False, True], [True, True]]])
    for label in (mask, mask.numpy()):
        item = {"image": torch.zeros(1, 2, 2), "label": label}
        CheckPaird(label_kind=kind, num_classes=2)(item)
        assert DropIgnoredd(["label"])(item)["label"].tolist() == mask.tolist()
