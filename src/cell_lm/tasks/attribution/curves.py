"""Deletion curves: remove genes in the order of their attribution, and record the probability of the predicted class.

An attribution is informative if the probability falls faster than with genes removed at random. As highly expressed
genes weigh more in any case, it should also fall faster than with random genes of the same expression: after every
step, as many genes of each expression bin are removed as in the order they are compared with.

References
----------
.. [1] Petsiuk, Das & Saenko (2018). RISE: randomized input sampling for explanation of black-box models. BMVC.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.cells import CellData
from cell_lm.data.loading.batch import CellBatch
from cell_lm.errors import InputError
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.attribution.explained import Explained, pieces
from cell_lm.tasks.estimator import Progress
from cell_lm.tasks.features import TOKEN_BUDGET

RANDOM = "random"
"""Name of the random order."""
EQUAL = "random, equally expressed"
"""Name of the random order with the same expression as the first order; see :func:`deletion_curves`."""
SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""Default fractions of the genes to remove: dense where a good order changes the prediction."""
Ranks: TypeAlias = "dict[str, list[NDArray[np.int64]]]"


@dataclass(frozen=True, eq=False)
class DeletionCurves:
    """The probability of the predicted class as genes are removed.

    Attributes
    ----------
    shares : ndarray
        float64 [S], ascending: fractions of the cell's genes that are removed.
    probability : dict
        Order to float64 [cells, S]: the probability of the class predicted for the whole cell; for random orders, the
        mean over the seeds.
    called : ndarray
        int64 [cells]: that class.
    """

    shares: NDArray[np.float64]
    probability: dict[str, NDArray[np.float64]]
    called: NDArray[np.int64]

    def areas(self, order: str, most: float = 1.0) -> NDArray[np.float64]:
        """Return the mean height of the curve of each cell up to ``most``, float64 [cells]: lower is better."""
        here = self.shares <= most
        curves, widths = self.probability[order][:, here], np.diff(self.shares[here])
        return np.asarray((curves[:, 1:] + curves[:, :-1]) / 2 @ widths / widths.sum())

    def area(self, order: str, most: float = 1.0) -> float:
        """Return the mean of :meth:`areas` over the cells."""
        return float(self.areas(order, most).mean())

    def table(self) -> pd.DataFrame:
        """Return one row for each order and fraction: ``order``, ``deleted``, ``probability`` (mean over the cells)."""
        rows = [
            pd.DataFrame({"order": name, "deleted": self.shares, "probability": curves.mean(axis=0)})
            for name, curves in self.probability.items()
        ]
        return pd.concat(rows, ignore_index=True)


def deletion_curves(
    classifier: CellTypeClassifier,
    cells: CellData,
    orders: Mapping[str, sparse.csr_matrix],
    *,
    shares: Sequence[float] = SHARES,
    seeds: int = 3,
    seed: int = 0,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = None,
) -> DeletionCurves:
    """Delete genes in the order of given scores, the highest first, and in random orders.

    Parameters
    ----------
    classifier
        A fitted classifier.
    cells
        Cells aligned to its vocabulary.
    orders
        Name to scores [cells, vocabulary], as ``Attributions.values``. Two orders are added: ``"random"``, and
        ``"random, equally expressed"``, which removes as many genes of each bin as the first of the orders.
    shares
        Fractions of the genes to delete, 0 to 1, ascending.
    seeds
        Number of random orders to average.
    seed
        Seed of the random orders, which depend only on it and on the genes of the cell.
    token_budget
        Most genes in one pass; changes no result.
    progress
        Called with the number of cells completed since the last call.

    Raises
    ------
    InputError
        No order, an order of a wrong shape or a reserved name, ``shares`` that do not increase from 0 to 1, or no seed.
    """
    explained = Explained.of(classifier, cells.audit.found)
    grid = np.asarray(shares, np.float64)
    _refuse(cells, orders, grid, seeds)
    names = [*orders, RANDOM, EQUAL]
    found = {name: np.empty((len(cells), len(grid))) for name in names}
    called = np.asarray(classifier.predict_proba(cells)).argmax(axis=1)
    for block, batch in explained.blocks(cells):
        variants = (len(orders) + 2 * seeds) * len(grid)
        absent = _presences(batch, {name: order[block] for name, order in orders.items()}, grid, seeds, seed)
        calls = np.empty((variants, len(batch)))
        for part, some in pieces(explained.costs(batch), variants, token_budget):
            chunk, tokens = batch[part], slice(batch.offsets[part.start], batch.offsets[part.stop])
            presence = torch.from_numpy(absent[some, tokens]).float().to(explained.device)
            proba = explained.probabilities(chunk, presence)
            calls[some, part] = np.take_along_axis(proba, called[block][part][None, :, None], axis=2)[..., 0]
            if progress is not None and some.stop == variants:
                progress(len(chunk))
        _average(found, calls.reshape(-1, len(grid), len(batch)), block, len(orders), seeds)
    return DeletionCurves(grid, found, called)


def _average(
    found: dict[str, NDArray[np.float64]], calls: NDArray[np.float64], block: slice, orders: int, seeds: int
) -> None:
    """Assign probabilities [orders and random orders, S, C] to their orders; average random ones over the seeds."""
    named = list(found)
    for number, name in enumerate(named[:orders]):
        found[name][block] = calls[number].T
    found[RANDOM][block] = calls[orders : orders + seeds].mean(axis=0).T
    found[EQUAL][block] = calls[orders + seeds :].mean(axis=0).T


def _presences(
    batch: CellBatch,
    orders: Mapping[str, sparse.csr_matrix],
    shares: NDArray[np.float64],
    seeds: int,
    seed: int,
) -> NDArray[np.bool_]:
    """Return which genes are left, bool [(orders + 2 seeds) * S, T]."""
    genes, bins = batch.genes.cpu().numpy(), batch.bins.cpu().numpy()
    left = []
    for number in range(len(batch)):
        cell = slice(batch.offsets[number], batch.offsets[number + 1])
        given = [np.asarray(order[number].toarray()).ravel()[genes[cell]] for order in orders.values()]
        ranked = [_ranks(values) for values in given]
        own = np.random.default_rng([seed, zlib.crc32(genes[cell].tobytes())])
        ranked += [own.permutation(len(bins[cell])) for _ in range(seeds)]
        ranked += [_among_equals(ranked[0], bins[cell], own) for _ in range(seeds)]
        gone = np.rint(shares * len(bins[cell]))
        left.append((np.stack(ranked)[:, None] >= gone[:, None]).reshape(-1, len(bins[cell])))
    return np.concatenate(left, axis=1)


def _ranks(values: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the rank of each gene in the order of deletion, int64 [genes]; ties go by vocabulary order."""
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return ranks


def _among_equals(
    ranks: NDArray[np.int64], bins: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return ranks that are permuted at random among the genes of each bin."""
    mixed = ranks.copy()
    for level in np.unique(bins):
        same = np.flatnonzero(bins == level)
        mixed[same] = ranks[generator.permutation(same)]
    return mixed


def _refuse(cells: CellData, orders: Mapping[str, sparse.csr_matrix], shares: NDArray[np.float64], seeds: int) -> None:
    if not orders:
        raise InputError("no order of genes", where="deletion curve", fix="Give the values of an attribution")
    reserved = sorted({RANDOM, EQUAL} & set(orders))
    if reserved:
        raise InputError(f"an order is called '{reserved[0]}'", where="deletion curve", fix="Choose another name")
    wrong = {name: order.shape for name, order in orders.items() if order.shape != cells.X.shape}
    if wrong:
        name, shape = next(iter(wrong.items()))
        found = f"the order '{name}' is {shape[0]:,} x {shape[1]:,} for {cells.X.shape[0]:,} x {cells.X.shape[1]:,}"
        raise InputError(found, where=cells.name, fix="Give one number a gene of the vocabulary and cell")
    rising = len(shares) > 1 and (np.diff(shares) > 0).all() and shares[0] >= 0 and shares[-1] <= 1
    if not rising or seeds < 1:
        found = f"shares {shares.tolist()} and {seeds} seeds"
        raise InputError(found, where="deletion curve", fix="Give rising shares from 0 to 1, and at least 1 seed")
