"""Which cells a classifier was fitted on, so that scores on cells whose labels it has seen are not taken for others.

A cell is known again by a hash of its genes and counts (:func:`cell_lm.data.store.row_hashes`, its first 8 bytes: two
different cells share it with probability 1 in 2^64), in whatever object or file it comes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.store import row_hashes
from cell_lm.data.view import CellView
from cell_lm.tasks.estimator import Arrays

Hashes = NDArray[np.uint64]
ARRAY = "fit.cells"
"""Name of the hashes in a saved classifier."""


def hashes_of(cells: CellView) -> Hashes:
    """Return the hash of each cell, uint64 [cells]."""
    found = np.empty(len(cells), np.uint64)
    for places, block in cells.blocks():
        found[places] = row_hashes(block.X.indices, block.X.data, block.X.indptr)[:, 0]
    return found


def read_hashes(arrays: Arrays) -> Hashes:
    """Read the hashes of a saved classifier, none where it holds none; ValueError if they are inconsistent."""
    found = arrays.get(ARRAY, np.empty(0, np.uint64))
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ValueError(f"'{ARRAY}' is {found.dtype} {found.shape}, not a row of uint64")
    return found
