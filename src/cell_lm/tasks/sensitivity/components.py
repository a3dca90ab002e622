"""Few numbers per cell: the leading principal components of cells of length 1, over labelled and unlabelled cells.

A cell is scaled to length 1 (which removes the sequencing depth), the genes are centred, and the components divided by
the standard deviation of the first one. The components need no labels, so all cells are used: with five labelled cells
out of a hundred, that is what makes a classifier possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import normalize

from cell_lm.errors import InputError
from cell_lm.evaluation.span import Matrix, leading_components

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """Components of cells.

    Attributes
    ----------
    genes : ndarray
        int64 [genes]: columns of the vocabulary that are used, ascending.
    mean : ndarray
        float64 [genes], of cells of length 1.
    directions : ndarray
        float64 [components, genes], divided by the standard deviation of the first component.
    """

    genes: NDArray[np.int64]
    mean: Floats
    directions: Floats

    @classmethod
    def of(cls, values: sparse.csr_matrix[np.float32], genes: NDArray[np.int64], most: int, seed: int) -> Components:
        """Compute the components of cells.

        Parameters
        ----------
        values
            Values of the genes [cells, vocabulary].
        genes
            Genes to use, those that were measured in all cells.
        most
            Most components.
        seed
            Seed of the decomposition of more than 2,000 cells.

        Raises
        ------
        InputError
            All cells are the same.
        """
        unit = _unit(values[:, genes])
        space = leading_components(unit, most, seed)
        first = float(np.std(space(unit)[:, 0])) if len(space.directions) else 0.0
        if not first > 0:
            found = f"all {values.shape[0]:,} cells have the same values"
            raise InputError(found, where="components", fix="Check what the matrix holds")
        return cls(genes, space.mean, space.directions / first)

    def __call__(self, values: sparse.csr_matrix[np.float32], measured: NDArray[np.int64]) -> Floats:
        """Return the components of cells, float64 [cells, components].

        Genes that were not measured count as average.

        Parameters
        ----------
        values
            Values of the genes [cells, vocabulary].
        measured
            The genes that were measured, ascending.
        """
        there = np.isin(self.genes, measured)
        unit = _unit(values[:, self.genes[there]])
        if not there.all():
            unit = unit * np.sqrt(_share(self.mean, there))
        directions, mean = self.directions[:, there], self.mean[there]
        return np.asarray(np.asarray(unit @ directions.T) - mean @ directions.T, np.float64)

    def weights(self, coefficients: Floats) -> Floats:
        """Return one coefficient per gene [genes] from those of the components."""
        return np.asarray(coefficients @ self.directions[: len(coefficients)])


def spreads_of(values: sparse.csr_matrix[np.float32]) -> NDArray[np.float64]:
    """Return the standard deviation of each gene over cells of length 1."""
    unit: sparse.csr_matrix[np.float32] = normalize(values)
    mean = np.asarray(unit.mean(axis=0)).ravel()
    squares = np.asarray(unit.multiply(unit).mean(axis=0)).ravel()
    return np.asarray(np.sqrt(np.maximum(squares - mean**2, 0.0)), np.float64)


def _unit(values: Matrix) -> Matrix:
    unit: Matrix = normalize(values)
    return unit


def _share(mean: Floats, there: NDArray[np.bool_]) -> float:
    """Return the share of the squared length of the mean cell in some genes."""
    whole = float(mean @ mean)
    return float(mean[there] @ mean[there]) / whole if whole > 0 else 1.0
