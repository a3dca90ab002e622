"""Means and standard deviations of genes over blocks of cells, to distinguish z-scores from other scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.formats.source import Matrix

FARTHEST_MEAN, SPREADS = 0.5, (0.5, 2.0)
"""Largest mean (in absolute value), and the range of standard deviations, of the median gene of a z-scored matrix. They
are 0 and 1 over all cells that were scaled; a part of those cells, such as one of several cell lines, differs."""


class Moments:
    """Sums by gene, accumulated over blocks of cells."""

    def __init__(self) -> None:
        self.rows = 0
        self._sums: NDArray[np.float64] = np.empty(0)
        self._squares: NDArray[np.float64] = np.empty(0)

    def add(self, X: Matrix) -> None:
        """Add further cells; the block is only read."""
        block = sparse.csr_matrix(X, dtype=np.float64)
        sums = np.asarray(block.sum(axis=0), np.float64).ravel()
        squares = np.asarray(block.multiply(block).sum(axis=0), np.float64).ravel()
        first = not self.rows
        self._sums = sums if first else self._sums + sums
        self._squares = squares if first else self._squares + squares
        self.rows += X.shape[0]

    @property
    def genes(self) -> int:
        """Number of genes."""
        return len(self._sums)

    @property
    def _varying(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of the genes that vary."""
        means = self._sums / max(self.rows, 1)
        spreads = np.sqrt(np.maximum(self._squares / max(self.rows, 1) - means**2, 0.0))
        varies = spreads > 1e-6
        return means[varies], spreads[varies]

    @property
    def mean(self) -> float:
        """Median over genes of the absolute mean; 0 where no gene varies."""
        means, _ = self._varying
        return float(np.median(np.abs(means))) if len(means) else 0.0

    @property
    def spread(self) -> float:
        """Median over genes of the standard deviation; 0 where no gene varies."""
        _, spreads = self._varying
        return float(np.median(spreads)) if len(spreads) else 0.0

    @property
    def are_z_scores(self) -> bool:
        """Whether most genes have a mean near 0 and a standard deviation near 1."""
        return self.mean <= FARTHEST_MEAN and SPREADS[0] <= self.spread <= SPREADS[1]
