"""NumPy arrays as images."""

from __future__ import annotations

import numpy as np
from image_files import load


def test_npy_is_taken_as_it_is(tmp_path, volume):
    np.save(tmp_path / "a.npy", volume)
    ours, meta = load(tmp_path / "a.npy")
    np.testing.assert_array_equal(ours, volume)
    assert meta["spacing_source"] == "assumed"
