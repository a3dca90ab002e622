"""Which genes of a cell attention reads: all of them, or those most informative about the cell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch, to_device
from cell_lm.nn.layout import HiddenGenes, Segments, cell_of_gene


@dataclass(frozen=True)
class Attended:
    """Some genes of each cell of a batch.

    Attributes
    ----------
    index : Tensor
        int64, ascending: their indices among the genes of the batch.
    offsets : ndarray
        int64 [C + 1]: the genes of cell ``c`` are ``index[offsets[c]:offsets[c + 1]]``.
    """

    index: Tensor
    offsets: NDArray[np.int64]

    def of(self, batch: CellBatch) -> CellBatch:
        """Return the batch with these genes only; nothing waits for a GPU."""
        genes, bins, values = (part.index_select(0, self.index) for part in (batch.genes, batch.bins, batch.values))
        return replace(batch, genes=genes, bins=bins, values=values, offsets=self.offsets)


def attended_genes(batch: CellBatch, score: Tensor, masked: HiddenGenes | None, most: int) -> Attended | None:
    """Choose at most ``most`` genes per cell, those of the highest score; predicted genes are chosen besides.

    Parameters
    ----------
    batch
        The cells, with T genes over all.
    score
        [T]: a function of the cell alone, not negative, compared as float32. On ties the gene that comes first in the
        vocabulary is chosen, wherever it is in the cell.
    masked
        The hidden genes, if any, and those of them that are predicted.
    most
        Most genes of a cell that are not predicted.

    Returns
    -------
    Attended or None
        None if all genes are chosen.
    """
    predicted = np.zeros(len(batch), np.int64) if masked is None else masked.lengths
    chosen = predicted + np.minimum(batch.lengths - predicted, most)
    if (chosen == batch.lengths).all():
        return None
    device, cell = batch.genes.device, cell_of_gene(batch)
    if masked is not None:
        score = score.index_fill(0, masked.index, torch.inf)
    by_score = torch.argsort(_rank(score, batch.genes))
    order = by_score[torch.sort(cell[by_score], stable=True).indices]
    every, few = Segments.of(batch.lengths, device), Segments.of(chosen, device)
    target = torch.arange(few.rows, device=device)
    owner = torch.arange(len(batch), device=device).repeat_interleave(to_device(chosen, device), output_size=few.rows)
    index = torch.sort(order[target - few.offsets[owner] + every.offsets[owner]]).values
    return Attended(index, np.concatenate([np.zeros(1, np.int64), np.cumsum(chosen)]))


def _rank(score: Tensor, genes: Tensor) -> Tensor:
    """Return int64 [T], smaller for a higher score, on ties for the gene that is first in the vocabulary."""
    bits = score.float().view(torch.int32).long()  # floats that are not negative have the order of their bits
    return (torch.iinfo(torch.int32).max - bits << 32) | genes
