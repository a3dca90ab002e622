"""References that no cell gave: every gene, component and moment is random, so that nothing cancels by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.data.loading.batch import PER_CELL, CellBatch
from cell_lm.genes.reference import Reference
from cell_lm.nn.linear_path import LinearPath

EXPRESSED = 300
"""Genes of the vocabulary that made cells express."""


def made_reference(genes: int, size: int, width: int, *, seed: int = 0) -> Reference:
    """A reference of fewer genes than there is room for, over genes that made cells express."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(min(genes, EXPRESSED), size - 4, replace=False))
    components = np.zeros((len(chosen), width), np.float32)
    rank = min(width, len(chosen))
    components[:, :rank] = np.linalg.qr(rng.normal(size=(len(chosen), rank)))[0]
    profile = np.zeros(genes)
    profile[: min(genes, EXPRESSED)] = rng.gamma(0.5, 1.0, min(genes, EXPRESSED)) + 1e-3
    profile[rng.choice(np.setdiff1d(np.arange(min(genes, EXPRESSED)), chosen), 9, replace=False)] = 0.0
    centre, spread = rng.normal(size=width), rng.uniform(0.5, 2.0, width)
    floats = (each.astype(np.float32) for each in (centre, spread, profile / profile.sum()))
    return Reference(chosen, components, *floats)


def set_made_reference(path: LinearPath, *, seed: int = 0) -> Reference:
    """Give a linear path of 64 genes or so a made reference; return it."""
    reference = made_reference(len(path.profile), *path.components.shape, seed=seed)
    path.set_reference(reference)
    return reference


def dense_counts(batch: CellBatch, genes: int, hidden: Tensor | None = None) -> NDArray[np.float64]:
    """The counts of every gene, [C, genes], without the hidden ones; float64."""
    counts = np.zeros((len(batch), genes))
    cell = np.repeat(np.arange(len(batch)), batch.lengths)
    found = np.expm1(batch.values.numpy().astype(np.float64)) * batch.depths.numpy().astype(np.float64)[cell] / PER_CELL
    shown = np.ones(batch.tokens, bool) if hidden is None else ~hidden.numpy()
    counts[cell[shown], batch.genes.numpy()[shown]] = found[shown]
    return counts


def dense_residuals(
    batch: CellBatch, profile: NDArray[np.floating], genes: NDArray[np.int64], hidden: Tensor | None = None
) -> NDArray[np.float64]:
    """Residuals by their formula, [C, genes of the reference]; 0 for hidden genes, whose counts are not looked at."""
    share = profile.astype(np.float64)
    counts, is_hidden = dense_counts(batch, len(share), hidden), np.zeros((len(batch), len(share)), bool)
    if hidden is not None:
        cell = np.repeat(np.arange(len(batch)), batch.lengths)[hidden.numpy()]
        is_hidden[cell, batch.genes.numpy()[hidden.numpy()]] = True
    depth = counts.sum(axis=1) / (1.0 - (is_hidden * share).sum(axis=1))
    expected = depth[:, None] * share[genes]
    residual = (counts[:, genes] - expected) / np.sqrt(expected + expected**2 / 100.0)
    residual[is_hidden[:, genes]] = 0.0
    return residual.clip(-10.0, 10.0)
