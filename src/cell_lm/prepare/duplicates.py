"""Find repeated cells, within a source or across sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.store.manifest import DuplicatesRecord


class Duplicates(NamedTuple):
    """Repeated cells.

    Attributes
    ----------
    repeated : ndarray
        bool [cells]: the same as an earlier cell.
    pairs : list of DuplicatesRecord
        Number of repeated cells for each pair of sources.
    """

    repeated: NDArray[np.bool_]
    pairs: list[DuplicatesRecord]


def find_duplicates(hashes: NDArray[np.uint64], source: NDArray[np.int64]) -> Duplicates:
    """Find the cells with the hash of an earlier cell.

    Parameters
    ----------
    hashes
        uint64 [cells, 2]; of equal cells the first is kept.
    source
        int64 [cells]: index of each cell's source.
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equal cells the first stays first
    sorted_hashes = hashes[order]
    same = np.zeros(len(order), bool)
    same[1:] = (sorted_hashes[1:] == sorted_hashes[:-1]).all(axis=1)
    first = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
    repeated = np.zeros(len(order), bool)
    repeated[order[same]] = True
    pairs, counts = np.unique(np.stack([source[first[same]], source[order[same]]]), axis=1, return_counts=True)
    return Duplicates(repeated, _records(pairs.T.tolist(), counts.tolist()))


def _records(pairs: Sequence[Sequence[int]], counts: Sequence[int]) -> list[DuplicatesRecord]:
    return [
        DuplicatesRecord(first=first, again=again, cells=cells)
        for (first, again), cells in zip(pairs, counts, strict=True)
    ]
