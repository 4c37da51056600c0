"""Pictures through Pillow: axes, bits, palettes, headers."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from image_files import META_KEYS, load
from PIL import Image

from unet_med.data import AutoReader, load_header, load_image, load_label
from unet_med.transforms import CheckPaird


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_pictures_are_x_y(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a{suffix}")
    ours, meta = load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(ours, picture.T)
    np.testing.assert_array_equal(meta["affine"], np.eye(4))
    assert (meta["spatial_unit"], meta["spacing_source"]) == ("um", "assumed")
    assert set(meta) == META_KEYS


@pytest.mark.filterwarnings("error")
def test_the_limit_is_the_memory_not_that_of_pillow(tmp_path, picture, monkeypatch):
    Image.fromarray(picture).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", picture.size // 3)  # it refuses twice as many
    np.testing.assert_array_equal(load(tmp_path / "a.png")[0], picture.T)
    assert picture.size // 3 == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"cannot read .*a\.png as picture: .*limit"):
        AutoReader(max_bytes=picture.size).open(tmp_path / "a.png")
    assert picture.size // 3 == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_header_says_what_the_pixels_are(tmp_path, rng, channels, dtype):
    import imagecodecs

    pixels = rng.integers(0, np.iinfo(dtype).max, (7, 9, channels)).astype(dtype)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(pixels if channels > 1 else pixels[..., 0]))
    header, whole = load_header(path), AutoReader().open(path)
    np.testing.assert_array_equal(np.atleast_3d(whole.array.T), pixels)
    assert header.array.shape == whole.array.shape
    assert header.array.dtype == whole.array.dtype == dtype


def test_png_keeps_its_bits(tmp_path, rng, picture):
    import imagecodecs

    deep = rng.integers(0, 65536, (7, 9)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "grey16.png")
    np.testing.assert_array_equal(load(tmp_path / "grey16.png")[0], deep.T)
    colour = rng.integers(0, 65536, (7, 9, 3)).astype(np.uint16)
    (tmp_path / "rgb16.png").write_bytes(imagecodecs.png_encode(colour))
    ours, _ = load(tmp_path / "rgb16.png")
    np.testing.assert_array_equal(ours, colour.transpose(2, 1, 0))  # Pillow: 8 bits
    assert ours.dtype == np.uint16
    Image.fromarray(picture > 99).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(load(tmp_path / "bits.png")[0], (picture > 99).T)
    labels = Image.fromarray(picture).convert("L")
    labels.putpalette(list(rng.integers(0, 255, 768)))
    labels.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(load(tmp_path / "palette.png")[0], picture.T)
    rgba = rng.integers(0, 256, (7, 9, 4)).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(load(tmp_path / "rgba.png")[0], rgba.transpose(2, 1, 0))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize(
    ("colours", "coloured"),
    [
        ([(250, 0, 0), (10, 10, 10), (90, 200, 255)], True),  # as of a picture in few colours
        ([(250, 250, 250), (10, 10, 10), (120, 120, 120)], True),
        ([(0, 0, 0), (120, 0, 0), (255, 255, 0)], False),  # a look-up table, such as "Fire"
        ([(255, 255, 255), (120, 120, 120), (0, 0, 0)], False),  # of bright for little
    ],
)
def test_colours_of_a_palette_are_no_intensities(tmp_path, suffix, colours, coloured):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    if suffix == ".tif":
        table = np.zeros((3, 256), np.uint16)
        table[:, :3] = 257 * np.transpose(colours)
        tifffile.imwrite(tmp_path / "a.tif", numbers, photometric="palette", colormap=table)
    else:
        picture = Image.fromarray(numbers).convert("L")
        picture.putpalette(list(np.ravel(colours)))
        picture.save(tmp_path / f"a{suffix}")
    image = load_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image[0], numbers.T)
    np.testing.assert_array_equal(load_label(tmp_path / f"a{suffix}"), numbers.T)
    assert image.meta["coloured"] == coloured
    if coloured:
        with pytest.raises(ValueError, match=rf"image a\{suffix} has a palette of colours"):
            CheckPaird()({"image": image, "label": image})
    else:
        CheckPaird()({"image": image})
    CheckPaird()({"image": torch.zeros(image.shape), "label": image})


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_one_channel_of_a_picture(tmp_path, rng, name):
    colours = rng.integers(0, 256, (7, 9, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / name)
    for channel in range(3):
        one = load_image(tmp_path / name, channel=channel)
        np.testing.assert_array_equal(one[0], colours[..., channel].T)
        header = load_header(tmp_path / name, channel=channel)
        assert (header.array.shape, header.has_channels) == ((9, 7), False)
    with pytest.raises(ValueError, match=rf"{name} as picture: index 3 along 'C' is not in axes"):
        load_image(tmp_path / name, channel=3)


def test_channel_0_of_a_grey_picture_is_the_picture(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", channel=0)[0], picture.T)
    np.save(tmp_path / "a.npy", picture)
    with pytest.raises(ValueError, match=r"--channel 0 is for TIFF and picture files, and a\.npy"):
        load_image(tmp_path / "a.npy", channel=0)


def write_grey_png(path: Path, rows: np.ndarray, bits: int) -> None:
    """Grey of fewer than 8 bits, which neither Pillow nor imagecodecs writes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    digits = (rows[..., None] >> np.arange(bits)[::-1]) & 1
    packed = np.packbits(digits.reshape(len(rows), -1), axis=1)
    head = struct.pack(">IIBBBBB", *rows.shape[::-1], bits, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_of_few_bits_is_as_stored(tmp_path, bits):
    """Pillow spreads it over 0 to 255, so that class 1 of two bits would be 85."""
    rows = np.arange(15).reshape(3, 5) % 2**bits
    write_grey_png(tmp_path / "a.png", rows, bits)
    np.testing.assert_array_equal(load_label(tmp_path / "a.png"), rows.T)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png")[0], rows.T)
    assert load_header(tmp_path / "a.png").array.shape == (5, 3)
