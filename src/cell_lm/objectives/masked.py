"""Masked language modelling: hide the expression of some genes and name its bin from the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.data.batch import CellBatch
from cell_lm.nn.counter import Counter, keep_mask
from cell_lm.nn.encoder import cell_of_gene

MASK_PLACE, READ_PLACE = -1, -2
"""Places of masking and of reading in the counter; the network's places are not negative."""


def _draw(batch: CellBatch, counter: Counter, place: int, rate: float) -> Tensor:
    keys = counter.rows(cell_of_gene(batch), batch.genes)
    return ~keep_mask(keys, place, 1, rate).squeeze(1)


def choose_hidden(batch: CellBatch, counter: Counter, rate: float) -> Tensor:
    """Choose the genes whose expression is hidden, each with probability ``rate``, as bool [T]."""
    return _draw(batch, counter, MASK_PLACE, rate)


def choose_read(batch: CellBatch, counter: Counter, share: float) -> Tensor:
    """Choose the genes that a view reads at all, each with probability ``share``, as bool [T]."""
    return ~_draw(batch, counter, READ_PLACE, 1.0 - share)


def masked_loss(logits: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy (nats) of logits [M, bins] against bins [M], and how many were named right."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    loss = F.cross_entropy(logits.to(wide), bins, reduction="sum")
    return loss, (logits.detach().argmax(-1) == bins).sum()


def frequent_bin_accuracy(batch: CellBatch, bins: int) -> float:
    """Return how often each gene's most frequent bin is right, judged on the cells it was counted on.

    What a guess reaches that knows the gene and not the cell; counted and judged on the same cells, so it is flattered.
    """
    counts = torch.bincount(batch.genes * bins + batch.bins)
    counts = torch.nn.functional.pad(counts, (0, -len(counts) % bins)).view(-1, bins)
    return float(counts.amax(1).sum() / counts.sum())
