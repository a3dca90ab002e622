from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.encoder import build_encoder

KINDS = [("full", {}), ("latent", {}), ("latent", {"cross_attentions": 2}), ("performer", {})]
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


@pytest.fixture(params=KINDS, ids=["full", "latent", "latent, two cross-attentions", "performer"])
def encoder(request: pytest.FixtureRequest, make_config: Configs) -> torch.nn.Module:
    kind, changes = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_encoder(make_config(kind, **changes), 300)
        for parameter in built.parameters():  # some start at zero, where much of what is tested would vanish
            torch.nn.init.normal_(parameter, std=0.3) if not parameter.any() else parameter.data.mul_(2)
    for layer in built.modules():
        if isinstance(layer, PerformerAttention):
            layer.redraw(1)
    return built


def embed(encoder: torch.nn.Module, batch: CellBatch, presence: Tensor | None = None) -> Tensor:
    cls: Tensor = encoder(batch, hidden=None, counter=None, only_cls=True, presence=presence).cls
    return cls


def without(batch: CellBatch, gone: Tensor) -> CellBatch:
    """The same cells without some tokens; unlike ``CellBatch.keep`` a cell may lose all."""
    left = np.add.reduceat(np.append(~gone.numpy(), False), batch.offsets[:-1])
    offsets = np.concatenate([[0], np.cumsum(left)])
    kept = ~gone
    return CellBatch(batch.genes[kept], batch.bins[kept], batch.values[kept], offsets, batch.malignancy, batch.slots)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def test_genes_that_are_all_present_give_the_ordinary_embedding(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch = make_batch()
    with torch.no_grad():
        present = embed(encoder, batch, torch.ones(1, batch.tokens))
        assert present.shape == (1, len(batch), 32)
        assert distance(present[0], embed(encoder, batch)) < 1e-5
        wide = encoder.double()
        exact = embed(wide, batch, torch.ones(1, batch.tokens, dtype=torch.float64))[0]
        assert distance(exact, embed(wide, batch)) < 1e-12


def test_an_absent_gene_is_as_if_the_cell_did_not_have_it(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch, wide = make_batch(), encoder.double()
    gone = torch.rand(batch.tokens, generator=torch.Generator().manual_seed(0)) < 0.4
    gone[: int(batch.offsets[1])] = True  # the first cell loses all of its genes
    with torch.no_grad():
        absent = embed(wide, batch, (~gone).double()[None])[0]
        assert distance(absent, embed(wide, without(batch, gone))) < 1e-9
        assert distance(absent, embed(wide, batch)) > 1e-3  # and it does matter


def test_variants_are_what_each_gives_alone_whatever_the_batch(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch, wide = make_batch(), encoder.double()
    presence = torch.rand(3, batch.tokens, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        together = embed(wide, batch, presence)
        alone = torch.cat([embed(wide, batch, row[None]) for row in presence])
        first = embed(wide, batch[:2], presence[:, : int(batch.offsets[2])])
    assert together.shape == (3, len(batch), 32)
    assert distance(together, alone) < 1e-12
    assert distance(together[:, :2], first) < 1e-12
    assert distance(together[0], together[1]) > 1e-3


def test_between_absent_and_present_the_slope_is_the_true_one(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch, wide = make_batch(cells=2, longest=8), encoder.double()
    generator = torch.Generator().manual_seed(0)
    presence = torch.rand(1, batch.tokens, generator=generator, dtype=torch.float64).mul(0.8).add(0.1)
    direction = torch.randn(32, generator=generator, dtype=torch.float64)
    leaf = presence.clone().requires_grad_()
    (slope,) = torch.autograd.grad((embed(wide, batch, leaf) @ direction).sum(), leaf)
    step = 1e-6
    with torch.no_grad():
        for gene in range(batch.tokens):
            more, less = presence.clone(), presence.clone()
            more[0, gene] += step
            less[0, gene] -= step
            rise = (embed(wide, batch, more) - embed(wide, batch, less)) @ direction
            assert float(rise.sum()) / (2 * step) == pytest.approx(float(slope[0, gene]), rel=1e-5, abs=1e-7)


def test_a_cell_fades_smoothly_into_one_without_genes(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch, wide = make_batch(), encoder.double()
    levels = torch.tensor([0.0, 1e-7, 0.5, 1.0 - 1e-7, 1.0], dtype=torch.float64)
    with torch.no_grad():
        faded = embed(wide, batch, levels[:, None].expand(-1, batch.tokens))
    assert distance(faded[0], faded[1]) < 1e-4
    assert distance(faded[-1], faded[-2]) < 1e-4
    assert min(distance(faded[2], faded[0]), distance(faded[2], faded[4])) > 1e-3
