"""The main path in closed form: two ridge regressions of standardised responses on genes.

*Low-rank* ("L"): kernel ridge with a linear kernel. Responses are gap-filled and rotated to their principal components,
and each component has its own strength, the one with the least error when each line is left out in turn (closed form:
residual / (1 - leverage)). *Gene-weighted* ("D"): a ridge per drug on the genes that correlate most with its response,
each gene multiplied by the absolute correlation.

Both are linear in the genes, so each is kept as one matrix of weights [genes, drugs].
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]

STRENGTHS = np.geomspace(0.01, 1000.0, 21)
"""Ridge strengths, relative to the mean eigenvalue of the kernel."""
TOP_GENES = 500
_SAMPLE = 12
"""Drugs on which the common strength of the gene-weighted ridge is chosen."""
_LEAST_LINES = 5


def fit_low_rank(genes: Floats, filled: Floats) -> Floats:
    """Return weights float64 [genes, drugs] of the low-rank ridge.

    Parameters
    ----------
    genes
        Standardised expression [lines, genes], centred.
    filled
        Standardised responses [lines, drugs] without gaps.
    """
    centre = filled.mean(axis=0)
    _, _, directions = np.linalg.svd(filled - centre, full_matrices=False)
    components = (filled - centre) @ directions.T
    eigenvalues, vectors = linalg.eigh(genes @ genes.T)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    dual = _leave_one_out_ridge(eigenvalues, vectors, components)
    return np.asarray(genes.T @ (dual @ directions))


def _leave_one_out_ridge(eigenvalues: Floats, vectors: Floats, targets: Floats) -> Floats:
    """Return dual coefficients [lines, targets], each target at the strength with the least leave-one-out error."""
    rotated, unit = vectors.T @ targets, float(eigenvalues.mean()) or 1.0
    best, dual = np.full(targets.shape[1], np.inf), np.zeros_like(targets)
    for strength in STRENGTHS * unit:
        shrunk = eigenvalues / (eigenvalues + strength)
        leverage = (vectors**2) @ shrunk
        free = np.maximum(1.0 - leverage - 1 / len(targets), 1e-6)  # the mean, too, is one of the other lines
        left_out = (targets - vectors @ (shrunk[:, None] * rotated)) / free[:, None]
        error = (left_out**2).mean(axis=0)
        better = error < best
        best[better] = error[better]
        dual[:, better] = (vectors @ (rotated / (eigenvalues + strength)[:, None]))[:, better]
    return dual


def fit_gene_weighted(genes: Floats, responses: Floats, *, top: int = TOP_GENES) -> Floats:
    """Return weights float64 [genes, drugs] of the gene-weighted ridge.

    Parameters
    ----------
    genes
        Standardised expression [lines, genes].
    responses
        Standardised responses [lines, drugs], NaN where not measured.
    top
        Genes per drug.

    Notes
    -----
    The strength, relative to the mean eigenvalue, is the same for all drugs: the one with the least leave-one-out error
    over the :data:`_SAMPLE` drugs with the most lines. Gram matrices are computed in float32.
    """
    lines_of = np.isfinite(responses).sum(axis=0)
    correlation = _correlations(genes, responses)
    many = np.argsort(-lines_of, kind="stable")[:_SAMPLE]
    parts = (_Weighted(genes, responses[:, drug], correlation[:, drug], top) for drug in many)
    strength = _common_strength(part for part in parts if len(part.y) >= _LEAST_LINES)
    weights = np.zeros((genes.shape[1], responses.shape[1]))
    for drug in np.flatnonzero(lines_of >= _LEAST_LINES):
        part = _Weighted(genes, responses[:, drug], correlation[:, drug], top)
        weights[part.chosen, drug] = part.solve(strength)
    return weights


def _correlations(genes: Floats, responses: Floats) -> Floats:
    """Return |Pearson's correlation| of every gene with every drug over its measured lines, float64 [genes, drugs]."""
    seen = np.isfinite(responses).astype(np.float64)
    count = np.maximum(seen.sum(axis=0), 1)
    y = np.where(seen > 0, responses, 0.0)
    y = (y - y.sum(axis=0) / count) * seen
    mean, square = genes.T @ seen / count, (genes**2).T @ seen / count
    spread = np.sqrt(np.maximum(square - mean**2, 1e-12))
    norm = np.sqrt((y**2).sum(axis=0) / count)
    return np.asarray(np.abs(genes.T @ y / count) / np.maximum(spread * norm, 1e-12))


class _Weighted:
    """The genes of one drug, weighted by correlation, and its responses; both centred over the measured lines."""

    def __init__(self, genes: Floats, response: Floats, correlation: Floats, top: int) -> None:
        rows = np.flatnonzero(np.isfinite(response))
        self.chosen = np.sort(np.argsort(-correlation, kind="stable")[:top])
        self.scale = correlation[self.chosen]
        X = (genes[np.ix_(rows, self.chosen)] * self.scale).astype(np.float32)
        self.X = X - X.mean(axis=0)
        self.y = response[rows] - response[rows].mean() if len(rows) else np.empty(0)

    def solve(self, strength: float) -> Floats:
        """Return the weights of the chosen genes."""
        K = (self.X @ self.X.T).astype(np.float64)
        K[np.diag_indices_from(K)] += strength * np.trace(K) / len(self.y) + 1e-9
        return np.asarray(self.scale * (self.X.T @ linalg.solve(K, self.y, assume_a="pos")))


def _common_strength(parts: Iterable[_Weighted]) -> float:
    errors = np.zeros(len(STRENGTHS))
    for part in parts:
        values, vectors = linalg.eigh((part.X @ part.X.T).astype(np.float64))
        values, y = np.maximum(values, 0.0), part.y
        unit, rotated = float(values.mean()) or 1.0, vectors.T @ y
        for place, strength in enumerate(STRENGTHS * unit):
            shrunk = values / (values + strength)
            free = np.maximum(1.0 - (vectors**2) @ shrunk - 1 / len(y), 1e-6)
            errors[place] += float((((y - vectors @ (shrunk * rotated)) / free) ** 2).mean())
    return float(STRENGTHS[errors.argmin()])
