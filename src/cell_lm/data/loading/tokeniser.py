"""From counts to tokens: one compiled pass over the rows of the sparse matrix; each cell is independent of its batch.

The expression of a gene is log1p of the cell's counts per 10,000, the total being over the genes of the vocabulary; its
bin is the nearest integer (ties to even); the last bin holds all larger values (the paper's binning, arXiv 2306.04371).
A cell with more than ``max_genes`` genes keeps the most highly expressed; ties go by vocabulary order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cell_lm.data.compiled import compiled
from cell_lm.data.loading.batch import PER_CELL, CellBatch
from cell_lm.data.protocol import Cells
from cell_lm.errors import ConfigError, InputError

NOMINAL_DEPTH = 4_000.0
"""Depth of a cell whose expression is not whole counts (TPM, corrected counts): a usual depth of droplet data."""
_COMMON, _COUNTED = 32, 64
"""Counts below these have a table: of logarithms, and of how often they occur in a cell."""


class Part(NamedTuple):
    """Rows of one dataset and their positions in the batch, both int64 [cells of the part]."""

    cells: Cells
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]


class Tokeniser:
    """Turns cells into tokens.

    Parameters
    ----------
    bins
        Number of expression bins, 0 to ``bins - 1``.
    max_genes
        Most genes to keep per cell.
    """

    def __init__(self, bins: int, max_genes: int) -> None:
        if bins < 2 or max_genes < 1:
            raise ConfigError(f"bins = {bins} and max_genes = {max_genes}", fix="Give at least 2 bins and 1 gene")
        self.bins, self.max_genes = bins, max_genes

    def lengths(self, cells: Cells) -> NDArray[np.int64]:
        """Return the number of tokens of each cell, int64 [cells]."""
        return np.minimum(cells.genes_per_cell, self.max_genes)

    def __call__(self, cells: Cells, index: NDArray[np.int64]) -> CellBatch:
        """Tokenise the cells at ``index`` (int64 [C], in this order), in the slots 0 to C - 1."""
        index = np.asarray(index, np.int64)
        return self.assemble([Part(cells, index, np.arange(len(index)))], len(index))

    def assemble(self, parts: Iterable[Part], n_cells: int) -> CellBatch:
        """Tokenise a batch whose cells come from several datasets; together the parts fill every position.

        Raises
        ------
        IndexError
            A row is out of range: compiled code would read outside the array.
        InputError
            A row has changed since the file was opened: the file was damaged or modified.
        """
        parts = list(parts)
        lengths, malignancy = np.zeros(n_cells, np.int64), np.empty(n_cells, np.int64)
        depths = np.empty(n_cells, np.float32)
        for cells, rows, positions in parts:
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(cells):
                raise IndexError(f"rows {rows.min()} to {rows.max()} of the {len(cells)} cells of {cells.name}")
            genes_of = cells.X.indptr[rows + 1] - cells.X.indptr[rows]
            lengths[positions], malignancy[positions] = np.minimum(genes_of, self.max_genes), cells.malignancy[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        genes, bins = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
        values = np.empty(offsets[-1], np.float32)
        for cells, rows, positions in parts:
            X = cells.X
            limits, whole = (self.max_genes, self.bins, len(cells.vocabulary)), X.data.dtype.kind in "iu"
            bounds, tokens_of = (offsets[positions], offsets[positions + 1]), (genes, bins, values)
            found = np.empty(len(rows), np.float32)
            bad = _fill(X.data, X.indices, X.indptr, rows, *bounds, whole, *limits, *tokens_of, found)
            if bad >= 0:
                _refuse_row(cells, int(rows[bad]))
            depths[positions] = found
        tokens = torch.from_numpy(genes), torch.from_numpy(bins), torch.from_numpy(values)
        of_cells = torch.from_numpy(malignancy), torch.arange(n_cells), torch.from_numpy(depths)
        return CellBatch(*tokens, offsets, *of_cells)


def _refuse_row(cells: Cells, row: int) -> None:
    found = f"cell {row:,} of {len(cells):,} is damaged: its counts are not those that the file was opened with"
    fix = "It was changed or damaged since: cell-lm inspect --verify finds the file of a store; restore it from a copy"
    raise InputError(found, where=cells.name, fix=fix)


@compiled
def _fill(
    data: NDArray[Any],
    indices: NDArray[Any],
    indptr: NDArray[Any],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    whole: bool,
    max_genes: int,
    n_bins: int,
    n_genes: int,
    genes: NDArray[np.int64],
    bins: NDArray[np.int64],
    values: NDArray[np.float32],
    depths: NDArray[np.float32],
) -> int:
    """Write the tokens of each row between its bounds, and its depth; return the first damaged row's position, or -1.

    The logarithms of the most common counts are computed once per cell.
    """
    common, common_bins = np.empty(_COMMON, np.float32), np.empty(_COMMON, np.int64)
    for c in range(rows.size):
        first, last = np.int64(indptr[rows[c]]), np.int64(indptr[rows[c] + 1])
        if first < 0 or last > data.size or last > indices.size or min(last - first, max_genes) != stops[c] - starts[c]:
            return c
        total = _total(data[first:last], whole)
        if not 0.0 < total < np.inf:
            return c
        scale = PER_CELL / total
        for n in range(_COMMON):
            common[n] = math.log1p(n * scale)
            common_bins[n] = min(int(np.rint(common[n])), n_bins - 1)
        threshold, ties = _threshold(data[first:last], max_genes)
        at, highest, counts = starts[c], np.uint64(0), True
        for k in range(first, last):  # the next gene overwrites one that is not kept: no branch to mispredict
            count, gene = data[k], np.int64(indices[k])
            level = np.int64(count)
            if 0 <= level < _COMMON and (whole or level == count):
                values[at], bins[at] = common[level], common_bins[level]
            else:
                value = np.float32(math.log1p(count * scale))
                if not value >= 0.0:
                    return c
                values[at], bins[at] = value, np.int64(min(np.rint(value), n_bins - 1))
                counts &= whole or level == count
            genes[at] = gene
            highest = max(highest, np.uint64(gene))
            if threshold < 0:
                at += 1
                continue
            tie = (count == threshold) & (ties > 0)
            ties -= tie
            at += (count > threshold) | tie
            if at == stops[c]:
                break
        if at != stops[c] or highest >= np.uint64(n_genes):
            return c
        depths[c] = total if counts else NOMINAL_DEPTH
    return -1


@compiled
def _total(counts: NDArray[Any], whole: bool) -> float:
    """Return the sum of counts; integers are summed in int64, which is faster."""
    if whole:
        exact = np.int64(0)
        for count in counts:
            exact += np.int64(count)
        return float(exact)
    total = 0.0
    for count in counts:
        total += count
    return total


@compiled
def _threshold(counts: NDArray[Any], most: int) -> tuple[float, int]:
    """Return the smallest count that is kept, and how many genes with exactly that count are kept."""
    if counts.size <= most:
        return -1.0, 0
    histogram = np.zeros(_COUNTED, np.int64)
    whole = True
    for count in counts:
        number = np.int64(count)
        whole &= number == count
        histogram[min(max(number, np.int64(0)), np.int64(_COUNTED - 1))] += 1
    level, above = _COUNTED - 1, 0
    while above + histogram[level] < most:
        above += histogram[level]
        level -= 1
    if whole and level < _COUNTED - 1:
        return float(level), most - above
    threshold = np.sort(counts)[counts.size - most]  # np.partition takes ten seconds to compile, on first use
    above = 0
    for count in counts:
        above += count > threshold
    return float(threshold), most - above
