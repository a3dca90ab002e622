r"""The reference of the linear path: an expression profile, the genes that vary, and their principal components.

Residuals are analytic Pearson residuals against the profile (:mod:`cell_lm.nn.linear_path` has the formula). The genes
of the reference are those whose residuals have the largest variance over the cells. A reference can be extended by
other cells: its components, as long as their standard deviations, then stand for the cells that they were computed
from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.errors import InputError

DISPERSION, CLIP = 100.0, 10.0
"""Of the Pearson residuals: theta of their variance, and their largest absolute value."""
_BLOCK = 2_000
"""Genes whose variances are computed at once."""
_LEAST_COUNTS = 3
"""A gene with fewer counts over all cells is not in the reference."""
_ITERATIONS = 4

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A profile and components.

    Attributes
    ----------
    genes : ndarray
        int64 [s], ascending: genes of the vocabulary.
    components : ndarray
        float32 [s, width]: loadings, orthonormal columns; zero beyond the rank.
    centre, spread : ndarray
        float32 [width]: mean and standard deviation of the components over the cells.
    profile : ndarray
        float32 [vocabulary]: the fraction of all counts of every gene; 0 where no cell expresses it.
    """

    genes: NDArray[np.int64]
    components: Floats32
    centre: Floats32
    spread: Floats32
    profile: Floats32


def compute_reference(counts: sparse.csr_matrix[np.float32], size: int, width: int, *, seed: int = 0) -> Reference:
    """Compute the reference of cells.

    Parameters
    ----------
    counts
        [cells, vocabulary], non-negative.
    size
        Most genes of the reference.
    width
        Number of components.
    seed
        Seed of the decomposition.

    Raises
    ------
    InputError
        There are fewer than two cells.
    """
    return _decompose(counts, _profile(counts), size, width, seed, None, 0.0)


def extend_reference(
    before: Reference, counts: sparse.csr_matrix[np.float32], size: int, *, weight: float = 0.5, seed: int = 0
) -> Reference:
    """Extend a reference by the cells of another corpus.

    Parameters
    ----------
    before
        The reference; all its genes stay.
    counts
        [cells, vocabulary].
    size
        Most genes of the result, at least those of ``before``.
    weight
        Weight of the new cells, 0 to 1: their covariance counts this much, that of ``before`` the rest.
    seed
        Seed of the decomposition.

    Returns
    -------
    Reference
        Its profile is the mean of both profiles, weighted alike.
    """
    profile = (1 - weight) * before.profile + weight * _profile(counts)
    return _decompose(counts, profile.astype(np.float32), size, before.components.shape[1], seed, before, weight)


def _decompose(
    counts: sparse.csr_matrix[np.float32],
    profile: Floats32,
    size: int,
    width: int,
    seed: int,
    before: Reference | None,
    weight: float,
) -> Reference:
    from sklearn.utils.extmath import randomized_svd  # costs 40 MB and a second, and is needed only here

    if counts.shape[0] < 2:
        raise InputError("a reference needs two cells or more", where="the cells to compute it from")
    genes = _variable_genes(counts, size, before)
    residual = pearson_residuals(counts, profile, genes)
    mean = residual.mean(axis=0)
    residual -= mean
    rows = residual / np.float32(np.sqrt(len(residual)))
    if before is not None:
        old = np.zeros((len(before.spread), len(genes)), np.float32)
        old[:, np.searchsorted(genes, before.genes)] = (before.components * before.spread).T
        rows = np.concatenate([np.float32(np.sqrt(weight)) * rows, np.float32(np.sqrt(1 - weight)) * old])
    rank = min(width, min(rows.shape))
    _, strength, right = randomized_svd(rows, rank, n_iter=_ITERATIONS, random_state=seed)
    components, spread = np.zeros((len(genes), width), np.float32), np.zeros(width, np.float32)
    components[:, :rank], spread[:rank] = right.T, strength
    return Reference(genes, components, mean @ components, spread, profile)


def _profile(counts: sparse.csr_matrix[np.float32]) -> Floats32:
    totals = np.asarray(counts.sum(axis=0, dtype=np.float64)).ravel()
    shares: Floats32 = (totals / totals.sum()).astype(np.float32)
    return shares


def pearson_residuals(counts: sparse.csr_matrix[np.float32], profile: Floats32, genes: NDArray[np.int64]) -> Floats32:
    """Return the clipped Pearson residuals of some genes, float32 [cells, genes]; 0 where the profile is 0."""
    depth = np.asarray(counts.sum(axis=1, dtype=np.float64)).astype(np.float32)
    expected = depth.reshape(-1, 1) * profile[genes]
    residual = counts[:, genes].toarray() - expected
    residual /= np.sqrt(np.maximum(expected + expected**2 / DISPERSION, 1e-12))
    residual[:, profile[genes] == 0] = 0
    np.clip(residual, -CLIP, CLIP, out=residual)
    return residual


def _variable_genes(counts: sparse.csr_matrix[np.float32], size: int, before: Reference | None) -> NDArray[np.int64]:
    """Return the genes of the largest residual variance against the cells' own profile, and all those of ``before``."""
    totals, own = np.asarray(counts.sum(axis=0)).ravel(), _profile(counts)
    candidates = np.flatnonzero(totals >= _LEAST_COUNTS)
    variance = np.zeros(counts.shape[1], np.float32)
    for start in range(0, len(candidates), _BLOCK):
        block = candidates[start : start + _BLOCK]
        variance[block] = pearson_residuals(counts, own, block).var(axis=0)
    if before is not None:
        variance[before.genes] = np.inf
    chosen = np.argsort(-variance, kind="stable")[:size]
    return np.sort(chosen[variance[chosen] > 0])


def gene_loadings(counts: sparse.csr_matrix[np.float32], reference: Reference) -> Floats32:
    """Return a vector for every gene: the covariance of its residual with the standardised components of the cells.

    Parameters
    ----------
    counts
        [cells, vocabulary].
    reference
        Its components need not have been computed from these cells.

    Returns
    -------
    ndarray
        float32 [vocabulary, width]; 0 for genes that no cell expresses.
    """
    components = pearson_residuals(counts, reference.profile, reference.genes) @ reference.components
    components -= reference.centre
    standard = components / np.maximum(reference.spread, 1e-6) / len(components)
    found = np.zeros((counts.shape[1], components.shape[1]), np.float32)
    expressed = np.unique(counts.indices)
    for start in range(0, len(expressed), _BLOCK):
        block = expressed[start : start + _BLOCK].astype(np.int64)
        found[block] = pearson_residuals(counts, reference.profile, block).T @ standard
    return found
