"""Attention within packed cells: exact, by random features, or among latents.

There are three routes with the same result. On the CPU: one call per cell, because padding costs more there than calls.
On a GPU in half precision: the variable-length kernel of flash attention. Where that cannot be used (float32, random
features, weighted keys, an old GPU): buckets of cells of similar lengths, padded and computed together. At most a fifth
is padding, and there are a few dozen calls for any number of cells.

Shapes: R rows over all cells, c cells computed together with n queries and m keys each, H heads, K width of a head, F
random features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cell_lm.data.loading.batch import to_device
from cell_lm.nn.layout import AttentionLayout
from cell_lm.nn.linear import Linear
from cell_lm.nn.presence import Presence, PresencePart, present_attention

Route = Literal["cells", "buckets", "flash"]
Function = Callable[[Tensor, Tensor, Tensor, Tensor | None, PresencePart | None], Tensor]
"""Attention of queries [c, n, H, K] over keys and values [c, m, H, K], with bool [c, m] False for padding."""

_HALF = (torch.float16, torch.bfloat16)
_FLASH_WIDTH, _FLASH_STEP, _FLASH_CELLS = 256, 8, 65535
"""Limits of the kernel: largest head width, its multiple, and most cells (grid size)."""


def _wide(x: Tensor) -> Tensor:
    # the CPU's half-precision kernels of attention are slower than the float32 ones, the backward pass up to ten times
    return x.to(torch.promote_types(x.dtype, torch.float32)) if x.device.type == "cpu" else x


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Exact attention of [..., H, n, K] queries over [..., H, m, K] keys and values; on the CPU at least in float32."""
    with torch.autocast(query.device.type, enabled=False):
        return F.scaled_dot_product_attention(_wide(query), _wide(key), _wide(value)).to(query.dtype)


@cache
def _has_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def choose_route(query: Tensor, cells: int) -> Route:
    """Return the route of exact attention without weights, for queries [R, H, K] of ``cells`` cells."""
    if query.device.type != "cuda":
        return "cells"
    fits = query.dtype in _HALF and query.shape[-1] <= _FLASH_WIDTH and cells <= _FLASH_CELLS
    return "flash" if fits and _has_flash(query.device) else "buckets"


def padded_route(query: Tensor) -> Route:
    """Return the route of all other attention."""
    return "cells" if query.device.type == "cpu" else "buckets"


def attend(
    function: Function,
    route: Route,
    rows: tuple[Tensor, Tensor, Tensor],
    layout: AttentionLayout,
    presence: Presence | None = None,
) -> Tensor:
    """Apply a function to the queries, keys and values of each cell, by cells or by buckets.

    Parameters
    ----------
    function
        Computes several cells together.
    route
        ``"cells"`` or ``"buckets"``.
    rows
        Queries, keys and values, [R, H, K], packed by cell.
    layout
        Which rows belong to which cell.
    presence
        Weights of the keys; None: all 1.

    Returns
    -------
    Tensor
        [R, H, K], rows as in the queries.
    """
    query, key, value = rows
    if not layout.queries.rows:
        return _no_rows(*rows)
    parts: Iterator[PresencePart | None]
    if route == "cells":
        parts = iter([None] * len(layout)) if presence is None else presence.by_cell(layout)
        # one split, not one slice per cell: the gradient of each slice would be as large as all rows
        sizes = (layout.queries.sizes, layout.keys.sizes, layout.keys.sizes)
        cells = zip(*(torch.split(x, size) for x, size in zip(rows, sizes, strict=True)), parts, strict=True)
        return torch.cat([function(q[None], k[None], v[None], None, part)[0] for q, k, v, part in cells])
    buckets = layout.buckets
    parts = iter([None] * len(buckets.buckets)) if presence is None else presence.by_bucket(layout)
    padded = zip(
        buckets.split_queries(query), buckets.split_keys(key), buckets.split_keys(value), buckets.buckets, parts,
        strict=True,
    )  # fmt: skip
    return buckets.join_queries([function(q, k, v, bucket.filled, part) for q, k, v, bucket, part in padded])


def _no_rows(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return [0, H, K] that depends on all three: shards are reduced on all ranks, so no gradient may be missing."""
    return value[:0] + 0.0 * (query.sum() + key.sum())


def _no_keys(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return zeros like the queries, for cells without keys; they depend on all three, as above."""
    return 0.0 * (query + key.sum() + value.sum())


def _exact(
    query: Tensor, key: Tensor, value: Tensor, filled: Tensor | None, presence: PresencePart | None = None
) -> Tensor:
    """Exact attention of [c, n, H, K] queries over [c, m, H, K] keys and values; zero if a cell has no key."""
    if presence is not None:
        return present_attention(query, key, value, filled, presence)
    if not key.shape[1]:
        return _no_keys(query, key, value)
    mask = None if filled is None else filled[:, None, None]
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout, presence: Presence | None = None
) -> Tensor:
    """Exact attention, each cell's queries over its own keys only.

    Parameters
    ----------
    query, key, value
        [R, H, K], packed by cell.
    layout
        Which rows belong to which cell.
    presence
        Presence of each key; None: all are fully present. Each variant has the same number of rows in ``query``,
        ordered by variant within each cell.

    Returns
    -------
    Tensor
        [R, H, K], rows as in ``query``; zero if a cell has no key.
    """
    route = choose_route(query, len(layout)) if presence is None else padded_route(query)
    if route == "flash":
        return _flash(query, key, value, layout)
    with torch.autocast(query.device.type, enabled=False):
        rows = (_wide(query), _wide(key), _wide(value))
        return attend(_exact, route, rows, layout, presence).to(query.dtype)


def _flash(query: Tensor, key: Tensor, value: Tensor, layout: AttentionLayout) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # takes seconds to import, needed only on a GPU

    if not layout.queries.rows or not layout.keys.rows:  # an empty grid is an error
        return (_no_keys if layout.queries.rows else _no_rows)(query, key, value)
    width = query.shape[-1]
    query, key, value = (F.pad(x, (0, -width % _FLASH_STEP)) if width % _FLASH_STEP else x for x in (query, key, value))
    queries, keys = layout.queries, layout.keys
    attended = varlen_attn(
        query, key, value, queries.offsets, keys.offsets, queries.longest, keys.longest, scale=width**-0.5
    )
    assert isinstance(attended, Tensor)  # without return_aux it is one
    return attended[..., :width]


class Projections(nn.Module):
    """Projections to queries, and to keys and values, and the output projection."""

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

    def forward(self, x: Tensor, context: Tensor, layout: AttentionLayout, presence: Presence | None = None) -> Tensor:
        """Attend from rows ``x`` [R, width] to rows ``context`` [R', width], within each cell."""
        key, value = self.keys_values(context)
        return self.back(packed_attention(self.queries(x), key, value, layout, presence))


class AbsorbedAttention(FullAttention):
    """Exact attention of few queries to many keys, without projecting the keys and values.

    A logit is (W q) . (K x) = (K^T W q) . x, and a weighted mean of the values is V applied to that of the rows: the
    projections K and V are applied to the queries and to the results. A row of the context then takes some L / K of the
    operations, for L queries a cell and heads of width K. The bias of the keys cancels in the softmax.
    """

    def forward(self, x: Tensor, context: Tensor, layout: AttentionLayout, presence: Presence | None = None) -> Tensor:
        """Attend from rows ``x`` [R, width] to rows ``context`` [R', width], within each cell."""
        if presence is not None:  # partly present keys weigh less than 1 in all, and so does the bias of the values
            return super().forward(x, context, layout, presence)
        (heads, head_width), width = self.shape, context.shape[1]
        key, value = self.key_value.weight.view(2, heads, head_width, width).unbind()
        query = torch.einsum("rhk,hkw->rhw", self.queries(x), key) * (width / head_width) ** 0.5
        rows = context.to(query.dtype)[:, None]
        read = packed_attention(query.flatten(0, 1)[:, None], rows, rows, layout.with_more_queries(heads))
        attended = torch.einsum("rhw,hkw->rhk", read.view(-1, heads, width), value)
        bias = self.key_value.bias.view(2, heads, head_width)[1]
        if not layout.keys.lengths.all():  # the weights of a cell without keys add up to 0, not to 1
            filled = to_device(np.repeat(layout.keys.lengths > 0, layout.queries.lengths), x.device)
            bias = bias * filled[:, None, None]
        return self.back(attended + bias)


class PerformerAttention(Projections):
    """Softmax attention by positive orthogonal random features (FAVOR+).

    The features are a buffer, drawn from a seed and redrawn only by :meth:`redraw`, never by the number of forward
    passes. The stabiliser of the keys is computed per cell, so that a cell's result does not depend on other cells.

    References
    ----------
    .. [1] Choromanski et al. (2021). Rethinking attention with Performers. ICLR. Lemma 1 and equation 6.
    """

    directions: Tensor

    def __init__(self, width: int, heads: int, head_width: int, features: int) -> None:
        super().__init__(width, heads, head_width)
        self.register_buffer("directions", torch.zeros(features, head_width))

    def redraw(self, seed: int) -> None:
        """Redraw the random directions: orthogonal in blocks, with the norms of Gaussian vectors."""
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

    def _cells(
        self, query: Tensor, key: Tensor, value: Tensor, filled: Tensor | None, presence: PresencePart | None
    ) -> Tensor:
        """Attention of [c, n, H, F] queries over [c, m, H, F] keys (logits of the features) and [c, m, H, K] values."""
        if presence is not None:
            return self._present_cells(query, key, value, filled, presence)
        # the constants (per query row, and per cell and head) cancel in the quotient; they keep exp in range
        query = (query - query.detach().amax(-1, keepdim=True)).exp() + 1e-6
        if filled is None:
            key = (key - key.detach().amax((1, 3), keepdim=True)).exp() + 1e-6
        else:
            padding = ~filled[:, :, None, None]
            largest = key.detach().masked_fill(padding, -torch.inf).amax((1, 3), keepdim=True)
            key = ((key - largest).masked_fill(padding, -torch.inf).exp() + 1e-6).masked_fill(padding, 0.0)
        summary = torch.einsum("cmhf,cmhk->chfk", key, value)
        total = torch.einsum("cnhf,chf->cnh", query, key.sum(1))
        return torch.einsum("cnhf,chfk->cnhk", query, summary) / total.unsqueeze(-1)

    def _present_cells(
        self, query: Tensor, key: Tensor, value: Tensor, filled: Tensor | None, presence: PresencePart
    ) -> Tensor:
        """As :meth:`_cells`, for one variant and with CLS first; the stabiliser ignores absent keys."""
        weight = presence.keys[:, 0, :, None, None]
        # not detached: with the added 1e-6 the constants do not cancel exactly, and the gradient must be correct
        query = (query - query.amax(-1, keepdim=True)).exp() + 1e-6
        key = key.masked_fill(weight == 0, -torch.inf)
        key = (key - key.amax((1, 3), keepdim=True)).exp() + 1e-6
        if filled is not None:
            key = key.masked_fill(~filled[:, :, None, None], 0.0)
        weighted = key * weight
        null = torch.einsum("cnhf,chf->cnh", query, key[:, 1:].sum(1)) * presence.null[:, :1, None]
        summary = torch.einsum("cmhf,cmhk->chfk", weighted, value)
        total = torch.einsum("cnhf,chf->cnh", query, weighted.sum(1)) + null
        attended = torch.einsum("cnhf,chfk->cnhk", query, summary) + null[..., None] * value[:, :1]
        return attended / total[..., None]

    def forward(self, x: Tensor, context: Tensor, layout: AttentionLayout, presence: Presence | None = None) -> Tensor:
        """Attend from rows ``x`` [R, width] to rows ``context`` [R', width], within each cell."""
        key, value = self.keys_values(context)
        query = self.queries(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(query.dtype, torch.float32)
            rows = self._logits(query.to(wide)), self._logits(key.to(wide)), value.to(wide)
            attended = attend(self._cells, padded_route(query), rows, layout, presence)
        return self.back(attended.to(query.dtype))


class LatentAttention(Projections):
    """Exact attention among the latents of each cell, the same number for all cells."""

    def forward(self, x: Tensor, queries: int | None = None) -> Tensor:
        """Attend within [C, L, width]; where ``queries`` is given, only from the first ``queries`` latents."""
        key, value = self.keys_values(x)
        query, key, value = (part.transpose(1, 2) for part in (self.queries(x[:, :queries]), key, value))
        return self.back(scaled_dot_product(query, key, value).transpose(1, 2))
