"""How two labellings of the same pixels overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array


def contingency_table(rows: NDArray[Any], columns: NDArray[Any]) -> csr_array:
    """Count the pixels of every pair of labels, as a sparse matrix.

    Args:
        rows: label of every pixel, >= 0; any shape.
        columns: another labelling of the same shape.

    Returns:
        int64, `(rows.max() + 1, columns.max() + 1)`; a table of zeros for no pixels.

    >>> contingency_table(np.array([1, 1, 2]), np.array([0, 1, 1])).toarray()
    array([[0, 0],
           [1, 1],
           [0, 1]])
    """
    shape = (int(rows.max(initial=0)) + 1, int(columns.max(initial=0)) + 1)
    keys = rows.ravel().astype(np.int64) * shape[1] + columns.ravel()
    pairs, counts = np.unique(keys[keys > 0], return_counts=True)
    if background := keys.size - counts.sum():  # most pixels, which need not be sorted
        pairs, counts = np.append(0, pairs), np.append(background, counts)
    return coo_array((counts, np.divmod(pairs, shape[1])), shape=shape).tocsr()
