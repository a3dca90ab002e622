"""Genes that are only partly present: attention in which every key has a weight between 0 (absent) and 1 (present).

A key's weight multiplies its share of the attention before the shares are divided by their sum: the logarithm of the
weight is added to its logit. A key of weight 0 is therefore exactly a key that is absent, and with all weights 1 the
attention is the ordinary one. Shares alone would make a cell of half-present genes the same as the whole cell; so what
the *most* present gene of a cell lacks goes to a null key, which has the share of all its genes: it stands for CLS
(``full``, ``performer``), which is all that a cell without genes has, or for a vector of zeros (``latent``). Where one
gene is wholly present, the null key has no weight.

Shapes: C cells, T genes over all of them, V variants of the presence, H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cell_lm.nn.layout import AttentionLayout


@dataclass(frozen=True)
class PresencePart:
    """The presence of the keys of c cells that are computed at once.

    Attributes
    ----------
    keys : Tensor
        [c, V, m], 0 to 1; 0 for padding.
    null : Tensor
        [c, V]: the weight of the null key, 0 to 1.
    cls : int
        Keys in front of the genes of a cell: 1 where CLS is one, else 0.
    """

    keys: Tensor
    null: Tensor
    cls: int


@dataclass(frozen=True)
class Presence:
    """The presence of the keys of each cell of a batch.

    Attributes
    ----------
    keys : Tensor
        [V, keys over all cells].
    null : Tensor
        [V, C].
    cls : int
        Keys of each cell in front of its genes: 1 where CLS is one, else 0.
    """

    keys: Tensor
    null: Tensor
    cls: int

    @classmethod
    def of(cls, genes: Tensor, offsets: NDArray[np.int64]) -> Presence:
        """Return the presence of genes alone: ``genes`` [V, T], ``offsets`` as in a batch."""
        return cls(genes, _null_weight(genes, offsets), 0)

    def with_cls(self, order: Tensor) -> Presence:
        """Return it with a CLS a cell, always present, put in by ``order``, the permutation of genes and then CLS."""
        keys = torch.cat([self.keys, self.keys.new_ones(len(self.keys), self.null.shape[1])], dim=1)
        return Presence(keys[:, order], self.null, 1)

    def by_cell(self, layout: AttentionLayout) -> Iterator[PresencePart]:
        """Yield the part of each cell."""
        parts: tuple[Tensor, ...] = torch.split(self.keys, layout.keys.sizes, dim=1)
        for keys, null in zip(parts, self.null.unbind(1), strict=True):
            yield PresencePart(keys[None], null[None], self.cls)

    def by_bucket(self, layout: AttentionLayout) -> Iterator[PresencePart]:
        """Yield the part of each bucket."""
        buckets = layout.buckets
        for bucket, keys in zip(buckets.buckets, buckets.split_keys(self.keys.T), strict=True):
            yield PresencePart(keys.mT, self.null.T.index_select(0, bucket.cells), self.cls)


def _null_weight(genes: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Return what the most present gene of each cell lacks, [V, C]; 1 in a cell that has no gene."""
    parts: tuple[Tensor, ...] = torch.split(genes, np.diff(offsets).tolist(), dim=1)
    most = [part.amax(dim=1) if part.shape[1] else part.new_zeros(len(part)) for part in parts]
    missing = 1.0 - torch.stack(most, dim=1) if most else genes.new_zeros(len(genes), 0)
    # where a gene is wholly present, removing any single one gives the null key no weight: the slope is 0, too
    return torch.where(missing > 0, missing, torch.zeros_like(missing))


def present_attention(
    query: Tensor, key: Tensor, value: Tensor, filled: Tensor | None, presence: PresencePart
) -> Tensor:
    """Exact attention of c cells whose keys are partly present.

    Parameters
    ----------
    query
        [c, V * g, H, K]: the same number g of rows for each variant, one variant after the other.
    key, value
        [c, m, H, K].
    filled
        bool [c, m]: keys that are not padding; None: all.
    presence
        Of the m keys.

    Returns
    -------
    Tensor
        [c, V * g, H, K].
    """
    logits = torch.einsum("cnhk,cmhk->chnm", query * query.shape[-1] ** -0.5, key)
    if not key.shape[1]:
        return torch.zeros_like(query)
    if filled is not None:
        logits = logits.masked_fill(~filled[:, None, None], -torch.inf)
    shares = (logits - logits.detach().amax(-1, keepdim=True)).exp()
    cells, heads, _, keys = shares.shape
    variants = shares.view(cells, heads, presence.keys.shape[1], -1, keys)
    null = variants[..., presence.cls :].sum(-1) * presence.null[:, None, :, None]
    weighted = variants * presence.keys[:, None, :, None]
    total = (weighted.sum(-1) + null).flatten(2).mT
    attended = torch.einsum("chnm,cmhk->cnhk", weighted.flatten(2, 3), value)
    if presence.cls:
        attended = attended + null.flatten(2).mT[..., None] * value[:, :1]
    result: Tensor = attended / total.clamp(min=torch.finfo(total.dtype).tiny)[..., None]
    return result
