"""Genes that are only partly present: attention in which every key has a weight between 0 (absent) and 1 (present).

A key's weight multiplies its unnormalised attention: the logarithm of the weight is added to its logit. A key of weight
0 is therefore exactly absent, and with all weights 1 the attention is the ordinary one. Weights alone would make a cell
of half-present genes the same as the whole cell. One minus the presence of the *most* present gene of a cell is
therefore the weight of a null key, which has the attention of all its genes. Its value is that of CLS (``full``,
``performer``), the only row of a cell without genes, or a vector of zeros (``latent``). If one gene is fully present,
the null key has no weight.

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
    """The presence of the keys of c cells that are computed together.

    Attributes
    ----------
    keys : Tensor
        [c, V, m], 0 to 1; 0 for padding.
    null : Tensor
        [c, V]: the weight of the null key, 0 to 1.
    cls : int
        Keys in front of the genes of a cell: 1 if CLS is a key, else 0.
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
        Keys in front of the genes of each cell: 1 if CLS is a key, else 0.
    """

    keys: Tensor
    null: Tensor
    cls: int

    @classmethod
    def of(cls, genes: Tensor, offsets: NDArray[np.int64]) -> Presence:
        """Return the presence of genes without CLS: ``genes`` [V, T], ``offsets`` as in a batch."""
        return cls(genes, _null_weight(genes, offsets), 0)

    def with_cls(self, order: Tensor) -> Presence:
        """Return it with a CLS per cell, always present, inserted by ``order``, the permutation of genes, then CLS."""
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
    """Return one minus the presence of the most present gene of each cell, [V, C]; 1 for a cell without genes."""
    parts: tuple[Tensor, ...] = torch.split(genes, np.diff(offsets).tolist(), dim=1)
    most = [part.amax(dim=1) if part.shape[1] else part.new_zeros(len(part)) for part in parts]
    missing = 1.0 - torch.stack(most, dim=1) if most else genes.new_zeros(len(genes), 0)
    # if a gene is fully present, removing any single one gives the null key no weight: its gradient is 0, too
    return torch.where(missing > 0, missing, torch.zeros_like(missing))


def present_attention(
    query: Tensor, key: Tensor, value: Tensor, filled: Tensor | None, presence: PresencePart
) -> Tensor:
    """Exact attention of c cells whose keys are partly present.

    Parameters
    ----------
    query
        [c, V * g, H, K]: the same number g of rows for each variant, ordered by variant.
    key, value
        [c, m, H, K].
    filled
        bool [c, m]: keys that are not padding; None: all.
    presence
        Presence of the m keys.

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
