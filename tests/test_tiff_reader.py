"""TIFF: every dialect equal to tifffile's array by axis letter, or one sentence of refusal."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import re
import resource
import tracemalloc
import zlib
from concurrent.futures import ProcessPoolExecutor
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch
from hostile import fifo, jpeg, ome, shared_table, tags, tiff, tile, written
from hypothesis import given
from monai.transforms import LoadImage, SaveImage, Spacing
from oracles import by_letter
from strategies import images_with_spacing

from unet_med.data import (
    AutoReader,
    LabelReader,
    TiffReader,
    find_images,
    load_header,
    load_image,
)
from unet_med.data.pixel_size import unit_um
from unet_med.data.sources import open_source
from unet_med.data.tiff_axes import arrange
from unet_med.data.tiff_writer import write_tiff
from unet_med.transforms import ElementSize

GREY = {"photometric": "minisblack"}
OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def load(path, **options):
    reader = TiffReader(**options)
    return reader.get_data(reader.read(str(path)))


def sizes(meta):
    return torch.diag(meta["affine"])[:3].tolist()


@pytest.fixture
def stack(rng):
    return rng.integers(0, 4000, (4, 6, 5)).astype(np.uint16)  # Z, Y, X


# --- axes


@pytest.mark.parametrize("axes", ["YX", "YXS", "SYX", "CYX", "ZYX", "ZCYX", "CZYX", "IYX", "QSYX"])
def test_every_sample_lands_on_its_letters(axes, rng):
    size = {"C": 2, "S": 3, "Z": 4, "I": 4, "Q": 4, "Y": 5, "X": 6}
    array = rng.random([size[letter] for letter in axes])
    ours, has_channels = arrange(array, axes)
    letters = ("C" if has_channels else "") + ("XYZ" if ours.ndim - has_channels == 3 else "XY")
    for place in itertools.product(*map(range, ours.shape)):
        index = dict(zip(letters, place, strict=True))
        index |= {"S": index.get("C", 0), "I": index.get("Z", 0), "Q": index.get("Z", 0)}
        assert ours[place] == by_letter(array, axes, index)


def test_selecting_takes_one_index():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    ours, _ = arrange(array, "TZYX", {"T": 1})
    np.testing.assert_array_equal(ours, array[1].transpose(2, 1, 0))
    with pytest.raises(ValueError, match=r"index 2 along 'T' is not in axes TZYX"):
        arrange(array, "TZYX", {"T": 2})
    with pytest.raises(ValueError, match="index 1 along 'Z' is not in axes TYX"):
        arrange(array[0], "TYX", {"Z": 1})
    ours, _ = arrange(array[0, 0], "YX", {"T": 0})  # tifffile lists no axis of length 1
    np.testing.assert_array_equal(ours, array[0, 0].T)


def test_one_channel_alone_is_no_channel_axis():
    array = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    for axes, samples in (("YXS", array), ("CYX", np.moveaxis(array, 2, 0))):
        ours, has_channels = arrange(samples, axes, {"C": 1})
        np.testing.assert_array_equal(ours, array[..., 1].T)
        assert not has_channels
    with pytest.raises(ValueError, match="index 3 along 'C' is not in axes YXS"):
        arrange(array, "YXS", {"C": 3})


@pytest.mark.parametrize(
    ("axes", "option"),
    [("TYX", "--time 0, or all as planes with --axes ZYX, to train with --dims 2 too"),
     ("TCZYX", "--time 0"), ("CYXS", "--channel 0"),
     ("TCYX", "--time 0, or all as planes with --axes ZCYX, to train with --dims 2 too")],
)  # fmt: skip
def test_axes_that_are_neither_channel_nor_space_are_refused(axes, option):
    with pytest.raises(ValueError, match=rf"axes {axes} .*take one of . with {re.escape(option)}$"):
        arrange(np.zeros([2] * len(axes)), axes)


@pytest.mark.parametrize("axes", ["IZYX", "HYX"])
def test_axes_without_an_option_are_for_a_file_of_their_own(axes):
    with pytest.raises(ValueError, match=rf"axes {axes} .*save one of {axes[0]} in a file of"):
        arrange(np.zeros([2] * len(axes)), axes)


@pytest.mark.parametrize("axes", ["QQYX", "CY", "X"])
def test_axes_that_no_choice_resolves_are_refused(axes):
    with pytest.raises(ValueError, match=rf"axes {axes} .*save it with named axes"):
        arrange(np.zeros([2] * len(axes)), axes)


# --- bytes and bits


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [*np.typecodes["AllInteger"], *"efd?"])
def test_every_dtype_and_byte_order_keeps_its_bits(tmp_path, rng, byteorder, dtype):
    array = rng.integers(0, 2, (7, 9)).astype(dtype) * np.array(1, dtype)
    array.flat[0] = np.iinfo(dtype).max if array.dtype.kind in "ui" else 1
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, bigtiff=byteorder == ">")
    ours, meta = load(tmp_path / "a.tif")
    np.testing.assert_array_equal(ours, array.T)
    assert ours.dtype == array.dtype
    assert ours.dtype.isnative
    assert meta["spatial_shape"] == [9, 7]


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd", "jpeg2000"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"rowsperstrip": 2}])
def test_codecs_and_layouts(tmp_path, stack, compression, layout):
    tifffile.imwrite(tmp_path / "a.tif", stack, compression=compression, **GREY, **layout)
    np.testing.assert_array_equal(load(tmp_path / "a.tif")[0], stack.transpose(2, 1, 0))


def test_big_endian_imagej_stack_with_its_voxel(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, byteorder=">", resolution=(4, 2),
        metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"},
    )  # fmt: skip
    ours, meta = load(tmp_path / "a.tif")
    np.testing.assert_array_equal(ours, stack.transpose(2, 1, 0))
    assert sizes(meta) == [0.25, 0.5, 1.5]
    assert (meta["spatial_unit"], meta["spacing_source"]) == ("um", "imagej")


def test_imagej_sizes_are_all_in_its_unit(tmp_path, stack):
    metadata = {"axes": "ZYX", "spacing": -1500.0, "unit": "nm"}  # Fiji writes minus at times
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(0.004, 0.002), metadata=metadata
    )
    assert sizes(load(tmp_path / "a.tif")[1]) == pytest.approx([0.25, 0.5, 1.5])


@pytest.mark.parametrize(
    ("units", "expected", "unknown"),
    [
        ({"unit": "um", "zunit": "nm"}, [0.25, 0.5, 1.5], []),
        ({"unit": "nm", "yunit": "um", "zunit": "micron"}, [0.00025, 0.5, 1500], []),
        ({"unit": "um", "zunit": "pixel"}, [0.25, 0.5, 1], ["z"]),
        ({"unit": "um", "yunit": "pixel"}, [1, 1, 1], []),  # none is known
    ],
)
def test_imagej_has_a_unit_for_each_axis(tmp_path, stack, units, expected, unknown):
    """`ij.io.FileSaver` writes those of y and z where they are not that of x."""
    metadata = {"axes": "ZYX", "spacing": 1500.0, **units}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(4, 2), metadata=metadata)
    _, meta = load(tmp_path / "a.tif")
    assert sizes(meta) == pytest.approx(expected)
    assert list(meta.get("unknown_axes", [])) == unknown


@pytest.mark.parametrize(("unit", "um"), [("um", 1.0), ("nm", 1e-3)])
def test_imagej_writes_no_depth_of_one_unit(tmp_path, stack, unit, um):
    """`ij.io.FileSaver`: `if (fi.pixelDepth!=1.0) sb.append("spacing="+fi.pixelDepth)`."""
    metadata = {"axes": "ZYX", "unit": unit}
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(4 * um, 2 * um), metadata=metadata
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert "spacing" not in tif.imagej_metadata
    _, meta = load(tmp_path / "a.tif")
    assert sizes(meta) == pytest.approx([0.25, 0.5, um])
    assert meta["spacing_source"] == "imagej"


def test_rgb_channels_come_first(tmp_path, rng):
    array = rng.integers(0, 60000, (6, 5, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    ours, meta = load(tmp_path / "a.tif")
    np.testing.assert_array_equal(ours, array.transpose(2, 1, 0))
    assert meta["original_channel_dim"] == 0


def test_pyramid_gives_its_full_resolution(tmp_path, rng):
    array = rng.integers(0, 255, (64, 48)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(array, subifds=1, metadata={"axes": "YX"})
        tif.write(array[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(load(tmp_path / "a.ome.tif")[0], array.T)


# --- pixel size


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("µm", 1), ("μm", 1), ("nm", 1e-3), ("mm", 1e3), ("\\u00B5m", 1), ("Micron", 1),
     ("inch", 25400), ("pixel", None), ("reference frame", None), ("", None), (None, None)],
)  # fmt: skip
def test_units(unit, factor):
    assert unit_um(unit) == factor


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [((1e4, 2e4), 3, [1.0, 0.5]), ((25400, 25400), 2, [1.0, 1.0]), ((72, 72), 2, None),
     ((96, 96), 2, None), ((300, 300), 2, None), ((118.11, 118.11), 3, None), ((1, 1), 3, None),
     ((1e4, 1e4), 1, None), ((0, 0), 3, None),
     *(((dpi, dpi), 2, None) for dpi in (100, 120, 144, 150, 200, 240, 400, 600, 1200, 2400)),
     *(((dpi / 2.54, dpi / 2.54), 3, None) for dpi in (100, 150, 200, 600, 1200)),
     *(((n, n), 3, [1e4 / n, 1e4 / n]) for n in (200, 400, 500, 1000, 2000, 4000, 15384.6)),
     ((2540, 2540), 2, [10.0, 10.0]), ((508, 508), 2, [50.0, 50.0])],
)  # fmt: skip
def test_resolution_tags(tmp_path, resolution, unit, expected):
    array = np.zeros((4, 5), np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", array, resolution=resolution, resolutionunit=unit, metadata=None
    )
    _, meta = load(tmp_path / "a.tif")
    assert sizes(meta) == pytest.approx([*(expected or [1.0, 1.0]), 1.0])
    assert meta["spacing_source"] == ("resolution" if expected else "assumed")


@pytest.mark.parametrize(("unit", "kept"), [("inch", False), ("um", True), ("mm", True)])
def test_imagej_keeps_its_units_but_not_a_printers(tmp_path, stack, unit, kept):
    """Fiji opens a picture of 150 dots an inch, and writes the inch; 150 px a mm is a size."""
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 2.0}
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(150, 150), metadata=metadata
    )
    _, meta = load(tmp_path / "a.tif")
    assert meta["spacing_source"] == ("imagej" if kept else "assumed")
    um = {"um": 1.0, "mm": 1e3, "inch": 150.0}[unit]
    assert sizes(meta)[0] == pytest.approx(um / 150)


def test_a_missing_z_size_is_said(tmp_path, stack):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
    metadata |= {"PhysicalSizeY": 0.5}  # micrometres by the schema
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=metadata, **GREY)
    _, meta = load(tmp_path / "a.ome.tif")
    assert sizes(meta) == [0.25, 0.5, 1.0]
    assert (meta["spacing_source"], meta["unknown_axes"]) == ("assumed", "z")
    image = LoadImage(TiffReader, ensure_channel_first=True)(tmp_path / "a.ome.tif")
    with pytest.raises(ValueError, match=r"the pixel size is unknown along z, so .* to \(0.5,\)"):
        ElementSize(0.5)(image)
    assert AutoReader(pixel_size=(0.25, 0.5, 2)).open(tmp_path / "a.ome.tif").unknown_axes == ""


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected", "source"),
    [
        ("xyz_8bit__mitotic_plate_calibrated", (1 / 11.737581, 1 / 11.737581, 3.0), "imagej"),
        ("xyz_8bit__chromosomes", (1 / 29.53846, 1 / 29.53846, 0.15), "imagej"),
        ("xy_8bit__mitocheck_incenp_t1", (0.1, 0.1, 1.0), "imagej"),
        ("xyc_16bit__nup_nuclei", (1.0, 1.0, 1.0), "assumed"),
    ],
)
def test_pixel_sizes_of_real_files(shared, name, expected, source):
    _, meta = load(shared / "data" / "neubias" / f"{name}.tif")
    assert sizes(meta) == pytest.approx(expected, rel=1e-6)
    assert meta["spacing_source"] == source


# --- refusals


def refused(path, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        load(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_time_and_several_images_need_a_choice(tmp_path, stack):
    tifffile.imwrite(tmp_path / "t.tif", stack, imagej=True, metadata={"axes": "TYX"})
    refused(tmp_path / "t.tif", r"take one of T with --time 0")
    for choice in ({"time": 2}, {"select": {"T": 2}}):
        np.testing.assert_array_equal(load(tmp_path / "t.tif", **choice)[0], stack[2].T)
    np.testing.assert_array_equal(load_image(tmp_path / "t.tif", time=2)[0], stack[2].T)
    with tifffile.TiffWriter(tmp_path / "s.tif") as tif:
        tif.write(stack[0])
        tif.write(stack[1, :3])
    refused(tmp_path / "s.tif", r"holds 2 images .*choose one with --series 0")
    np.testing.assert_array_equal(load(tmp_path / "s.tif", series=1)[0], stack[1, :3].T)
    refused(tmp_path / "s.tif", "series 2 is not among its 2 images", series=2)


@pytest.mark.parametrize("name", ["../secret.tif", "neighbour.tif"])
def test_ome_xml_must_not_name_other_files(tmp_path, stack, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    tifffile.imwrite(folder / name, stack[1], metadata=None)
    write_tiff(folder / "a.tif", stack[:2].T[None])
    other = f'<UUID FileName="{name}">urn:uuid:00000000-0000-0000-0000-000000000001</UUID>'
    planes = '<TiffData IFD="0" PlaneCount="1"/>'
    planes += f'<TiffData FirstZ="1" IFD="0" PlaneCount="1">{other}</TiffData>'
    xml = tifffile.tiffcomment(folder / "a.tif")
    assert '<TiffData IFD="0" PlaneCount="2"/>' in xml
    xml = xml.replace('<TiffData IFD="0" PlaneCount="2"/>', planes)
    tifffile.tiffcomment(folder / "a.tif", xml)
    refused(folder / "a.tif", "refers to another file")
    if name.startswith(".."):
        refused(folder / "a.tif", "outside its folder", allow_multifile=True)
    else:
        ours, _ = load(folder / "a.tif", allow_multifile=True)
        np.testing.assert_array_equal(ours, stack[:2].T)
        tifffile.tiffcomment(folder / "a.tif", xml.replace(planes[:34], ""))
        refused(folder / "a.tif", "none of its planes", allow_multifile=True)


def pair(folder, second):
    """A sound first file, whose second plane is in the file `second` wrote."""
    named = '<TiffData IFD="0"/><TiffData FirstZ="1" IFD="0" PlaneCount="1">'
    named += '<UUID FileName="second.tif">urn:uuid:1</UUID></TiffData>'
    two = ome('SizeX="16" SizeY="16" SizeZ="2" SizeC="1" SizeT="1"', inside=named)
    (folder / "first.tif").write_bytes(tiff([tags(description=two)]))
    second(folder / "second.tif")
    return folder / "first.tif"


SECOND_FILES = {
    "loop": (written(tiff([tags()] * 300, loop_to=120)), "second.tif.*chain of images is a loop"),
    "shared": (written(shared_table(10, 100_000)), "second.tif.*its tags name"),
    "many": (written(tiff([tags(sub=[8] * 70_000)])), "second.tif.*more than 65536 images"),
    "tile": (written(tile(8, zlib.compress(bytes(256)), tile_width=1 << 17, tile_length=1 << 17)),
             "GB once decoded"),
    "jpeg": (written(tile(7, jpeg(65500, 65500))), "holds an image of 4290250000 px"),
    "shape": (written(tiff([tags(width=1 << 15, length=1 << 15, rows=1 << 15)])), "has shape"),
    "cut": (written(tiff([tags()])[:-9]), "damaged|plane 1 of 2 is missing"),
    "short": (written(tiff([tags(offsets=1 << 16)])), "plane 1 ends beyond the end of the file"),
    "fifo": (fifo, "'second.tif', which is no regular file"),
    "missing": (lambda path: None, "plane 1 of 2 is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", SECOND_FILES)
def test_other_files_of_a_data_set_are_checked_like_the_first(tmp_path, name):
    second, match = SECOND_FILES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNET_MED_MAX_BYTES", "1G")
        refused(pair(tmp_path, second), match, allow_multifile=True)


def test_a_sound_second_file(tmp_path):
    ours, _ = load(pair(tmp_path, written(tiff([tags()], data=bytes(range(256))))),
                   allow_multifile=True)  # fmt: skip
    assert ours.shape == (16, 16, 2)
    np.testing.assert_array_equal(ours[..., 1].T.ravel(), np.arange(256))


def test_a_renamed_file_knows_itself_by_its_uuid(tmp_path, stack):
    write_tiff(tmp_path / "new.tif", stack.T[None])
    xml = tifffile.tiffcomment(tmp_path / "new.tif")
    own = ElementTree.fromstring(xml).get("UUID")
    data = f'<TiffData IFD="0" PlaneCount="4"><UUID FileName="old.tif">{own}</UUID></TiffData>'
    tifffile.tiffcomment(
        tmp_path / "new.tif", xml.replace('<TiffData IFD="0" PlaneCount="4"/>', data)
    )
    np.testing.assert_array_equal(load(tmp_path / "new.tif")[0], stack.T)


def test_planes_that_ome_promises_must_be_there(tmp_path, stack):
    write_tiff(tmp_path / "a.tif", stack.T[None])
    xml = tifffile.tiffcomment(tmp_path / "a.tif").replace('SizeZ="4"', 'SizeZ="9"')
    tifffile.tiffcomment(tmp_path / "a.tif", xml)
    refused(tmp_path / "a.tif", "plane 4 of 9 is missing")


@pytest.mark.parametrize(
    "options",
    [GREY, {"compression": "lzw", **GREY}, {"tile": (16, 16), "compression": "zlib", **GREY},
     {"imagej": True, "metadata": {"axes": "ZYX"}}, {"metadata": None, **GREY},
     {"compression": "packbits", "rowsperstrip": 2, **GREY}],
)  # fmt: skip
def test_a_truncated_file_is_never_half_an_image(tmp_path, stack, rng, options):
    tifffile.imwrite(tmp_path / "whole.tif", stack, **options)
    content = (tmp_path / "whole.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "whole.tif") as tif:
        ends = [sum(end) for page in tif.pages for end in zip(*_data(page), strict=True)]
    pixels = max(ends)  # bytes up to the last one that holds any
    part = tmp_path / "part.tif"
    for length in {0, 3, 8, len(content) - 1, *rng.integers(9, len(content), 12).tolist()}:
        part.write_bytes(content[:length])
        if length < pixels:
            refused(part, "as TIFF")
            continue
        with contextlib.suppress(ValueError):  # what is behind the pixels may be needed or not
            np.testing.assert_array_equal(load(part)[0], stack.transpose(2, 1, 0))


def _data(page):
    return page.dataoffsets, page.databytecounts


def test_a_damaged_page_chain_is_refused_before_decoding(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata=None, **GREY)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        first, second = tif.pages[0].offset, tif.pages[1].offset
    content = (tmp_path / "a.tif").read_bytes()
    loop = content.replace(second.to_bytes(4, "little"), first.to_bytes(4, "little"))
    (tmp_path / "a.tif").write_bytes(loop)
    refused(tmp_path / "a.tif", "its chain of images is a loop: back to byte 8", max_bytes=1)


@pytest.mark.parametrize("compression", ["jpeg", "jpegxr"])
def test_a_truncated_strip_is_refused_where_its_codec_would_not(tmp_path, rng, compression):
    path = tmp_path / "a.tif"
    array = rng.integers(0, 255, (64, 64)).astype(np.uint8)
    tifffile.imwrite(path, array, compression=compression, metadata=None, **GREY)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        middle = page.dataoffsets[0] + page.databytecounts[0] // 2
    path.write_bytes(path.read_bytes()[:middle])
    refused(path, "truncated: plane 0 ends beyond the end of the file")


def test_a_strip_that_decodes_short_is_refused(tmp_path, rng):
    import imagecodecs

    array = rng.integers(1, 200, (32, 50)).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, compression="lzw", rowsperstrip=8)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        where, field = page.dataoffsets[1], page.tags["StripByteCounts"].valueoffset + 2
    short = imagecodecs.lzw_encode(array[8:12].tobytes())
    content = bytearray(path.read_bytes())
    content[where : where + len(short)] = short
    content[field : field + 2] = len(short).to_bytes(2, "little")
    path.write_bytes(content)
    refused(path, "corrupted strip")


def test_a_strip_without_data_is_refused(tmp_path):
    tiles = iter([np.ones((16, 16), np.uint8), None, None, None])
    tifffile.imwrite(
        tmp_path / "a.tif", tiles, shape=(32, 32), dtype="uint8", tile=(16, 16), compression="zlib"
    )
    refused(tmp_path / "a.tif", "without data")


def test_declared_bytes_are_compared_before_decoding(tmp_path, monkeypatch):
    array = np.zeros((2000, 2000), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, compression="zlib")
    assert (tmp_path / "a.tif").stat().st_size < 100_000
    refused(tmp_path / "a.tif", "declares 0.004 GB", max_bytes=1_000_000)
    monkeypatch.setenv("UNET_MED_MAX_BYTES", "1000")
    refused(tmp_path / "a.tif", "UNET_MED_MAX_BYTES")
    tifffile.imwrite(tmp_path / "b.tif", array[:16, :16], tile=(1024, 1024), compression="zlib")
    refused(tmp_path / "b.tif", "declares 0.00105 GB", max_bytes=1_000_000)


def test_complex_samples_and_other_files_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    refused(tmp_path / "a.tif", "samples are complex64")
    (tmp_path / "b.tif").write_text("not a TIFF")
    refused(tmp_path / "b.tif", "as TIFF")
    with pytest.raises(FileNotFoundError, match=r"c\.tif does not exist"):
        load(tmp_path / "c.tif")


def test_a_broken_private_tag_does_not_matter(tmp_path, stack):
    tifffile.imwrite(tmp_path / "a.tif", stack[0], extratags=[(65000, 4, 1, 7, True)])
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        tag = tif.pages[0].tags[65000]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[tag.offset + 2 : tag.offset + 4] = (99).to_bytes(2, "little")  # no such data type
    (tmp_path / "a.tif").write_bytes(content)
    np.testing.assert_array_equal(load(tmp_path / "a.tif")[0], stack[0].T)


# --- writing


@given(images_with_spacing())
def test_round_trip_keeps_bits_dtype_and_pixel_size(tmp_path_factory, case):
    array, spacing = case
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    write_tiff(path, array, np.diag([*spacing, 1.0]))
    ours, meta = load(path)
    np.testing.assert_array_equal(ours.reshape(array.shape), array)
    assert ours.dtype == array.dtype
    assert sizes(meta) == [*spacing, 1.0][:3]
    assert (meta["spatial_unit"], meta["spacing_source"]) == ("um", "ome")


def test_what_other_programs_read(tmp_path, rng):
    array = rng.random((2, 5, 6, 3)).astype(np.float32)  # C, X, Y, Z
    write_tiff(
        tmp_path / "a.tif", array, np.diag([0.25, 0.5, 2, 1]), channel_names=("cell", "membrane")
    )
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_ome
        assert not tif.is_bigtiff
        assert tif.series[0].axes == "CZYX"
        np.testing.assert_array_equal(tif.asarray(), array.transpose(0, 3, 2, 1))
        page = tif.pages[0]
        assert page.compression.name == "ADOBE_DEFLATE"
        assert page.resolution == pytest.approx((4e4, 2e4))  # pixels per centimetre
        assert page.resolutionunit.name == "CENTIMETER"
        root = ElementTree.fromstring(tif.ome_metadata)
    pixels = root.find(f".//{OME}Pixels").attrib
    assert {k: v for k, v in pixels.items() if k.startswith("PhysicalSize")} == {
        "PhysicalSizeX": "0.25", "PhysicalSizeXUnit": "µm", "PhysicalSizeY": "0.5",
        "PhysicalSizeYUnit": "µm", "PhysicalSizeZ": "2.0", "PhysicalSizeZUnit": "µm",
    }  # fmt: skip
    assert [c.get("Name") for c in root.iter(f"{OME}Channel")] == ["cell", "membrane"]


def test_millimetres_are_written_in_micrometres(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((1, 3, 4), np.uint8), np.diag([0.5, 2, 1, 1]), "mm")
    assert sizes(load(tmp_path / "a.tif")[1]) == [500.0, 2000.0, 1.0]


def test_an_unknown_pixel_size_stays_unknown(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((1, 3, 4), np.uint8), np.eye(4), None)
    assert load(tmp_path / "a.tif")[1]["spacing_source"] == "assumed"


@pytest.mark.parametrize(
    ("given_dtype", "top", "written"),
    [("bool", 1, "uint8"), ("int64", 255, "uint8"), ("int64", 70000, "uint32"),
     ("uint64", 300, "uint16"), ("float16", 1, "float32"), ("float64", 1, "float64")],
)  # fmt: skip
def test_dtypes_that_viewers_lack_become_ones_they_have(tmp_path, given_dtype, top, written):
    array = np.array([[[0, top]]]).astype(given_dtype)
    write_tiff(tmp_path / "a.tif", array)
    ours, _ = load(tmp_path / "a.tif")
    assert ours.dtype == written
    np.testing.assert_array_equal(ours, array[0])


def test_what_tiff_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    array = np.zeros((1, 3, 4), np.uint8)
    with pytest.raises(ValueError, match="rotates or flips"):
        write_tiff(tmp_path / "a.tif", array, np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="rotates or flips"):
        write_tiff(tmp_path / "a.tif", array, np.eye(4)[[1, 0, 2, 3]])
    with pytest.raises(ValueError, match="need more than 32 bits"):
        write_tiff(tmp_path / "a.tif", np.full((1, 3, 4), 2**40))
    with pytest.raises(ValueError, match="unit 'ft'"):
        write_tiff(tmp_path / "a.tif", array, np.eye(4), "ft")
    with pytest.raises(ValueError, match="2 or 3 spatial axes"):
        write_tiff(tmp_path / "a.tif", np.zeros((2, 2)))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", np.full((1, 3, 4), 7, np.uint8))
    before = (tmp_path / "a.tif").read_bytes()

    def fail(self, *args, **kwargs):
        self.filehandle.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile.TiffWriter, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tiff(tmp_path / "a.tif", np.zeros((1, 3, 4), np.uint8))
    assert (tmp_path / "a.tif").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


# --- inside MONAI


def test_monai_loads_and_saves_whole_volumes(tmp_path, stack):
    write_tiff(tmp_path / "a.tif", stack.T[None], np.diag([0.25, 0.25, 1.0, 1.0]))
    image = LoadImage(reader="unet_med.data.TiffReader", ensure_channel_first=True, dtype=None)(
        tmp_path / "a.tif"
    )
    assert tuple(image.shape) == (1, 5, 6, 4)
    save = SaveImage(
        output_dir=tmp_path, output_ext=".tif", writer="unet_med.data.TiffWriter",
        separate_folder=False, print_log=False,
    )  # fmt: skip
    save(image)
    again, meta = load(tmp_path / "a_trans.tif")
    np.testing.assert_array_equal(again, stack.T)
    assert again.dtype == np.uint16  # not SaveImage's float32, nor the int32 of LoadImage
    assert sizes(meta) == [0.25, 0.25, 1.0]


def test_monai_resampling_sees_micrometres(tmp_path):
    ramp = np.arange(16.0)[None, :, None].repeat(12, 2)
    write_tiff(tmp_path / "a.tif", ramp, np.diag([0.25, 0.25, 1.0, 1.0]))
    load_image = LoadImage(reader="unet_med.data.TiffReader", ensure_channel_first=True)
    small = Spacing(pixdim=(0.5, 0.5))(load_image(tmp_path / "a.tif"))
    assert tuple(small.shape) == (1, 8, 6)
    save = SaveImage(
        output_dir=tmp_path, output_ext=".tif", writer="unet_med.data.TiffWriter", resample=True,
        separate_folder=False, print_log=False, output_postfix="back",
    )  # fmt: skip
    save(small)
    back, meta = load(tmp_path / "a_back.tif")
    assert back.shape == (16, 12)
    assert np.abs(back - ramp[0]).max() <= 1.5  # through 8 rows and back
    assert sizes(meta) == [0.25, 0.25, 1.0]


def test_the_error_reaches_the_user_of_load_image(tmp_path, stack):
    tifffile.imwrite(tmp_path / "t.tif", stack, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(ValueError, match="--time 0"):
        LoadImage(reader="unet_med.data.TiffReader")(tmp_path / "t.tif")


def test_several_files_become_channels(tmp_path, stack):
    for k in range(2):
        write_tiff(tmp_path / f"{k}.tif", stack[None, k])
    write_tiff(tmp_path / "2.tif", stack[None, 2, :3])
    reader = LoadImage(reader="unet_med.data.TiffReader", ensure_channel_first=True)
    both = reader([tmp_path / "0.tif", tmp_path / "1.tif"])
    np.testing.assert_array_equal(both.numpy(), stack[:2])
    with pytest.raises(ValueError, match="not channels of one image"):
        reader([tmp_path / "0.tif", tmp_path / "2.tif"])


# --- names of the axes, said by the user


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        ("CYX", (0, 2, 1)),
        ("cyx", (0, 2, 1)),
        ("ZYX", (2, 1, 0)),
        ("YXC", (2, 1, 0)),
        ("XYC", (2, 0, 1)),
    ],
)
def test_plain_files_have_the_axes_that_are_said(tmp_path, axes, order):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    for header_only in (False, True):
        found = TiffReader(axes=axes).open(tmp_path / "a.tif", header_only=header_only)
        assert found.has_channels == ("C" in axes.upper())
        assert found.array.shape == array.transpose(order).shape
    again = AutoReader(axes=axes).open(tmp_path / "a.tif")
    np.testing.assert_array_equal(again.array, array.transpose(order))


def test_files_of_one_image_name_their_channels_together(tmp_path):
    files = [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif", tmp_path / "c.ome.tif"]
    for file, names in zip(files, (["DAPI"], ["GFP", "RFP"], []), strict=True):
        pixels = np.zeros((max(1, len(names)), 4, 5), np.uint8)
        metadata = {"axes": "CYX", **({"Channel": {"Name": names}} if names else {})}
        tifffile.imwrite(file, pixels, metadata=metadata, **GREY)
    assert AutoReader().open_channels(files[:2]).channel_names == ("DAPI", "GFP", "RFP")
    assert AutoReader().open_channels(files).channel_names == ()  # not those of the first


def test_axes_that_cannot_be_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8))
    for axes in ("CZ", "YXX", "YXQ", ""):
        with pytest.raises(ValueError, match=r"--axes .*is not Y, X and some of C, Z and T"):
            AutoReader(axes=axes)
    with pytest.raises(ValueError, match=r"a\.tif as TIFF: --axes CYX names 3 axes, and it has 2"):
        TiffReader(axes="CYX").open(tmp_path / "a.tif")


@pytest.mark.parametrize("choice", [{"axes": "CYX"}, {"time": 0}, {"series": 0}])
def test_what_is_for_tiff_is_not_ignored_for_others(tmp_path, choice):
    PIL.Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    ((name, value),) = choice.items()
    with pytest.raises(ValueError, match=rf"--{name} {value} is for TIFF files, and a\.png is no"):
        AutoReader(**choice).open(tmp_path / "a.png")


def test_a_label_follows_the_choice_of_its_image(tmp_path):
    movie = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    tifffile.imwrite(tmp_path / "movie.tif", movie, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "plane.tif", movie[1])
    PIL.Image.fromarray(movie[1]).save(tmp_path / "plane.png")
    label = LabelReader(images=AutoReader(time=2, channel=1, series=0))
    np.testing.assert_array_equal(label.open(tmp_path / "movie.tif").array, movie[2].T)
    for name in ("plane.tif", "plane.png"):
        np.testing.assert_array_equal(label.open(tmp_path / name).array, movie[1].T)
    stack = LabelReader(images=AutoReader(axes="ZCYX"))
    np.testing.assert_array_equal(stack.open(tmp_path / "movie.tif").array, movie.T)
    assert LabelReader(images=AutoReader(axes="CYX")).open(tmp_path / "plane.tif").array.shape == (
        5,
        4,
    )
    assert LabelReader(images=object()).choice == {}


# --- real files, good and broken


def limit_memory_and_time():
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def verdict_on(path):
    """Read a file with both; `("equal" | "differs" | "refused", the refusal)`."""
    try:
        ours, _ = load(path)
    except ValueError as error:
        return "refused", str(error)
    with tifffile.TiffFile(path) as tif:
        theirs, axes = tif.series[0].asarray(), tif.series[0].axes
    order = sorted(axes, key="CSXYZIQ".index)
    theirs = theirs.transpose([axes.index(letter) for letter in order])
    same = theirs.dtype == ours.dtype and np.array_equal(theirs, ours)
    return ("equal" if same else "differs"), ""


def read_all(folders):
    """In a child with limits, since some of these files make other readers hang or crash."""
    files = [p for f in folders for p in sorted(f.rglob("*")) if p.suffix in (".tif", ".tiff")]
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("fork"), initializer=limit_memory_and_time
    ) as child:
        return dict(zip(files, child.map(verdict_on, files, timeout=100), strict=True))


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_real_files_are_equal_to_tifffile_or_refused_in_one_sentence(shared):
    data = shared / "data"
    verdicts = read_all([data / "tiff-conformance", data / "neubias"])
    counts = {kind: sum(v == kind for v, _ in verdicts.values()) for kind in ("equal", "refused")}
    assert counts == {"equal": 99, "refused": 34}  # one of them is to be shown turned
    for path, (verdict, text) in verdicts.items():
        if verdict == "refused":
            assert text.startswith(f"cannot read {path} as TIFF: ")
            assert "\n" not in text
            assert len(text) < 600
    refused_sound = {
        path.name
        for path, (verdict, _) in verdicts.items()
        if verdict == "refused" and not {"pillow-corrupt", "fuzz_images"} & set(path.parts)
    }
    multifile = {f"multifile-Z{k}.ome.tiff" for k in range(1, 6)}
    assert refused_sound == multifile | {"time-series.ome.tif", "xyt_8bit_polyp.tif"}


@pytest.mark.data
def test_real_multifile_dataset_when_trusted(shared):
    folder = shared / "data/tiff-conformance/exampletiffs/ometiff_testdata/multiples/master"
    ours, _ = load(folder / "multifile-Z1.ome.tiff", allow_multifile=True)
    planes = [tifffile.imread(folder / f"multifile-Z{k}.ome.tiff") for k in range(2, 6)]
    assert ours.shape == (18, 24, 5)
    np.testing.assert_array_equal(ours[..., 1:], np.stack(planes).transpose(2, 1, 0))


@pytest.mark.parametrize(
    "how",
    [
        {"ome": True, "compression": "zlib"},
        {"ome": True, "compression": "zlib", "tile": (64, 64)},
        {"ome": True},  # pages in a row
        {"imagej": True, "dtype": ">u2"},  # in a row as well, big-endian
    ],
)
@pytest.mark.parametrize(("choice", "pages"), [({"time": 2}, 6), ({"time": 1, "channel": 1}, 3)])
def test_only_the_pages_of_a_time_are_decoded(tmp_path, how, choice, pages) -> None:
    options = dict(how)
    data = np.arange(8 * 3 * 2 * 64 * 128).reshape(8, 3, 2, 64, 128) % 65521
    data = data.astype(options.pop("dtype", "u2"))
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, data, metadata={"axes": "TZCYX"}, **options)
    needed = pages * 64 * 128 * 2  # bytes, of 48 pages
    TiffReader(**choice).open(path)  # what is imported on first use is not counted
    tracemalloc.start()
    try:
        volume = TiffReader(**choice, max_bytes=needed).open(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert needed <= peak < data.nbytes / 2
    chosen = data[choice["time"]]  # (Z, C, Y, X)
    wanted = chosen[:, choice["channel"]].T if "channel" in choice else chosen.transpose(1, 3, 2, 0)
    np.testing.assert_array_equal(volume.array, wanted)
    assert volume.array.dtype == np.uint16
    header = TiffReader(**choice).open(path, header_only=True)
    assert header.array.shape == volume.array.shape
    with pytest.raises(ValueError, match="index 8 along 'T' is not in axes"):
        TiffReader(time=8).open(path)
    with pytest.raises(ValueError, match="once decoded"):
        TiffReader(**choice, max_bytes=needed - 1).open(path)


# --- LSM


def write_lsm(path, image, voxel):
    """Zeiss's TIFF of an image `(Z, C, Y, X)`: each plane with a thumbnail, sizes in metres."""
    info = np.zeros(1, np.dtype(tifffile.TIFF.CZ_LSMINFO[:23]))
    info["MagicNumber"], info["StructureSize"] = 67127628, info.dtype.itemsize
    for axis, side in zip(("Z", "Channels", "Y", "X"), image.shape, strict=True):
        info[f"Dimension{axis}"] = side
    info["DimensionTime"] = 1
    for axis, size in zip("XYZ", voxel, strict=True):
        info[f"VoxelSize{axis}"] = size * 1e-6
    tag = (34412, "B", info.dtype.itemsize, info.tobytes(), True)
    with tifffile.TiffWriter(path, byteorder="<") as file:
        for number, plane in enumerate(image):
            options = {**GREY, "planarconfig": "separate", "metadata": None}
            file.write(plane, extratags=[] if number else [tag], **options)
            file.write(plane[:, ::2, ::2], subfiletype=1, **options)


def test_lsm(tmp_path, rng):
    image = rng.integers(0, 4000, (4, 3, 6, 5)).astype(np.uint16)
    write_lsm(tmp_path / "a.lsm", image, (0.2, 0.3, 1.5))
    with tifffile.TiffFile(tmp_path / "a.lsm") as tif:
        assert tif.is_lsm
        assert len(tif.series) == 2
    array, meta = load(tmp_path / "a.lsm")
    np.testing.assert_array_equal(array, image.transpose(1, 3, 2, 0))
    assert sizes(meta) == pytest.approx([0.2, 0.3, 1.5])
    assert (meta["spacing_source"], meta["spatial_unit"]) == ("lsm", "um")
    assert load(tmp_path / "a.lsm", channel=1)[0].tolist() == array[1].tolist()
    assert find_images(tmp_path) == [{"image": str(tmp_path / "a.lsm")}]
    window = (slice(1, 3), slice(2, 6), slice(0, 4))  # Z, Y, X
    np.testing.assert_array_equal(
        open_source(tmp_path / "a.lsm").read(window), image.transpose(1, 0, 2, 3)[:, 1:3, 2:6, 0:4]
    )


@pytest.mark.parametrize("number", [1, 6])
def test_a_tiff_that_is_to_be_shown_turned_is_refused(tmp_path, picture, number):
    """tifffile and ImageJ show it as it lies, Pillow and OpenCV turned."""
    tag = [(274, "H", 1, number, True)]
    tifffile.imwrite(tmp_path / "a.tif", picture, extratags=tag)
    if number == 1:
        np.testing.assert_array_equal(load(tmp_path / "a.tif")[0], picture.T)
        return
    with pytest.raises(ValueError, match=r"tag Orientation says to show it turned \(orientation 6"):
        load(tmp_path / "a.tif")


@pytest.mark.parametrize("byteorder", "<>")
def test_signed_pixels_of_imagej_are_signed(tmp_path, rng, byteorder):
    """ImageJ keeps 16 signed bits as unsigned ones, and says so by a function of its calibration.

    Air of a CT would have 31768, and the background of a label 32768.
    """
    true = rng.integers(-1024, 3000, (5, 9, 12)).astype(np.int16)  # Z, Y, X
    stored = (true.astype(np.int32) + 32768).astype(np.uint16)
    said = "ImageJ=1.54f\nimages=5\nslices=5\nunit=micron\nspacing=2.0\ncf=0\nc0={}\nc1=1.0\n"
    for name, offset, expected in (("a", -32768.0, true), ("b", -10.0, stored)):
        options = {"description": said.format(offset), "metadata": None, "byteorder": byteorder}
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, photometric="minisblack", **options)
        image, header = load_image(tmp_path / f"{name}.tif"), load_header(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(image[0].numpy(), expected.T)
        assert header.array.dtype == expected.dtype
        source = open_source(tmp_path / f"{name}.tif")
        assert source.dtype == expected.dtype
        window = (slice(1, 4), slice(2, 9), slice(0, 7))
        np.testing.assert_array_equal(source.read(window)[0], expected[window])
        assert source.read(window).dtype.kind == expected.dtype.kind
