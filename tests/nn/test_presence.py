from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import PER_CELL, CellBatch
from cell_lm.nn import linear_path
from cell_lm.nn.attended import attended_genes
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.encoder import build_encoder
from made_reference import set_made_reference

KINDS = [("full", {}), ("latent", {}), ("latent", {"cross_attentions": 2}), ("performer", {})]
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


@pytest.fixture(params=KINDS, ids=["full", "latent", "latent, two cross-attentions", "performer"])
def encoder(request: pytest.FixtureRequest, make_config: Configs) -> torch.nn.Module:
    kind, changes = request.param
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_encoder(make_config(kind, **{"attended_genes": 256} | changes), 300)
        for parameter in built.parameters():  # some start at zero, where much of what is tested would vanish
            torch.nn.init.normal_(parameter, std=0.3) if not parameter.any() else parameter.data.mul_(2)
    for layer in built.modules():
        if isinstance(layer, PerformerAttention):
            layer.redraw(1)
    set_made_reference(built.readout.path)
    return built


def embed(encoder: torch.nn.Module, batch: CellBatch, presence: Tensor | None = None) -> Tensor:
    cls: Tensor = encoder(batch, hidden=None, counter=None, only_cls=True, presence=presence).cls
    return cls


def without(batch: CellBatch, gone: Tensor) -> CellBatch:
    """The same cells without some tokens; unlike ``CellBatch.keep`` a cell may lose all."""
    left = np.add.reduceat(np.append(~gone.numpy(), False), batch.offsets[:-1])
    offsets = np.concatenate([[0], np.cumsum(left)])
    kept = ~gone
    return replace(batch, genes=batch.genes[kept], bins=batch.bins[kept], values=batch.values[kept], offsets=offsets)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def relative(a: Tensor, b: Tensor) -> float:
    """The largest distance of a cell, as a fraction of its length."""
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max())


@contextmanager
def depths_of(batch: CellBatch) -> Iterator[None]:
    """Every cell has the depth that it has in this batch, whatever genes it lost since."""
    cell = torch.from_numpy(np.repeat(np.arange(len(batch)), batch.lengths))
    counts = torch.expm1(batch.values.double()) * (batch.depths.double() / PER_CELL)[cell]
    depths = torch.zeros(len(batch), dtype=torch.float64).index_add(0, cell, counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_path, "_sum_by_cell", lambda *_: depths)
        yield


def test_genes_that_are_all_present_give_the_ordinary_embedding(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch = make_batch()
    with torch.no_grad():
        present = embed(encoder, batch, torch.ones(1, batch.tokens))
        assert present.shape == (1, len(batch), 32)
        assert relative(present[0], embed(encoder, batch)) < 1e-5
        wide = encoder.double()
        exact = embed(wide, batch, torch.ones(1, batch.tokens, dtype=torch.float64))[0]
        assert distance(exact, embed(wide, batch)) < 1e-12


def test_an_absent_gene_is_as_if_the_cell_did_not_have_it(encoder: torch.nn.Module, make_batch: Batches) -> None:
    batch, wide = make_batch(), encoder.double()
    gone = torch.rand(batch.tokens, generator=torch.Generator().manual_seed(0)) < 0.4
    gone[: int(batch.offsets[1])] = True  # the first cell loses all of its genes
    with torch.no_grad():
        absent = embed(wide, batch, (~gone).double()[None])[0]
        with depths_of(batch):
            assert distance(absent, embed(wide, without(batch, gone))) < 1e-9
        assert distance(absent, embed(wide, without(batch, gone))) > 1e-3  # at a depth of its own it would be another
        assert distance(absent, embed(wide, batch)) > 1e-3  # and it does matter


def test_attention_reads_the_same_genes_whatever_is_absent(
    make_batch: Batches, make_config: Configs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absent gene gives its place to no other, so that embeddings differ by the gene alone."""
    batch, built = make_batch(), build_encoder(make_config("latent", attended_genes=5), 300).double()
    set_made_reference(built.readout.path)
    torch.nn.init.normal_(built.readout.correction.weight)
    score = built.readout.path.residuals(batch, None).residual.abs()
    few = attended_genes(batch, score, None, 5)
    assert few is not None
    presence = torch.ones(1, batch.tokens, dtype=torch.float64)
    presence[0, few.index[::2]] = 0.0
    with torch.no_grad():
        here = embed(built, batch, presence)[0]
        present = presence[:, few.index]
        linear = built.readout.path(batch, built.readout.path.residuals(batch, None), presence)
        monkeypatch.setattr(built.readout.path, "forward", lambda *_: linear)
        again = embed(built, few.of(batch), present)[0]
    assert distance(here, again) < 1e-12


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
