"""Masked language modelling: hide the expression of some genes and predict its bin from the other genes.

Predicting a gene costs more than reading one. In a cell with many genes only some of the hidden ones are
predicted, drawn at random: its loss has the same expectation, and such cells weigh less in the mean over genes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.data.loading.batch import CellBatch, to_device
from cell_lm.nn.counter import Counter, keep_mask, keep_rows
from cell_lm.nn.layout import cell_of_gene

MASK_SITE, READ_SITE = -1, -2
"""Sites of masking and of gene subsampling in the counter; sites of the network are not negative."""


def _draw(batch: CellBatch, counter: Counter, site: int, rate: float) -> Tensor:
    keys = counter.rows(cell_of_gene(batch), batch.genes)
    return ~keep_mask(keys, site, 1, rate).squeeze(1)


def choose_hidden(batch: CellBatch, counter: Counter, rate: float) -> Tensor:
    """Choose the genes whose expression is hidden, each with probability ``rate``, as bool [T]."""
    return _draw(batch, counter, MASK_SITE, rate)


def choose_predicted(batch: CellBatch, counter: Counter, rate: float, most: int) -> Tensor:
    """Choose which of the genes that :func:`choose_hidden` hides are predicted, as bool [T].

    Each of them is, in a cell where ``rate`` hides no more than ``most`` genes on average; in a cell of n genes each is
    with probability ``most / (rate n)``.
    """
    cell = cell_of_gene(batch)
    lengths = to_device(batch.lengths, batch.genes.device)
    rates = (most / lengths.double()).clamp(max=rate)
    return ~keep_rows(counter.rows(cell, batch.genes), MASK_SITE, rates[cell])


def choose_read(batch: CellBatch, counter: Counter, fraction: float) -> Tensor:
    """Choose the genes that a view reads, each with probability ``fraction``, as bool [T]."""
    return ~_draw(batch, counter, READ_SITE, 1.0 - fraction)


def masked_loss(logits: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy (nats) of logits [M, bins] against bins [M], and the number correct."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    loss = F.cross_entropy(logits.to(wide), bins, reduction="sum")
    return loss, (logits.detach().argmax(-1) == bins).sum()


def frequent_bin_accuracy(training: CellBatch, held_out: CellBatch, bins: int) -> float:
    """Return the accuracy in held-out cells of predicting each gene's most frequent bin in the training cells.

    This baseline uses the gene but not the cell. A gene without training cells gets the most frequent bin of all genes.
    """
    counts = torch.zeros(int(max(training.genes.max(), held_out.genes.max())) + 1, bins, dtype=torch.int64)
    counts.index_put_((training.genes, training.bins), torch.ones_like(training.genes), accumulate=True)
    guess = torch.where(counts.any(1), counts.argmax(1), counts.sum(0).argmax())
    return float((guess[held_out.genes] == held_out.bins).double().mean())
