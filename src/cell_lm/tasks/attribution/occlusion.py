"""Occlusion: the drop of the score when each gene is removed in turn.

References
----------
.. [1] Zeiler & Fergus (2014). Visualizing and understanding convolutional networks. ECCV.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch
from cell_lm.tasks.attribution.explained import Explained


@torch.no_grad()
def occlusion(explained: Explained, batch: CellBatch, targets: NDArray[np.int64], budget: int) -> NDArray[np.float64]:
    """Return the score of the whole cell minus the score without each of its genes, float64 [T]."""
    lost = np.zeros(batch.tokens)
    for number, cost in enumerate(explained.costs(batch)):
        cell, target = batch[number : number + 1], targets[number : number + 1]
        first, genes = int(batch.offsets[number]), cell.tokens
        whole = explained.scores(cell, torch.ones(1, genes, device=batch.genes.device), target)
        step = max(1, budget // int(cost))
        for start in range(0, genes, step):
            stop = min(start + step, genes)
            scores = explained.scores(cell, _without_each(genes, start, stop, batch.genes.device), target)
            lost[first + start : first + stop] = (whole - scores)[:, 0].cpu().numpy()
    return lost


def _without_each(genes: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Return presences [stop - start, genes] in each of which one gene is missing."""
    presence = torch.ones(stop - start, genes, device=device)
    presence[torch.arange(stop - start), torch.arange(start, stop)] = 0.0
    return presence
