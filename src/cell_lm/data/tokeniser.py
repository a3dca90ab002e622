"""From counts to tokens: one compiled pass over the rows of the sparse matrix, per cell, so no batch can matter.

The expression of a gene is log1p of the cell's counts per 10,000, the total being over the genes of the vocabulary; its
bin is the nearest whole number (a tie goes to the even one), the last bin holding all above (the paper's binning, arXiv
2306.04371). A cell of more than ``max_genes`` keeps its most highly expressed; of equals, those that come first in the
vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cell_lm.data.batch import CellBatch
from cell_lm.data.cells import CellData
from cell_lm.data.compiled import compiled
from cell_lm.errors import ConfigError

PER_CELL = 10_000.0
"""What the counts of a cell are scaled to before the logarithm."""
_COMMON = 32


class Part(NamedTuple):
    """Cells of one dataset and where in the batch they go: ``rows`` and ``places``, both int64 [cells of the part]."""

    cells: CellData
    rows: NDArray[np.int64]
    places: NDArray[np.int64]


class Tokeniser:
    """Turns cells into tokens.

    Parameters
    ----------
    bins
        Number of expression bins, 0 to ``bins - 1``.
    max_genes
        Most genes of a cell that are kept.
    """

    def __init__(self, bins: int, max_genes: int) -> None:
        if bins < 2 or max_genes < 1:
            raise ConfigError(f"bins = {bins} and max_genes = {max_genes}", fix="Give at least 2 bins and 1 gene")
        self.bins, self.max_genes = bins, max_genes

    def lengths(self, cells: CellData) -> NDArray[np.int64]:
        """Return the number of tokens that each cell gives, int64 [cells]."""
        return np.minimum(cells.genes_per_cell, self.max_genes)

    def __call__(self, cells: CellData, index: NDArray[np.int64]) -> CellBatch:
        """Tokenise the cells at ``index`` (int64 [C], in this order), in the slots 0 to C - 1."""
        index = np.asarray(index, np.int64)
        return self.assemble([Part(cells, index, np.arange(len(index)))], len(index))

    def assemble(self, parts: Iterable[Part], n_cells: int) -> CellBatch:
        """Tokenise a batch whose cells come from several datasets; together the parts fill all its places.

        Raises
        ------
        IndexError
            A row that its dataset does not have: compiled code would read foreign memory.
        """
        parts = list(parts)
        lengths, state = np.zeros(n_cells, np.int64), np.empty(n_cells, np.int64)
        for cells, rows, places in parts:
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(cells):
                raise IndexError(f"rows {rows.min()} to {rows.max()} of the {len(cells)} cells of {cells.name}")
            lengths[places], state[places] = self.lengths(cells)[rows], cells.state[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        genes, bins = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
        values = np.empty(offsets[-1], np.float32)
        for cells, rows, places in parts:
            X = cells.X
            _fill(X.data, X.indices, X.indptr, rows, offsets[places], self.max_genes, self.bins, genes, bins, values)
        tokens = torch.from_numpy(genes), torch.from_numpy(bins), torch.from_numpy(values)
        return CellBatch(*tokens, offsets, torch.from_numpy(state), torch.arange(n_cells))


@compiled
def _fill(
    data: NDArray[np.float32],
    indices: NDArray[Any],
    indptr: NDArray[Any],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    max_genes: int,
    n_bins: int,
    genes: NDArray[np.int64],
    bins: NDArray[np.int64],
    values: NDArray[np.float32],
) -> None:
    """Write the tokens of each row from its start on; the logarithms of the commonest counts are taken once a cell."""
    common = np.empty(_COMMON, np.float32)
    for c in range(rows.size):
        first, last = indptr[rows[c]], indptr[rows[c] + 1]
        total = 0.0
        for k in range(first, last):
            total += data[k]
        threshold, ties = _threshold(data[first:last], max_genes)
        for n in range(_COMMON):
            common[n] = math.log1p(n * (PER_CELL / total))
        at = starts[c]
        for k in range(first, last):
            count = data[k]
            if count < threshold:
                continue
            if count == threshold:
                if ties == 0:
                    continue
                ties -= 1
            if count < _COMMON and count == int(count):
                value = common[int(count)]
            else:
                value = np.float32(math.log1p(count * (PER_CELL / total)))
            genes[at], values[at] = indices[k], value
            bins[at] = min(int(np.rint(value)), n_bins - 1)
            at += 1


@compiled
def _threshold(counts: NDArray[np.float32], most: int) -> tuple[float, int]:
    """Return the least count that is kept, and how many of the genes that have exactly it."""
    if counts.size <= most:
        return -1.0, 0
    threshold = np.partition(counts, counts.size - most)[counts.size - most]
    above = 0
    for count in counts:
        above += count > threshold
    return threshold, most - above
