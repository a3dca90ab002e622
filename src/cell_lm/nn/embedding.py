"""The input of the encoder: for each expressed gene, a gene vector plus an expression vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.nn.linear import Linear


class BinnedExpression(nn.Module):
    """One trainable vector for each expression bin, and one for a hidden expression (the paper's encoding)."""

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.bins = bins
        self.table = nn.Embedding(bins + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, batch: CellBatch, hidden: Tensor | None) -> Tensor:
        """Return the vector of each expression, [T, width]; ``hidden`` as bool [T]."""
        bins = batch.bins if hidden is None else batch.bins.masked_fill(hidden, self.bins)
        expression: Tensor = self.table(bins)
        return expression

    def hidden_vector(self) -> Tensor:
        """Return the vector of a hidden expression, [width]."""
        return self.table.weight[self.bins]


class ContinuousExpression(nn.Module):
    """A small network of log1p of the counts per 10,000, and one trainable vector for a hidden expression."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(Linear(1, width), nn.SiLU(), Linear(width, width))
        self.mask = nn.Parameter(torch.empty(width).normal_(std=0.02))

    def forward(self, batch: CellBatch, hidden: Tensor | None) -> Tensor:
        """Return the vector of each expression, [T, width]; ``hidden`` as bool [T]."""
        values = batch.values.to(self.mask.dtype)[:, None]
        expression: Tensor = self.network(values)
        return (
            expression if hidden is None else torch.where(hidden[:, None], self.mask.to(expression.dtype), expression)
        )

    def hidden_vector(self) -> Tensor:
        """Return the vector of a hidden expression, [width]."""
        return self.mask


class CellEmbedding(nn.Module):
    """Gene vector plus expression vector, [T, width]; a hidden gene keeps its gene vector and loses its expression.

    Parameters
    ----------
    config
        Configuration of the encoder.
    genes
        Size of the vocabulary.
    """

    def __init__(self, config: EncoderConfig, genes: int) -> None:
        super().__init__()
        self.genes = nn.Embedding(genes, config.gene_width)
        nn.init.normal_(self.genes.weight, std=0.02)
        same = config.gene_width == config.width
        self.project = nn.Identity() if same else Linear(config.gene_width, config.width, bias=False)
        self.expression = (
            BinnedExpression(config.bins, config.width)
            if config.expression == "bins"
            else ContinuousExpression(config.width)
        )

    def forward(self, batch: CellBatch, hidden: Tensor | None) -> Tensor:
        """Return the input of the encoder, [T, width]; ``hidden`` as bool [T]."""
        embedded: Tensor = self.project(self.genes(batch.genes)) + self.expression(batch, hidden)
        return embedded

    def queries(self, genes: Tensor) -> Tensor:
        """Return the queries of hidden genes, [M, width]: gene vector plus the vector of a hidden expression."""
        queries: Tensor = self.project(self.genes(genes)) + self.expression.hidden_vector()
        return queries
