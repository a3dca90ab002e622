"""Integrated gradients along presence, and the plain gradient where all genes are present.

The path leads from a cell without genes (presence 0) to the cell (1), all genes at once; the attribution of a gene is
the integral of the gradient by its presence. The attributions of a cell therefore sum to the difference of the scores
("completeness").

References
----------
.. [1] Sundararajan, Taly & Yan (2017). Axiomatic attribution for deep networks. ICML, equation 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch
from cell_lm.tasks.attribution.explained import Explained, pieces


def path_gradients(
    explained: Explained,
    batch: CellBatch,
    targets: NDArray[np.int64],
    levels: NDArray[np.float64],
    weights: NDArray[np.float64],
    budget: int,
) -> NDArray[np.float64]:
    """Return a weighted sum of gradients along the path on which all genes are equally present.

    Parameters
    ----------
    explained
        The function.
    batch
        C cells.
    targets
        int64 [C].
    levels, weights
        [steps]: presence of all genes at each point of the path, and the weight of the point.
    budget
        Most tokens in one pass.

    Returns
    -------
    ndarray
        float64 [T].
    """
    summed = np.zeros(batch.tokens)
    at, weight = (torch.from_numpy(x).to(batch.genes.device) for x in (levels, weights))
    for cells, steps in pieces(explained.costs(batch), len(levels), budget):
        part = batch[cells]
        presence = at[steps, None].float().repeat(1, part.tokens).requires_grad_()
        total = (explained.scores(part, presence, targets[cells]) * weight[steps, None]).sum()
        (slopes,) = torch.autograd.grad(total, presence)
        summed[batch.offsets[cells.start] : batch.offsets[cells.stop]] += _over_steps(slopes)
    return summed


def integrated_gradients(
    explained: Explained, batch: CellBatch, targets: NDArray[np.int64], steps: int, budget: int
) -> NDArray[np.float64]:
    """Return integrated gradients, float64 [T], by Gauss-Legendre quadrature at ``steps`` points."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return path_gradients(explained, batch, targets, (nodes + 1) / 2, weights / 2, budget)


def plain_gradient(
    explained: Explained, batch: CellBatch, targets: NDArray[np.int64], budget: int
) -> NDArray[np.float64]:
    """Return gradient times presence where all genes are present, float64 [T]."""
    return path_gradients(explained, batch, targets, np.ones(1), np.ones(1), budget)


def _over_steps(slopes: Tensor) -> NDArray[np.float64]:
    return slopes.double().sum(0).cpu().numpy()
