"""The encoder of CellLM as its authors released it, from the published package ``performer-pytorch``.

Their code (repository PharMolix/OpenBioMed: ``models/cell/performer_celllm.py`` and ``configs/ctc/cellLM.json``) sets
width 512, depth 10, 16 heads, 8 tokens and 6,000 positions, and leaves the rest at its defaults: heads of width 64 (so
1,024 inside), feed-forward 4 x 512, ``int(64 ln 64)`` = 266 random features, softmax kernel, no dropout, no bias on
queries, keys and values, one on the output. The sum of an expression vector and a frozen gene vector is the input; CLS
is the first token; every cell is padded to 6,000 tokens, padding is masked in the values. Without its gene vectors that
is 42.0 M parameters, with them 51.9 M, the paper's "about 50 million".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cell_lm.data import CellBatch

WIDTH, DEPTH, HEADS, HEAD_WIDTH, TOKENS, LENGTH = 512, 10, 16, 64, 8, 6000
CLS, PAD = TOKENS - 2, TOKENS - 1


class ReleasedPerformer(nn.Module):
    """The released encoder, and what names the expression of its tokens."""

    hidden = PAD
    """Token of a hidden gene: the released eight have none, so the one of the padding, which the mask tells apart."""

    def __init__(self, genes: int, depth: int = DEPTH) -> None:
        super().__init__()
        from performer_pytorch import Performer

        self.expression = nn.Embedding(TOKENS, WIDTH)
        self.genes = nn.Embedding(genes + 2, WIDTH).requires_grad_(False)
        self.performer = Performer(
            dim=WIDTH, depth=depth, heads=HEADS, dim_head=HEAD_WIDTH, qkv_bias=False, attn_out_bias=True
        )
        self.norm, self.to_out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, TOKENS)

    def forward(self, tokens: Tensor, genes: Tensor, mask: Tensor) -> Tensor:
        """Return the states of all tokens, [cells, length, 512]."""
        states: Tensor = self.norm(self.performer(self.expression(tokens) + self.genes(genes), mask=mask))
        return states


def pad(batch: CellBatch, length: int, hidden: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, genes and mask of cells, each [cells, length], CLS in front."""
    cells, last = len(batch), int(batch.genes.max())
    tokens, genes = torch.full((cells, length), PAD), torch.full((cells, length), last)
    mask = torch.zeros(cells, length, dtype=torch.bool)
    bins = batch.bins if hidden is None else batch.bins.masked_fill(hidden, ReleasedPerformer.hidden)
    tokens[:, 0] = CLS
    for cell, (start, stop) in enumerate(zip(batch.offsets, batch.offsets[1:], strict=False)):
        inside = slice(1, 1 + stop - start)
        tokens[cell, inside], genes[cell, inside] = bins[start:stop], batch.genes[start:stop]
        mask[cell, : 1 + stop - start] = True
    return tokens, genes, mask
