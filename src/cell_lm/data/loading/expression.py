"""Expression of many cells as one sparse matrix, for computations over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from cell_lm.data.loading.batch import PER_CELL
from cell_lm.data.loading.concat import ConcatCells
from cell_lm.data.loading.sampler import random_subset
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.protocol import Dataset

MOST_CELLS = 20_000
"""Cells to compute the co-expression from; more cells change little and take longer."""


def expression_matrix(
    datasets: Sequence[Dataset], *, most: int = MOST_CELLS, seed: int = 0
) -> sparse.csr_matrix[np.float32]:
    """Return the expression of cells, float32 [cells, genes]: log1p of counts per 10,000.

    Parameters
    ----------
    datasets
        Aligned to one vocabulary.
    most
        Most cells to read; if there are more, this many are chosen at random.
    seed
        Seed of the random choice.

    Raises
    ------
    InputError
        There is no dataset, or their vocabularies differ.
    """
    genes = len(datasets[0].vocabulary) if datasets else 1
    pool = ConcatCells(datasets, Tokeniser(2, genes))
    return pool.tokenise(random_subset(len(pool.malignancy), most, seed)).expression(genes)


class HasCounts(Protocol):
    """Any object with counts of cells in memory."""

    @property
    def X(self) -> sparse.csr_matrix[np.float32]:  # noqa: N802
        """Counts, [cells, vocabulary]."""


def log_expression(cells: HasCounts) -> sparse.csr_matrix[np.float32]:
    """Return log1p of counts per 10,000, float32 [cells, vocabulary]: the encoder's input before binning."""
    X = cells.X
    totals = np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
    each = np.repeat(PER_CELL / np.maximum(totals, np.finfo(np.float64).tiny), np.diff(X.indptr))
    return sparse.csr_matrix((np.log1p(X.data * each).astype(np.float32), X.indices, X.indptr), shape=X.shape)
