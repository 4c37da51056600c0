"""Pixels of the wanted size, at the same place in the world, and all the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, set_track_meta
from monai.transforms import Compose, Invertd
from skimage.transform import resize

from unet_med.data.array_writer import known_unit
from unet_med.data.plane_kind import planes_stated
from unet_med.transforms import ElementSize, ElementSized
from unet_med.transforms.windowed import Box, Windowed


def image_of(shape, sizes, *, channels: int = 1, **meta) -> MetaTensor:
    """Random image with the given pixel sizes, its first axis flipped, off the origin."""
    affine = torch.eye(4, dtype=torch.float64)
    for axis, size in enumerate(sizes):
        affine[axis, axis] = size if axis else -size
        affine[axis, 3] = 10.0 * axis - 3
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(channels, *shape, generator=generator)
    return MetaTensor(data, affine=affine, meta={"spatial_unit": "um", **meta})


def world(img: MetaTensor) -> np.ndarray:
    """World position of every pixel, `(d, *S)`."""
    dims = img.ndim - 1
    index = np.indices(img.shape[1:]).reshape(dims, -1)
    affine = img.affine.numpy()
    at = affine[:dims, :dims] @ index + affine[:dims, -1:]
    return at.reshape(dims, *img.shape[1:])


@st.composite
def resamplings(draw):
    dims = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(1, 12)) for _ in range(dims))
    old = tuple(draw(st.sampled_from([0.004, 0.1, 0.25, 1.0])) for _ in range(dims))
    ratios = tuple(draw(st.floats(0.3, 3.0)) for _ in range(dims))
    return shape, old, tuple(size * ratio for size, ratio in zip(old, ratios, strict=True))


@given(resamplings())
def test_values_are_scipys_at_the_new_pixels_places(case):
    shape, old, new = case
    img = image_of(shape, old)
    out = ElementSize(new, anti_aliasing=False)(img)
    dims = len(shape)
    if out.shape == img.shape:  # MONAI leaves the image where the grid hardly changes
        return
    affine = img.affine.numpy()
    inverse = np.linalg.inv(affine[:dims, :dims])
    at = np.tensordot(inverse, world(out) - affine[:dims, -1].reshape(-1, *[1] * dims), 1)
    at = np.clip(at, 0, np.array(shape).reshape(-1, *[1] * dims) - 1)  # the border repeats
    expected = warp_by_scipy_at(img[0].numpy(), at)
    np.testing.assert_allclose(out[0].numpy(), expected, atol=2e-4)


def warp_by_scipy_at(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    from scipy.ndimage import map_coordinates

    return map_coordinates(image.astype(float), at, order=1, mode="nearest")


@pytest.mark.parametrize(
    ("shape", "factors"), [((24, 36), (2, 3)), ((24, 30), (1, 5)), ((8, 12, 10), (2, 4, 1))]
)
def test_a_smaller_image_is_scikit_images(shape, factors):
    img = image_of(shape, [0.2] * len(shape), channels=2)
    out = ElementSize([0.2 * factor for factor in factors])(img)
    sides = [side // factor for side, factor in zip(shape, factors, strict=True)]
    for found, channel in zip(out.numpy(), img.numpy(), strict=True):
        expected = resize(channel, sides, order=1, mode="edge", anti_aliasing=True)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    size = ElementSize([0.2 * factor for factor in factors])
    assert size.inverse(size(img)).shape == img.shape


def test_fine_stripes_do_not_come_back_as_coarse_ones():
    rows = torch.arange(240) % 5 < 2  # period 5 px; new pixels of 4 px see a period of 20
    stripes = rows.float()[None, :, None].expand(1, 240, 16)
    img = MetaTensor(stripes, affine=torch.eye(4), meta={"spatial_unit": "um"})
    kept, aliased = (ElementSize(4.0, anti_aliasing=on)(img)[0, 3:-3] for on in (True, False))
    assert float(aliased.std()) > 0.3
    assert float(kept.std()) < 0.2 * float(aliased.std())


def test_what_grows_and_what_is_picked_is_not_smoothed():
    img = image_of((12, 16), (0.4, 0.4))
    for size, mode in ((0.3, "bilinear"), (1.2, "nearest")):
        plain = ElementSize(size, mode, anti_aliasing=False)(img)
        torch.testing.assert_close(ElementSize(size, mode)(img), plain, rtol=0, atol=0)


@given(resamplings())
def test_sides_pixel_size_and_centre(case):
    shape, old, new = case
    img = image_of(shape, old)
    out = ElementSize(new)(img)
    for axis, side in enumerate(shape):
        assert abs(out.shape[1 + axis] - max(1, side * old[axis] / new[axis])) <= 0.5
    if out.shape != img.shape:
        np.testing.assert_allclose(out.pixdim.numpy()[: len(new)], new, rtol=1e-6)
    centres = [world(x).reshape(len(shape), -1).mean(axis=1) for x in (img, out)]
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-6)


@given(resamplings())
def test_back_to_the_same_shape_and_affine(case):
    shape, old, new = case
    img = image_of(shape, old, channels=2)
    transform = ElementSize(new)
    back = transform.inverse(transform(img))
    assert back.shape == img.shape
    torch.testing.assert_close(back.affine, img.affine, rtol=0, atol=1e-9)
    assert back.applied_operations == []


def test_smooth_images_come_back():
    img = image_of((60, 50), (0.5, 0.5))
    x, y = world(img)
    img.copy_(torch.from_numpy(np.sin(x / 3) + np.cos(y / 2))[None])
    transform = ElementSize(0.4)
    back = transform.inverse(transform(img))
    torch.testing.assert_close(back[:, 3:-3, 3:-3], img[:, 3:-3, 3:-3], rtol=0, atol=0.02)


def test_pixels_of_four_nanometres_are_resampled():
    img = image_of((90, 90), (0.004, 0.004))  # MONAI's Spacing would do nothing
    out = ElementSize(0.0045)(img)
    assert out.shape == (1, 80, 80)
    np.testing.assert_allclose(out.pixdim.numpy(), [0.0045, 0.0045])


def test_labels_keep_values_and_dtype():
    img = image_of((30, 20), (0.5, 0.25))
    label = MetaTensor((img.as_tensor() * 9).to(torch.int32), affine=img.affine)
    transform = ElementSized(("image", "label"), 0.3, mode=("bilinear", "nearest"))
    out = transform({"image": img, "label": label})
    assert out["image"].shape == out["label"].shape == (1, 50, 17)
    assert out["label"].dtype == torch.int32
    assert set(out["label"].unique().tolist()) <= set(label.unique().tolist())
    torch.testing.assert_close(out["label"].affine, out["image"].affine)
    back = transform.inverse(out)
    assert back["label"].dtype == torch.int32
    assert back["label"].shape == label.shape
    assert (back["label"] == label).float().mean() > 0.5


def test_a_prediction_goes_back_through_invertd():
    img = image_of((31, 17, 9), (0.5, 0.25, 2.0))
    transform = Compose([ElementSized("image", (0.4, 0.4, 1.0))])
    data = transform({"image": img})
    data["pred"] = MetaTensor(torch.zeros(3, *data["image"].shape[1:]))
    out = Invertd("pred", transform, orig_keys="image", nearest_interp=False)(data)
    assert out["pred"].shape == (3, 31, 17, 9)
    torch.testing.assert_close(out["pred"].affine, img.affine)


def test_a_png_label_lies_on_its_images_grid():
    img = image_of((30, 20), (0.5, 0.5))
    label = MetaTensor((img.as_tensor() * 9).long(), meta={"spacing_source": "assumed"})
    transform = ElementSized(("image", "label"), 1.0, mode=("bilinear", "nearest"))
    out = transform({"image": img, "label": label})
    assert out["label"].shape == (1, 15, 10)
    torch.testing.assert_close(out["label"].affine, out["image"].affine)
    assert label.meta["spacing_source"] == "assumed"  # the caller's own is untouched


@pytest.mark.parametrize("source", ["nifti", None])
def test_a_label_has_the_unit_of_its_images_grid(source):
    """Millimetres of the image are millimetres of a label whose own file says micrometres."""
    img = image_of((30, 20), (0.5, 0.5), spatial_unit="mm")
    img.meta |= {} if source is None else {"spacing_source": source}
    label = MetaTensor(
        (img.as_tensor() * 9).long(), meta={"spacing_source": "assumed", "spatial_unit": "um"}
    )
    transform = ElementSized(("image", "label"), 1000, unit="um", mode=("bilinear", "nearest"))
    out = transform({"image": img, "label": label})
    for key in ("image", "label"):
        assert out[key].shape == (1, 15, 10)
        assert out[key].meta["spatial_unit"] == "mm"
        assert out[key].meta.get("spacing_source") == source
    assert (label.meta["spatial_unit"], label.affine[0, 0]) == ("um", 1)


@given(resamplings())
def test_a_factor_is_a_pixel_size_in_own_pixels(case):
    shape, old, new = case
    factors = [a / b for a, b in zip(old, new, strict=True)]
    img = image_of(shape, old, channels=2, spacing_source="assumed")
    transform = ElementSize(scale=factors)
    out = transform(img)
    img.meta.pop("spacing_source")
    same = ElementSize(new)(img)
    torch.testing.assert_close(out, same, rtol=0, atol=1e-5)
    torch.testing.assert_close(out.affine, same.affine, rtol=1e-9, atol=1e-9)
    assert transform.inverse(out).shape == img.shape


def test_a_factor_or_a_size():
    plain = torch.rand(1, 12, 8)
    assert ElementSize(scale=0.25)(plain).shape == (1, 3, 2)
    label = torch.ones(1, 12, 8, dtype=torch.int32)
    transform = ElementSized(("image", "label"), scale=(0.5, 1), mode=("bilinear", "nearest"))
    found = transform({"image": plain, "label": label})
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "image": (1, 6, 8),
        "label": (1, 6, 8),
    }
    for both in ({}, {"element_size": 1.0, "scale": 0.5}):
        with pytest.raises(ValueError, match="one of them says how large"):
            ElementSize(**both)
    with pytest.raises(ValueError, match=r"scale \(1.0, 0.0\) is not positive"):
        ElementSize(scale=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"scale .* has 3 values for 2 image axes"):
        ElementSize(scale=(1, 1, 1))(plain)


@pytest.mark.parametrize(
    ("sizes", "meta", "known"),
    [
        ((1.0, 1.0), {}, False),  # a MetaTensor of pixels alone
        ((0.5, 0.5), {}, True),  # an affine that somebody gave by hand
        ((1.0, 1.0), {"original_affine": np.eye(4)}, True),  # of MONAI's own readers
        ((1.0, 1.0), {"spatial_unit": "um"}, True),
        ((0.5, 0.5), {"spacing_source": "assumed", "spatial_unit": "um"}, False),
    ],
)
def test_what_states_a_pixel_size_states_it_to_all(sizes, meta, known):
    """To the transform, window by window, to writers, and to what tells planes from volumes."""
    affine = torch.diag(torch.tensor([*sizes, 1.0, 1.0], dtype=torch.float64))
    img = MetaTensor(torch.rand(1, 8, 6), affine=affine, meta=meta)
    window = Windowed(lambda box: img, 1, (8, 6), affine, meta)
    for way in (lambda: ElementSize(0.5)(img), lambda: ElementSize(0.5).by_window(window, {})):
        if known:
            assert tuple(way().shape)[-2:] == tuple(round(side * sizes[0] / 0.5) for side in (8, 6))
        else:
            with pytest.raises(ValueError, match="pixel size is unknown"):
                way()
    assert known_unit(img.meta) == (meta.get("spatial_unit") if known else None)
    assert planes_stated(img.meta) == ("joined" if known else "apart")


def test_unknown_pixel_size():
    img = image_of((30, 20), (1.0, 1.0), spacing_source="assumed")
    with pytest.raises(
        ValueError, match=r"is unknown.*give it to the reader.*save the file with it"
    ):
        ElementSize(0.5)(img)
    with pytest.raises(ValueError, match="pixel size is unknown"):
        ElementSize(0.5)(torch.rand(1, 8, 8))
    data = {"label": img, "image": image_of((9, 9), (1.0, 1.0))}
    with pytest.raises(ValueError, match="label: the pixel size is unknown"):
        ElementSized(("image", "label"), 0.5)(data)


@pytest.mark.parametrize("size", [0, -1.0, (1.0, 0.0), ()])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match="is not positive"):
        ElementSize(size)


@pytest.mark.parametrize(("unit", "own", "size"), [("um", "mm", 400.0), ("mm", "um", 4e-4)])
def test_the_size_has_a_unit_of_its_own(unit, own, size):
    img = image_of((40, 30), (0.2, 0.2))  # 200 um or 0.2 um
    img.meta["spatial_unit"] = own
    out = ElementSize(size, unit=unit)(img)
    assert out.shape == (1, 20, 15)
    np.testing.assert_allclose(out.pixdim.numpy(), [0.4, 0.4])
    img.meta["spatial_unit"] = None  # then it is that of the size
    assert ElementSize(0.4, unit=unit)(img).shape == (1, 20, 15)
    with pytest.raises(ValueError, match="unit 'nm' of element_size is not one of"):
        ElementSize(400, unit="nm")


def test_a_2d_network_leaves_the_third_axis():
    img = image_of((40, 30, 5), (0.2, 0.2, 3.0))
    for size in (0.4, (0.4, 0.4)):
        out = ElementSize(size, spatial_dims=2)(img)
        assert out.shape == (1, 20, 15, 5)
        np.testing.assert_allclose(out.pixdim.numpy(), [0.4, 0.4, 3.0])
    flat = ElementSize((0.4, 0.2), spatial_dims=2)(img[..., 0])
    assert flat.shape == (1, 20, 30)


def test_axes_must_fit_the_image():
    with pytest.raises(ValueError, match="has 3 values for 2 image axes"):
        ElementSize((1.0, 1.0, 1.0))(image_of((8, 8), (1.0, 1.0)))


def test_labels_that_monai_would_round():
    label = image_of((8, 8), (1.0, 1.0))
    label = MetaTensor(torch.full((1, 8, 8), 2**24 + 1), affine=label.affine)
    with pytest.raises(ValueError, match=r"label 16777217 exceeds 2\*\*24"):
        ElementSize(0.5, mode="nearest")(label)


def test_missing_keys():
    with pytest.raises(KeyError, match="image"):
        ElementSized("image", 1.0)({})
    assert ElementSized("image", 1.0, allow_missing_keys=True)({"other": 1}) == {"other": 1}


@pytest.mark.parametrize(
    "rows", [[2, 0, 1, 3], [0, 2, 1, 3], [1, 0, 2, 3]], ids=["ASR", "RSA", "ARS"]
)
@pytest.mark.parametrize("kwargs", [{"element_size": 1.5, "unit": "um"}, {"scale": 1 / 3}], ids=str)
def test_a_plane_that_stands_upright_is_resampled_as_one_that_lies(
    rows: list[int], kwargs: dict[str, object]
) -> None:
    lying = image_of((12, 15), (0.5, 0.5, 4.0))
    upright = lying.clone()
    upright.affine = lying.affine[rows]  # the same plane along other axes of the world
    label = (lying > 0.5).int()
    resize = ElementSized(["image", "label"], mode=["bilinear", "nearest"], **kwargs)
    items = []
    for image in (lying, upright):
        seen = label.clone()
        seen.affine = image.affine
        items.append(resize({"image": image, "label": seen}))
    for key in ("image", "label"):
        torch.testing.assert_close(items[1][key].as_tensor(), items[0][key].as_tensor())
    torch.testing.assert_close(items[1]["image"].affine, items[0]["image"].affine[rows])
    back = [resize.inverse(item) for item in items]
    torch.testing.assert_close(back[1]["image"].as_tensor(), back[0]["image"].as_tensor())
    torch.testing.assert_close(back[1]["image"].affine, upright.affine)


@pytest.mark.parametrize("rows", [[2, 0, 1, 3], [0, 2, 1, 3]], ids=["ASR", "RSA"])
def test_a_plane_that_stands_upright_is_resampled_window_by_window(rows: list[int]) -> None:
    upright = image_of((12, 15), (0.5, 0.5, 4.0))
    upright.affine = upright.affine[rows]
    resize = ElementSize(1.5, unit="um")
    whole = resize(upright)
    box = ((1, 3), (0, 4))

    def read(window: Box) -> torch.Tensor:
        return upright.as_tensor()[(..., *(slice(*side) for side in window))]

    image = Windowed(read, 1, (12, 15), upright.affine, upright.meta)
    found = resize.by_window(image, {})
    torch.testing.assert_close(found.affine, whole.affine)
    torch.testing.assert_close(found.read(box), whole.as_tensor()[:, 1:3, 0:4])
    back = resize.back_by_window(found, image, "bilinear")
    torch.testing.assert_close(back.affine, upright.affine)
    torch.testing.assert_close(
        back.read(((2, 9), (3, 15))), resize.inverse(whole).as_tensor()[:, 2:9, 3:15]
    )


@pytest.mark.parametrize("factor", [1.3, 1.45, 2.0, 3.4])
def test_a_window_of_a_smaller_image_is_smoothed_as_the_whole(factor: float) -> None:
    """It reads as far beyond its own pixels as the Gaussian reaches."""
    img = image_of((44, 37), (0.5, 0.5), channels=2)
    resize = ElementSize(0.5 * factor)
    whole = resize(img)

    def read(window: Box) -> torch.Tensor:
        return img.as_tensor()[(..., *(slice(*side) for side in window))]

    found = resize.by_window(Windowed(read, 2, (44, 37), img.affine, img.meta), {})
    assert found.shape == whole.shape[1:]
    box = tuple((side // 3, side // 3 + 3) for side in found.shape)
    expected = whole.as_tensor()[(..., *(slice(*side) for side in box))]
    torch.testing.assert_close(found.read(box), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("by", ["whole", "window"])
def test_a_pixel_size_that_is_hardly_true_is_refused(by):
    """mm for um at 0.5 um: a plane of 64 px would have 64,000 a side."""
    sizer = ElementSize(0.5, unit="um", spatial_dims=2)

    def bring(size: float, unit: str = "um", **meta):
        img = image_of((64, 64), (size, size), spatial_unit=unit, **meta)
        if by == "whole":
            return tuple(sizer(img).shape[1:])
        return sizer.by_window(Windowed(None, 1, (64, 64), img.affine, img.meta), None).shape

    for size, unit in ((4.1, "um"), (500.0, "um"), (0.5, "mm"), (254.0, "um"), (0.0019, "um")):
        with pytest.raises(
            ValueError, match=rf"pixels of {size:g} x {size:g} {unit}, which are to"
        ):
            bring(size, unit)
    assert bring(3.9) == (499, 499)
    assert bring(0.0005, "mm") == (64, 64)
    assert bring(0.02) == (3, 3)  # large objects: a plan makes pixels up to 32 times as large
    img = image_of((64, 64), (500.0, 500.0))
    assert ElementSize(scale=0.5)(img).shape == (1, 32, 32)  # a factor asks no file
    with pytest.raises(ValueError, match="label: the file says pixels of 500 x 500 um"):
        ElementSized("label", 0.5, mode="nearest")({"label": img})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_a_factor_takes_labels_without_metadata(dtype) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (1, 12, 9))
    step = ElementSized("label", scale=0.5, mode="nearest")
    expected = step({"label": torch.from_numpy(labels)})["label"]
    for label in (labels.astype(dtype), torch.from_numpy(labels.astype(dtype))):
        assert torch.equal(step({"label": label})["label"].long(), expected)


@pytest.mark.parametrize("scale", [0.5, 2.0])
@pytest.mark.parametrize("kind", ["tensor", "unsaid", "said"])
def test_where_metadata_are_not_tracked_pixels_are_the_same(scale: float, kind: str) -> None:
    img = image_of((12, 10), (0.5, 0.5), spacing_source="nifti" if kind == "said" else "assumed")
    image = img.as_tensor() if kind == "tensor" else img
    item = {"image": image, "label": (image > 0.5).int()}
    resample = ElementSized(["image", "label"], scale=scale, mode=["bilinear", "nearest"])
    expected = resample(item)
    set_track_meta(False)
    try:
        found = resample(item)
    finally:
        set_track_meta(True)
    for key, image in found.items():
        assert type(image) is torch.Tensor
        torch.testing.assert_close(image, expected[key].as_tensor(), rtol=0, atol=0)


def test_places_of_pixels_are_not_rounded_in_an_autocast() -> None:
    image = MetaTensor(torch.rand(1, 200, 150, generator=torch.Generator().manual_seed(0)))
    step = ElementSize(scale=0.4)
    free = step(image)
    back = step.inverse(free)
    with torch.autocast("cpu", torch.bfloat16):
        held = step(image)
        assert torch.equal(held, free)
        assert torch.equal(step.inverse(held), back)


def test_a_mask_of_bool_is_resampled_as_one_of_numbers() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (1, 12, 9))
    step = ElementSized("label", scale=0.5, mode="nearest")
    expected = step({"label": torch.from_numpy(mask)})
    found = step({"label": torch.from_numpy(mask.astype(bool))})
    assert found["label"].dtype == torch.bool
    assert torch.equal(found["label"].long(), expected["label"])
    assert torch.equal(step.inverse(found)["label"].long(), step.inverse(expected)["label"])


@pytest.mark.parametrize("name", ["scale", "element_size"])
def test_numbers_of_numpy_and_torch_are_those_of_python(name: str) -> None:
    given = [0.5, 2.0]
    for like in (np.array(given), torch.tensor(given), tuple(map(np.float64, given))):
        assert getattr(ElementSize(**{name: like}), name) == tuple(given)
    assert getattr(ElementSize(**{name: np.float64(0.5)}), name) == (0.5,)
