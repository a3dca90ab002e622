"""The cells an estimator was fitted on, and how many of their genes other cells have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    """

    name: str
    label: str
    groups: str | None
    cells: int
    unlabelled: int
    genes: NDArray[np.int64]
    vocabulary: str
    cut: bool = False


@dataclass(frozen=True)
class Coverage:
    """How many of the genes of the reference other cells have.

    Attributes
    ----------
    reference : int
        Genes of the vocabulary in the reference.
    shared : int
        Those that the other cells also have.
    """

    reference: int
    shared: int

    @property
    def share(self) -> float:
        """Fraction of the genes of the reference, 0 to 1."""
        return self.shared / self.reference if self.reference else 0.0

    def __str__(self) -> str:
        """Return a description."""
        return f"{self.shared:,} of {self.reference:,} genes of the reference ({100 * self.share:.0f} %)"
