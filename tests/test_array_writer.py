"""Dtypes of labels that all writers share."""

from __future__ import annotations

import numpy as np
import pytest

from unet_med.data.array_writer import smallest_label_dtype


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 255], "uint8"), ([0, 256], "uint16"), ([0, 65536], "uint32"), ([-1, 5], "int8"),
     ([-1, 200], "int16"), ([-70000, 0], "int32"), ([0.0, 3.0], "uint8"), ([False, True], "uint8")],
)  # fmt: skip
def test_labels_take_the_smallest_dtype(values, dtype):
    cast = smallest_label_dtype(np.array(values))
    assert cast.dtype == dtype
    np.testing.assert_array_equal(cast, values)


@pytest.mark.parametrize("values", [[0.5], [np.nan], [2**33]])
def test_what_is_no_label_is_refused(values):
    with pytest.raises(ValueError, match=r"not integers|32 bits"):
        smallest_label_dtype(np.array(values))
