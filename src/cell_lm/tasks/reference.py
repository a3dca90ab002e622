"""The cells an estimator was fitted on, and how many of their genes other cells have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.loading.expression import log_expression
from cell_lm.data.view import CellView


@dataclass(frozen=True, eq=False)
class Reference:
    """Record of the cells of a fit.

    Attributes
    ----------
    name : str
        Name of the file.
    label : str
        Column of ``obs`` that was learned.
    groups : str or None
        Column of ``obs`` with the donors.
    cells : int
        Number of labelled cells, which are those of the fit.
    unlabelled : int
        Number of cells without a label, which were left out.
    genes : ndarray
        int64: genes of the vocabulary that the file had, as indices, sorted.
    vocabulary : str
        Hash of the vocabulary.
    cut : bool
        Whether the cells were cut to :attr:`genes`, those that the cells to predict have, too; cells to predict are
        then cut in the same way.
    expression : ndarray or None
        float32 [genes]: mean over the cells of log1p of counts per 10,000; None: unknown, as in folders of earlier
        releases and for z-scores.
    """

    name: str
    label: str
    groups: str | None
    cells: int
    unlabelled: int
    genes: NDArray[np.int64]
    vocabulary: str
    cut: bool = False
    expression: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Coverage:
    """How many of the genes of the reference other cells have.

    Attributes
    ----------
    reference : int
        Genes of the vocabulary in the reference.
    shared : int
        Those that the other cells also have.
    expression : float
        Fraction of the log expression of the reference in the shared genes, 0 to 1; that of the genes where the
        expression of the reference is unknown. A few hundred variable genes hold more of it than as many random ones,
        and accuracy follows it closely.
    """

    reference: int
    shared: int
    expression: float = 1.0

    @property
    def share(self) -> float:
        """Fraction of the genes of the reference, 0 to 1."""
        return self.shared / self.reference if self.reference else 0.0

    def __str__(self) -> str:
        """Return a description."""
        genes = f"{self.shared:,} of {self.reference:,} genes of the reference ({100 * self.share:.0f} %)"
        return f"{genes}, with {100 * self.expression:.0f} % of its expression"

    @classmethod
    def of(cls, reference: Reference, genes: NDArray[np.int64]) -> Coverage:
        """Return how many genes of a reference these cells have, given their genes, int64."""
        shared = np.isin(reference.genes, genes)
        weights = np.ones(len(shared)) if reference.expression is None else reference.expression
        total, held = (float(part.sum(dtype=np.float64)) for part in (weights, weights[shared]))
        return cls(len(shared), int(shared.sum()), held / total if total else 0.0)


def mean_expression(cells: CellView) -> NDArray[np.float32] | None:
    """Return the mean of log1p of counts per 10,000 of each gene of the cells, float32 [genes]; None for z-scores."""
    if cells.z_scored or not len(cells):
        return None
    total = np.zeros(len(cells.vocabulary))
    for _, block in cells.blocks():
        total += np.asarray(log_expression(block).sum(axis=0, dtype=np.float64)).ravel()
    return np.asarray(total[cells.genes] / len(cells), np.float32)
