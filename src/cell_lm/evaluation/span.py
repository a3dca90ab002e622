"""Many genes, few cells: regression with an L2 penalty in the space that the cells span, without loss.

The coefficients that minimise a loss of x @ w plus |w|^2 are a weighted sum of the training cells (the representer
theorem): a part outside of their span would change no prediction and cost penalty. So it is enough to fit on the
coordinates of the cells in any orthonormal basis of that span, n numbers per cell. With A the centred cells [n, genes]
and the Cholesky factor L of A A^T = L L^T, the rows of L^-1 A are such a basis and L holds the coordinates: one
factorisation of an n x n matrix, no decomposition. Centring is free as well, as the intercept carries no penalty.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cholesky, eigh, solve_triangular
from sklearn.decomposition import PCA

Floats: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = "NDArray[np.floating[Any]] | sparse.csr_matrix[Any]"

_GENES = 1024
"""Genes per block: the whole matrix is never dense."""
_FEW_CELLS = 2000
"""The cost of dot products grows with the square of the number of cells."""
_FLAT = 1e-10
_JITTER = 1e-6
"""Fraction of the mean squared length of a cell added to the diagonal: centred cells span one dimension fewer than
n."""


class Span:
    """The space that cells span.

    Parameters
    ----------
    x
        [cells, genes], sparse or dense.

    Attributes
    ----------
    coordinates : ndarray
        float64 [cells, cells]: dot products of the rows are those of the centred cells. With no more genes than cells,
        the centred genes themselves, [cells, genes].
    mean : ndarray
        float64 [genes].
    """

    def __init__(self, x: Matrix) -> None:
        self._x = x
        self.mean: Floats = np.asarray(x.mean(axis=0, dtype=np.float64)).ravel()
        self._genes = x.shape[1] <= x.shape[0]
        if self._genes:
            self.coordinates: Floats = np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64) - self.mean
            return
        products = _products(x, self.mean)
        products[np.diag_indices(len(products))] += max(_JITTER * np.trace(products) / len(products), _JITTER**2)
        self.coordinates = cholesky(products, lower=True, overwrite_a=True, check_finite=False)

    def coefficients(self, inside: Floats) -> Floats:
        """Return coefficients for the genes [classes, genes] from those for the coordinates."""
        if self._genes:
            return inside
        each = solve_triangular(self.coordinates, inside.T, lower=True, trans="T", check_finite=False).T
        return np.asarray(np.asarray(each @ self._x) - each.sum(axis=1)[:, None] * self.mean)


class Components:
    """The leading principal components of the centred genes, exactly, from the dot products of the cells.

    Parameters
    ----------
    x
        [cells, genes], sparse or dense.
    most
        Most components; n cells have at most n - 1, and fewer where cells are identical.

    Attributes
    ----------
    mean : ndarray
        float64 [genes].
    directions : ndarray
        float64 [components, genes], of length 1, the one of the largest variance first.
    """

    def __init__(self, x: Matrix, most: int) -> None:
        self.mean: Floats = np.asarray(x.mean(axis=0, dtype=np.float64)).ravel()
        count, cells = max(1, min(most, x.shape[0] - 1, x.shape[1])), x.shape[0]
        values, vectors = eigh(_products(x, self.mean), subset_by_index=(cells - count, cells - 1))
        has = values > max(_FLAT * values[-1], np.finfo(np.float64).tiny)
        each = (vectors[:, has] / np.sqrt(values[has])).T[::-1]
        self.directions: Floats = np.asarray(each @ x) - each.sum(axis=1)[:, None] * self.mean

    def __call__(self, x: Matrix) -> Floats:
        """Return the coordinates of cells, float64 [cells, components]."""
        return np.asarray(np.asarray(x @ self.directions.T) - self.mean @ self.directions.T)


class Lanczos:
    """The leading components of many cells, computed iteratively; same interface as :class:`Components`."""

    def __init__(self, x: Matrix, most: int, seed: int) -> None:
        self._pca = PCA(min(most, x.shape[1] - 1), svd_solver="arpack", random_state=seed).fit(x)
        self.mean: Floats = np.asarray(self._pca.mean_, np.float64)
        self.directions: Floats = np.asarray(self._pca.components_, np.float64)

    def __call__(self, x: Matrix) -> Floats:
        """Return the coordinates of cells, float64 [cells, components]."""
        return np.asarray(self._pca.transform(x), np.float64)


def leading_components(x: Matrix, most: int, seed: int) -> Components | Lanczos:
    """Return the leading components: exact for up to 2,000 cells, iterative from a seed for more."""
    few = x.shape[0] <= max(_FEW_CELLS, most) or x.shape[1] <= most
    return Components(x, most) if few else Lanczos(x, most, seed)


def _products(x: Matrix, mean: Floats) -> Floats:
    """Return the dot products of the centred cells, float64 [cells, cells]."""
    columns = sparse.csc_matrix(x) if sparse.issparse(x) else x
    total = np.zeros((x.shape[0], x.shape[0]))
    for start in range(0, x.shape[1], _GENES):
        genes = slice(start, start + _GENES)
        block = columns[:, genes]
        centred = (block.toarray() if sparse.issparse(block) else block) - mean[genes]
        total += centred @ centred.T
    return total
