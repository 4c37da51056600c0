"""OME-Zarr out, against zarr itself and loops over blocks of pixels."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.data import image_writer
from monai.transforms import LoadImage, SaveImage
from monai.transforms.io import array as monai_io

from unet_med.cli import predict
from unet_med.data import load_header, load_image, register, save_image
from unet_med.data.folder_files import image_files
from unet_med.data.formats import OME_ZARR, format_at, result_suffix
from unet_med.data.sources import open_source
from unet_med.data.zarr_writer import pyramid, write_ome_zarr

zarr = pytest.importorskip("zarr")

AFFINE = np.diag([0.5, 0.25, 2.0, 1.0])  # X, Y, Z


def pixels(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


@pytest.mark.parametrize("unit", ["um", "mm"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("shape", [(1, 20, 30), (3, 20, 30), (1, 9, 8, 7), (2, 9, 8, 7)])
def test_what_is_written_is_read(tmp_path, shape, dtype, unit):
    image = pixels(shape, dtype)
    save_image(tmp_path / "a.ome.zarr", image, AFFINE, unit)
    read = load_image(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(read.numpy(), image)
    axes = len(shape) - 1
    np.testing.assert_allclose(np.diag(read.affine)[:axes], np.diag(AFFINE)[:axes])
    assert (read.meta["spatial_unit"], read.meta["spacing_source"]) == (unit, "ngff")


@pytest.mark.parametrize("save", [save_image, write_ome_zarr])
def test_an_unknown_pixel_size_is_not_made_up(tmp_path, save):
    save(tmp_path / "a.zarr", pixels((1, 20, 30), "uint8"))
    assert load_image(tmp_path / "a.zarr").meta["spacing_source"] == "assumed"
    axes = zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["multiscales"][0]["axes"]
    assert axes == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_levels_pick_labels_and_average_images(tmp_path, dtype):
    image = pixels((2, 5, 1030), dtype)  # C, X, Y: levels of 1030, 515, 258 px
    save_image(tmp_path / "a.zarr", image, np.diag([0.5, 0.5, 1, 1]))
    group = zarr.open_group(tmp_path / "a.zarr")
    assert [group[str(level)].shape for level in range(3)] == [
        (2, 1030, 5), (2, 515, 3), (2, 258, 2),
    ]  # fmt: skip
    assert "3" not in group
    level = group["1"][:]
    for c, y, x in itertools.product(range(2), range(515), range(3)):
        covered = image[c, 2 * x : 2 * x + 2, 2 * y : 2 * y + 2]
        expected = covered.mean() if dtype == "float32" else covered[0, 0]
        assert level[c, y, x] == pytest.approx(expected, rel=1e-6)


def test_slices_of_a_thick_stack_stay(tmp_path):
    stack = pixels((1, 1100, 40, 6), "uint8")  # C, X, Y, Z at 1 x 1 x 4 um
    save_image(tmp_path / "a.zarr", stack, np.diag([1, 1, 4, 1]))
    group = zarr.open_group(tmp_path / "a.zarr")
    assert [group[str(level)].shape for level in range(3)] == [
        (6, 40, 1100), (6, 20, 550), (6, 10, 275),
    ]  # fmt: skip
    np.testing.assert_array_equal(group["2"][:], stack[0, ::4, ::4].T)


@given(
    st.lists(st.integers(1, 5000), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 20), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_levels_come_nearer_to_even_pixels(sides, spacing, along):
    levels = pyramid(sides, spacing, along)
    left = [[-(-n // f) for n, f in zip(sides, level, strict=True)] for level in levels]
    longest = [max((n for n, may in zip(x, along, strict=True) if may), default=0) for x in left]
    assert longest[-1] <= 512
    assert all(length > 512 for length in longest[:-1])
    for one, two in itertools.pairwise(levels):
        step = [b // a for a, b in zip(one, two, strict=True)]
        assert all(s == 1 or (s == 2 and may) for s, may in zip(step, along, strict=True))
        sizes = np.multiply(spacing, one)
        for k, j in itertools.product(range(3), repeat=2):
            if step[k] == 2 and along[j] and -(-sides[j] // one[j]) > 1:
                assert sizes[k] < 2 * sizes[j]


def test_metadata_is_ngff_0_5(tmp_path):
    save_image(tmp_path / "cells.ome.zarr", pixels((2, 40, 600), "float32"), AFFINE)
    group = zarr.open_group(tmp_path / "cells.ome.zarr")
    scale = {"type": "scale", "scale": [1.0, 0.25, 0.5]}
    finest = [  # Y is halved first: X is twice as coarse
        {"type": "scale", "scale": [1.0, 0.5, 0.5]},
        {"type": "translation", "translation": [0.0, 0.125, 0.0]},  # a mean lies between pixels
    ]
    assert group.metadata.zarr_format == 3
    assert group.attrs["ome"] == {
        "version": "0.5",
        "multiscales": [
            {
                "name": "cells",
                "axes": [
                    {"name": "c", "type": "channel"},
                    {"name": "y", "type": "space", "unit": "micrometer"},
                    {"name": "x", "type": "space", "unit": "micrometer"},
                ],
                "datasets": [
                    {"path": "0", "coordinateTransformations": [scale]},
                    {"path": "1", "coordinateTransformations": finest},
                ],
            }
        ],
    }
    assert group["0"].metadata.dimension_names == ("c", "y", "x")


def test_pixel_size_survives_every_format(tmp_path):
    image, source = pixels((1, 12, 10, 8), "uint16"), tmp_path / "a.tif"
    save_image(source, image, AFFINE)
    for name in ("b.nii.gz", "c.tif", "d.ome.zarr", "e.nii.gz"):
        read = load_image(source)
        source = save_image(tmp_path / name, read, read.affine, read.meta["spatial_unit"])
        np.testing.assert_array_equal(load_image(source).numpy(), image)
        np.testing.assert_allclose(load_image(source).affine, AFFINE, rtol=1e-6)
        assert load_image(source).meta["spatial_unit"] == "um"


def test_monais_saveimage_finds_the_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(monai_io, "SUPPORTED_READERS", dict(monai_io.SUPPORTED_READERS))
    monkeypatch.setattr(image_writer, "SUPPORTED_WRITERS", {})  # as in a fresh process
    register()
    image = pixels((1, 20, 30), "int16")
    read = LoadImage()(save_image(tmp_path / "a.zarr", image, AFFINE))  # no reader named
    options = {"separate_folder": False, "print_log": False, "output_dtype": None}
    SaveImage(tmp_path, output_ext=".ome.zarr", **options)(read[None])
    again = load_image(tmp_path / "a_trans.ome.zarr")
    np.testing.assert_array_equal(again.numpy(), image)
    assert again.meta["spatial_unit"] == "um"


def test_a_store_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    old, new = pixels((1, 20, 700), "uint8"), pixels((1, 20, 30), "uint8")
    path = save_image(tmp_path / "a.zarr", old)
    with monkeypatch.context() as patch:
        patch.setattr(zarr.Group, "create_array", full_disk)
        with pytest.raises(OSError, match=r"a\.zarr.*full"):
            save_image(path, new)
    np.testing.assert_array_equal(load_image(path).numpy(), old)
    save_image(path, new)
    np.testing.assert_array_equal(load_image(path).numpy(), new)
    assert not (path / "1").exists()  # of the larger one
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "the disk is full")


def test_a_folder_that_is_no_zarr_stays(tmp_path):
    path = Path(tmp_path / "a.zarr")
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    with pytest.raises(OSError, match=r"a\.zarr cannot be written"):
        save_image(path, pixels((1, 20, 30), "uint8"))
    assert (path / "thesis.txt").read_text() == "years of work"


def test_a_rotation_is_refused(tmp_path):
    turned = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match=r"which OME-Zarr cannot say; save as \.nii\.gz"):
        save_image(tmp_path / "a.zarr", pixels((1, 20, 30), "uint8"), turned)


def write_as_bioformats2raw(path, *images, version):
    """A folder of images `(T, C, Z, Y, X)`, as `bioformats2raw` has it (NGFF 0.4, "Bf2raw")."""
    said = {"bioformats2raw.layout": 3}
    root = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3)
    root.create_group("OME").attrs["series"] = [str(k) for k in range(len(images))]
    for k, pixels in enumerate(images):
        kinds = {"t": {"type": "time"}, "c": {"type": "channel"}}
        space = {"type": "space", "unit": "micrometer"}
        levels = [{"type": "scale", "scale": [1.0, 1.0, 2.0, 0.5, 0.25]}]
        image = {
            "axes": [{"name": n, **kinds.get(n, space)} for n in "tczyx"],
            "datasets": [{"path": "0", "coordinateTransformations": levels}],
        }
        group = root.create_group(str(k))
        group.create_array("0", data=pixels)
        own = {"multiscales": [{**image, "version": version}]}
        group.attrs.update(own if version == "0.4" else {"ome": {"version": version, **own}})
    root.attrs.update(said if version == "0.4" else {"ome": {"version": version, **said}})
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("name", ["cells", "cells.zarr"])
def test_what_bioformats2raw_writes_is_read(tmp_path, name, version):
    """Without a suffix, too: a folder is an OME-Zarr by what it holds, wherever that is asked."""
    pixels = np.arange(2 * 3 * 5 * 7, dtype=np.uint16).reshape(1, 2, 3, 5, 7)
    path = write_as_bioformats2raw(tmp_path / "images" / name, pixels, version=version)
    np.testing.assert_array_equal(load_image(path).numpy(), pixels[0].transpose(0, 3, 2, 1))
    assert load_header(path).pixel_size == (0.25, 0.5, 2.0)
    source = open_source(path)
    assert source.spacing == (2.0, 0.5, 0.25)
    np.testing.assert_array_equal(source.read([slice(1, 3), slice(5), slice(7)]), pixels[0, :, 1:3])
    assert image_files(path) == image_files(tmp_path / "images") == [path]
    assert result_suffix(path) == ".tif"
    assert format_at(path) is OME_ZARR
    assert predict._is_zarr(f"{path}/")  # so it goes block by block


def test_of_several_images_of_bioformats2raw_one_is_chosen(tmp_path):
    pixels = [np.full((1, 1, 1, 5, 7), k, np.uint8) for k in range(11)]
    path = write_as_bioformats2raw(tmp_path / "a", *pixels, version="0.4")
    with pytest.raises(ValueError, match=r"it holds 11 images .*; choose one with --series 0"):
        load_image(path)
    with pytest.raises(ValueError, match="series 11 is not among its 11 images"):
        load_image(path, series=11)
    assert load_image(path, series=10).unique().tolist() == [10]
    assert open_source(path, series=2).read([slice(1), slice(5), slice(7)]).max() == 2
    with pytest.raises(ValueError, match="--time 0 is for TIFF files"):
        load_image(path, time=0)


SCALE = {"type": "scale", "scale": [1.0, 0.5, 0.25]}
SHIFT = {"type": "translation", "translation": [0.0, 3.0, 4.0]}


def write_0_6(path, pixels, *levels, more=()):
    """An OME-Zarr 0.6 `(C, Y, X)`, as its specification has coordinate systems."""
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("s0", data=pixels)
    space = {"type": "space", "unit": "nanometer"}
    systems = [
        {"name": "world", "axes": [{"name": n, "type": "space", "unit": "meter"} for n in "czy"]},
        {
            "name": "physical",
            "axes": [
                {"name": "c", "type": "channel"},
                {"name": "y", **space},
                {"name": "x", **space},
            ],
        },
    ]
    places = {"input": {"path": "s0"}, "output": {"name": "physical"}}
    image = {
        "coordinateSystems": systems,
        "datasets": [
            {"path": "s0", "coordinateTransformations": [{**each, **places} for each in levels]}
        ],
        "coordinateTransformations": list(more),
    }
    group.attrs["ome"] = {"version": "0.6", "multiscales": [image]}
    return path


@pytest.mark.parametrize(
    ("level", "size"),
    [
        (SCALE, (0.00025, 0.0005)),
        ({"type": "sequence", "transformations": [SCALE, SHIFT]}, (0.00025, 0.0005)),
        ({"type": "identity"}, (0.001, 0.001)),
    ],
    ids=["scale", "sequence", "identity"],
)
def test_version_0_6_is_read(tmp_path, level, size):
    pixels = np.arange(2 * 5 * 7, dtype=np.uint16).reshape(2, 5, 7)
    to_world = {"type": "affine", "input": {"name": "physical"}, "output": {"name": "world"}}
    path = write_0_6(tmp_path / "a.ome.zarr", pixels, level, more=[to_world])
    image = load_image(path)
    np.testing.assert_array_equal(image.numpy(), pixels.transpose(0, 2, 1))
    header = load_header(path)
    assert header.pixel_size == pytest.approx(size)
    assert (header.spatial_unit, header.spacing_source) == ("um", "ngff")
    source = open_source(path)
    assert source.spacing == pytest.approx(size[::-1])
    np.testing.assert_array_equal(source.read([slice(1, 3), slice(2, 6)]), pixels[:, 1:3, 2:6])


def test_a_level_of_0_6_that_is_turned_is_refused(tmp_path):
    turned = {"type": "rotation", "rotation": [[1, 0, 0], [0, 0, 1], [0, -1, 0]]}
    path = write_0_6(tmp_path / "a.ome.zarr", np.zeros((1, 5, 7), np.uint8), turned)
    with pytest.raises(
        ValueError, match="level 0 is placed by a transformation of type 'rotation'"
    ):
        load_image(path)
