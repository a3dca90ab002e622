"""Attention with absorbed projections is that with projected keys and values, gradients included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cell_lm.config import EncoderConfig
from cell_lm.nn import attention
from cell_lm.nn.attention import AbsorbedAttention, FullAttention
from cell_lm.nn.encoder import LatentEncoder
from cell_lm.nn.layout import AttentionLayout, Segments

CPU = torch.device("cpu")
WIDTH, HEADS, HEAD_WIDTH = 12, 3, 8


def layers() -> tuple[FullAttention, FullAttention]:
    """The same weights, biases included, in both kinds."""
    torch.manual_seed(0)
    projected, absorbed = (kind(WIDTH, HEADS, HEAD_WIDTH).double() for kind in (FullAttention, AbsorbedAttention))
    for parameter in projected.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    absorbed.load_state_dict(projected.state_dict())
    return projected, absorbed


def cells(queries: list[int], keys: list[int]) -> tuple[Tensor, Tensor, AttentionLayout]:
    generator = torch.Generator().manual_seed(1)
    x, context = (torch.randn(sum(n), WIDTH, generator=generator, dtype=torch.float64) for n in (queries, keys))
    return x, context, AttentionLayout(*(Segments.of(np.array(part), CPU) for part in (queries, keys)))


def results(layer: FullAttention, x: Tensor, context: Tensor, layout: AttentionLayout) -> list[Tensor]:
    """The output, and the gradient of a function of it by inputs and weights."""
    x, context = (part.clone().requires_grad_() for part in (x, context))
    out = layer(x, context, layout)
    wanted = [x, context, *layer.parameters()]
    found = torch.autograd.grad((out * torch.arange(1.0, WIDTH + 1)).square().sum(), wanted, allow_unused=True)
    return [out.detach(), *(torch.zeros_like(a) if g is None else g for a, g in zip(wanted, found, strict=True))]


@pytest.mark.parametrize("route", ["cells", "buckets"])
@pytest.mark.parametrize(("queries", "keys"), [([4, 4], [7, 5]), ([2, 3], [0, 6]), ([1, 1], [0, 0]), ([0, 0], [0, 0])])
def test_absorbed_projections_change_nothing(
    route: str, queries: list[int], keys: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "choose_route", lambda query, cells: route)
    given = cells(queries, keys)
    expected, got = (results(layer, *given) for layer in layers())
    for mine, its in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-11, atol=1e-11)


def test_no_row_of_the_context_is_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    _, absorbed = layers()
    monkeypatch.setattr(absorbed.key_value, "forward", lambda x: pytest.fail("keys and values were projected"))
    absorbed(*cells([2, 2], [9, 4]))


@pytest.mark.parametrize(("latents", "kind"), [(8, AbsorbedAttention), (32, FullAttention)])
def test_few_latents_read_the_genes_by_it(latents: int, kind: type, make_config: Callable[..., EncoderConfig]) -> None:
    encoder = LatentEncoder(make_config("latent", latents=latents, head_width=16), 50)
    assert type(encoder.cross_attentions["0"].attention) is kind
    assert type(encoder.decoder.attention) is FullAttention
