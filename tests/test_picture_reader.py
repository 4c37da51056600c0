"""Pictures through Pillow: axes, bits, palettes, headers."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import META_KEYS, load
from PIL import Image


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_grey_pictures_are_x_y(tmp_path, picture, suffix):
    Image.fromarray(picture).save(tmp_path / f"a{suffix}")
    ours, meta = load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(ours, picture.T)
    np.testing.assert_array_equal(meta["affine"], np.eye(4))
    assert (meta["spatial_unit"], meta["spacing_source"]) == ("um", "assumed")
    assert set(meta) == META_KEYS


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
