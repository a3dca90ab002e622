"""Genes that are only partly there: attention in which every key has a weight between 0 (absent) and 1 (there).

A key's weight multiplies its share of the attention before the shares are divided by their sum: the logarithm of the
weight is added to its logit. A key of weight 0 is therefore exactly a key that is not there, and with all weights 1 the
attention is the ordinary one. Shares alone would make a cell of half-present genes the same as the whole cell; so what
is missing of the *most* present gene of a cell is left to nothing: with the share of all its genes for CLS (``full``,
``performer``), which is all that a cell without genes has, or for a vector of zeros (``latent``). Where one gene is
wholly there, nothing has no share.

Shapes: C cells, T genes over all of them, V variants of how much they are there, H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class CellPresence:
    """How much the keys of one cell are there.

    Attributes
    ----------
    keys : Tensor
        [V, m], 0 to 1.
    nothing : Tensor
        [V]: the weight of nothing, 0 to 1.
    own : int
        Keys in front of the genes (CLS): 1 or 0.
    """

    keys: Tensor
    nothing: Tensor
    own: int


@dataclass(frozen=True)
class Presence:
    """How much the keys of each cell of a batch are there.

    Attributes
    ----------
    keys : Tensor
        [V, keys over all cells].
    nothing : Tensor
        [V, C].
    own : int
        Keys of each cell in front of its genes: 1 where CLS is one, else 0.
    """

    keys: Tensor
    nothing: Tensor
    own: int

    @classmethod
    def of(cls, genes: Tensor, offsets: NDArray[np.int64]) -> Presence:
        """Return the presence of genes alone: ``genes`` [V, T], ``offsets`` as in a batch."""
        return cls(genes, _nothing(genes, offsets), 0)

    def with_cls(self, order: Tensor) -> Presence:
        """Return it with a CLS a cell, always there, put in by ``order``, the permutation of genes and then CLS."""
        keys = torch.cat([self.keys, self.keys.new_ones(len(self.keys), self.nothing.shape[1])], dim=1)
        return Presence(keys[:, order], self.nothing, 1)

    def cells(self, lengths: Sequence[int]) -> Iterator[CellPresence]:
        """Yield the part of each cell; ``lengths`` are its keys."""
        parts: tuple[Tensor, ...] = torch.split(self.keys, list(lengths), dim=1)
        for keys, nothing in zip(parts, self.nothing.unbind(1), strict=True):
            yield CellPresence(keys, nothing, self.own)


def _nothing(genes: Tensor, offsets: NDArray[np.int64]) -> Tensor:
    """Return what is missing of the most present gene of each cell, [V, C]; 1 in a cell that has no gene."""
    parts: tuple[Tensor, ...] = torch.split(genes, np.diff(offsets).tolist(), dim=1)
    most = [part.amax(dim=1) if part.shape[1] else part.new_zeros(len(part)) for part in parts]
    missing = 1.0 - torch.stack(most, dim=1) if most else genes.new_zeros(len(genes), 0)
    # where a gene is wholly there, taking away any single one brings no nothing: the slope is 0, too
    return torch.where(missing > 0, missing, torch.zeros_like(missing))


def present_attention(query: Tensor, key: Tensor, value: Tensor, presence: CellPresence) -> Tensor:
    """Exact attention of one cell whose keys are partly there.

    Parameters
    ----------
    query
        [V * g, H, K]: the same number g of rows for each variant, one variant after the other.
    key, value
        [m, H, K].
    presence
        Of the m keys.

    Returns
    -------
    Tensor
        [V * g, H, K].
    """
    logits = torch.einsum("nhk,mhk->hnm", query * query.shape[-1] ** -0.5, key)
    if not key.shape[0]:
        return torch.zeros_like(query)
    shares = (logits - logits.detach().amax(-1, keepdim=True)).exp()
    variants = shares.view(len(shares), len(presence.keys), -1, len(key))
    nothing = variants[..., presence.own :].sum(-1) * presence.nothing[:, None]
    weighted = variants * presence.keys[:, None]
    total = (weighted.sum(-1) + nothing).flatten(1).T
    attended = torch.einsum("hnm,mhk->nhk", weighted.flatten(1, 2), value)
    if presence.own:
        attended = attended + nothing.flatten(1).T[..., None] * value[0]
    result: Tensor = attended / total.clamp(min=torch.finfo(total.dtype).tiny)[..., None]
    return result
