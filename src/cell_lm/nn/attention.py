"""Attention within cells that lie packed one after the other: exact, by random features, or among latents.

Shapes: R rows over all cells, H heads, K width of a head, F random features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cell_lm.nn.linear import Linear
from cell_lm.nn.presence import CellPresence, Presence, present_attention


def _wide(x: Tensor) -> Tensor:
    # the CPU's half-precision kernels of attention are slower than the float32 ones, the backward pass up to ten times
    return x.to(torch.promote_types(x.dtype, torch.float32)) if x.device.type == "cpu" else x


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Exact attention of [..., H, n, K] queries over [..., H, m, K] keys and values; on the CPU in float32 at least."""
    with torch.autocast(query.device.type, enabled=False):
        return F.scaled_dot_product_attention(_wide(query), _wide(key), _wide(value)).to(query.dtype)


def _one_cell(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Exact attention of one cell: [n, H, K] queries over [m, H, K] keys and values."""
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).squeeze(0).transpose(0, 1)


def _cells(rows: Tensor, lengths: Sequence[int]) -> tuple[Tensor, ...]:
    # one split, not a slice a cell: the gradient of each slice would be as large as all rows
    cells: tuple[Tensor, ...] = torch.split(rows, list(lengths))
    return cells


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    presence: Presence | None = None,
) -> Tensor:
    """Exact attention, each cell's queries over its own keys only.

    One call a cell on the CPU, where padding costs more than calls do, and in float32 at least; on CUDA in half
    precision the variable-length kernel.

    Parameters
    ----------
    query, key, value
        [R, H, K], the cells one after the other.
    queries, keys
        Rows of each cell in ``query``, and in ``key`` and ``value``.
    presence
        How much each key is there; None: all of them wholly. Of several variants each has equally many rows in
        ``query``, within each cell one variant after the other.

    Returns
    -------
    Tensor
        [R, H, K], rows as in ``query``.
    """
    if presence is None and query.device.type == "cuda" and query.dtype in (torch.float16, torch.bfloat16):
        return _flash(query, key, value, queries, keys)
    with torch.autocast(query.device.type, enabled=False):
        cells = zip(_cells(_wide(query), queries), _cells(_wide(key), keys), _cells(_wide(value), keys), strict=True)
        if presence is None:
            return torch.cat([_one_cell(*cell) for cell in cells]).to(query.dtype)
        parts = zip(cells, presence.cells(keys), strict=True)
        return torch.cat([present_attention(*cell, part) for cell, part in parts]).to(query.dtype)


def _flash(query: Tensor, key: Tensor, value: Tensor, queries: Sequence[int], keys: Sequence[int]) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    def ends(lengths: Sequence[int]) -> Tensor:
        return F.pad(torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0)).to(query.device)

    attended = varlen_attn(query, key, value, ends(queries), ends(keys), max(queries), max(keys))
    assert isinstance(attended, Tensor)  # without return_aux it is one
    return attended


class Projections(nn.Module):
    """Queries from one side, keys and values from another (or the same), and the way back to the model's width."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.shape = (heads, head_width)
        inner = heads * head_width
        self.query = Linear(width, inner)
        self.key_value = Linear(width, 2 * inner)
        self.out = Linear(inner, width)

    def queries(self, x: Tensor) -> Tensor:
        """[..., width] to [..., H, K]."""
        query: Tensor = self.query(x)
        return query.view(*query.shape[:-1], *self.shape)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., width] to two of [..., H, K]."""
        key, value = self.key_value(x).unflatten(-1, (2, *self.shape)).unbind(-3)
        return key, value

    def back(self, attended: Tensor) -> Tensor:
        """[..., H, K] to [..., width]."""
        result: Tensor = self.out(attended.flatten(-2))
        return result


class FullAttention(Projections):
    """Softmax attention, exact."""

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        queries: Sequence[int],
        keys: Sequence[int],
        presence: Presence | None = None,
    ) -> Tensor:
        """Attend from rows ``x`` [R, width] to rows ``context`` [R', width], within each cell."""
        key, value = self.keys_values(context)
        return self.back(packed_attention(self.queries(x), key, value, queries, keys, presence))


class PerformerAttention(Projections):
    """Softmax attention by positive orthogonal random features (FAVOR+).

    The features are a buffer, drawn from a seed and redrawn only when :meth:`redraw` is told to, never by counting
    forward calls. The stabiliser of the keys is taken over each cell alone, so no cell touches another's result.

    References
    ----------
    .. [1] Choromanski et al. (2021). Rethinking attention with Performers. ICLR. Lemma 1 and equation 6.
    """

    directions: Tensor

    def __init__(self, width: int, heads: int, head_width: int, features: int) -> None:
        super().__init__(width, heads, head_width)
        self.register_buffer("directions", torch.zeros(features, head_width))

    def redraw(self, seed: int) -> None:
        """Draw the random directions anew: orthogonal in blocks, with the norms of Gaussian vectors."""
        features, width = self.directions.shape
        generator = torch.Generator().manual_seed(seed)
        blocks = -(-features // width)
        q, r = torch.linalg.qr(torch.randn(blocks, width, width, generator=generator, dtype=torch.float64))
        # without these signs Q is not uniform on the rotations and the kernel is biased
        uniform = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
        norms = torch.randn(features, width, generator=generator, dtype=torch.float64).norm(dim=1, keepdim=True)
        self.directions.copy_(uniform.mT.flatten(0, 1)[:features] * norms)

    def _logits(self, x: Tensor) -> Tensor:
        x = x * self.directions.shape[1] ** -0.25
        return x @ self.directions.T.to(x.dtype) - x.square().sum(-1, keepdim=True) / 2

    def _cell(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # one constant per query row and one per cell and head cancel in the quotient: they only keep exp in range
        query = (query - query.detach().amax(-1, keepdim=True)).exp() + 1e-6
        key = (key - key.detach().amax((0, 2), keepdim=True)).exp() + 1e-6
        summary = torch.einsum("nhf,nhk->hfk", key, value)
        total = torch.einsum("nhf,hf->nh", query, key.sum(0))
        return torch.einsum("nhf,hfk->nhk", query, summary) / total.unsqueeze(-1)

    def _present_cell(self, query: Tensor, key: Tensor, value: Tensor, presence: CellPresence) -> Tensor:
        """As :meth:`_cell`, of one variant and with CLS in front; absent keys do not take part in the stabiliser."""
        weight = presence.keys[0, :, None, None]
        # not detached: next to 1e-6 the constants do not cancel quite, and the slope is to be the true one
        query = (query - query.amax(-1, keepdim=True)).exp() + 1e-6
        key = key.masked_fill(weight == 0, -torch.inf)
        key = (key - key.amax((0, 2), keepdim=True)).exp() + 1e-6
        here = key * weight
        nothing = torch.einsum("nhf,hf->nh", query, key[1:].sum(0)) * presence.nothing[0]
        summary = torch.einsum("nhf,nhk->hfk", here, value)
        total = torch.einsum("nhf,hf->nh", query, here.sum(0)) + nothing
        attended = torch.einsum("nhf,hfk->nhk", query, summary) + nothing[..., None] * value[0]
        return attended / total[..., None]

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        queries: Sequence[int],
        keys: Sequence[int],
        presence: Presence | None = None,
    ) -> Tensor:
        """Attend from rows ``x`` [R, width] to rows ``context`` [R', width], within each cell."""
        key, value = self.keys_values(context)
        query = self.queries(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(query.dtype, torch.float32)
            query_logits, key_logits = self._logits(query.to(wide)), self._logits(key.to(wide))
            parts = (_cells(query_logits, queries), _cells(key_logits, keys), _cells(value.to(wide), keys))
            if presence is None:
                attended = torch.cat([self._cell(*cell) for cell in zip(*parts, strict=True)])
            else:
                there = presence.cells(keys)
                attended = torch.cat([self._present_cell(*cell) for cell in zip(*parts, there, strict=True)])
        return self.back(attended.to(query.dtype))


class LatentAttention(Projections):
    """Exact attention among the latents of each cell, all cells having equally many."""

    def forward(self, x: Tensor, wanted: int | None = None) -> Tensor:
        """Attend within [C, L, width]; where ``wanted`` is given, only the first so many latents ask."""
        key, value = self.keys_values(x)
        query, key, value = (part.transpose(1, 2) for part in (self.queries(x[:, :wanted]), key, value))
        return self.back(scaled_dot_product(query, key, value).transpose(1, 2))
