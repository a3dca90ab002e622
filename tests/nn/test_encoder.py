from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cell_lm.config import PRESETS, EncoderConfig
from cell_lm.data.loading.batch import CellBatch, concatenate
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.counter import Counter
from cell_lm.nn.encoder import TokenEncoder, build_encoder
from made_reference import set_made_reference

ATTENTIONS = ("full", "latent", "performer")
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


def encoder(config: EncoderConfig, genes: int = 300) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = build_encoder(config, genes)
        for parameter in built.parameters():  # some start at zero, where much of what is tested would vanish
            torch.nn.init.normal_(parameter, std=0.1) if not parameter.any() else None
    for layer in built.modules():
        if isinstance(layer, PerformerAttention):
            layer.redraw(1)
    if built.readout.path is not None:
        set_made_reference(built.readout.path)
    return built


def embed(model: torch.nn.Module, batch: CellBatch, counter: Counter | None = None) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(batch, hidden=None, counter=counter, only_cls=False).cls
    return result


def shuffled_genes(batch: CellBatch) -> CellBatch:
    parts = []
    for i in range(len(batch)):
        cell = batch[i : i + 1]
        order = torch.randperm(cell.tokens, generator=torch.Generator().manual_seed(i))
        moved = (cell.genes[order], cell.bins[order], cell.values[order])
        parts.append(CellBatch(*moved, cell.offsets, cell.malignancy, cell.slots, cell.depths))
    return concatenate(parts)


@pytest.mark.parametrize("expression", ["bins", "continuous"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_embedding_of_a_cell_depends_on_nothing_but_the_cell(
    attention: str, expression: str, make_batch: Batches, make_config: Configs
) -> None:
    batch, model = make_batch(), encoder(make_config(attention, expression=expression))
    together = embed(model, batch)
    alone = torch.cat([embed(model, batch[i : i + 1]) for i in range(len(batch))])
    backwards = embed(model, concatenate([batch[i : i + 1] for i in reversed(range(len(batch)))])).flip(0)
    reordered = embed(model, shuffled_genes(batch))
    for other in (alone, backwards, reordered):
        assert (other - together).norm() / together.norm() < 1e-5
    assert (together[0] - together[1]).norm() / together[0].norm() > 1e-3  # and it does depend on the cell


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_under_dropout_too_a_cell_depends_on_its_slot_and_not_on_its_company(
    attention: str, make_batch: Batches, make_config: Configs
) -> None:
    batch, model = make_batch(), encoder(make_config(attention)).double()

    def dropped(part: CellBatch) -> torch.Tensor:
        return embed(model, part, Counter.of(0, 0, part.slots, 0))

    together = dropped(batch)
    assert (torch.cat([dropped(batch[i : i + 3]) for i in range(0, 17, 3)]) - together).abs().max() < 1e-12
    assert (dropped(shuffled_genes(batch)) - together).abs().max() < 1e-12
    assert (dropped(batch.with_slots(1)) - together).abs().max() > 1e-3
    assert (embed(model, batch) - together).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_computing_only_cls_changes_no_embedding(attention: str, make_batch: Batches, make_config: Configs) -> None:
    batch, model = make_batch(), encoder(make_config(attention)).double()
    hidden = torch.rand(batch.tokens, generator=torch.Generator().manual_seed(0)) < 0.3
    counter = Counter.of(0, 0, batch.slots, 0)
    with torch.no_grad():
        short = model(batch, hidden=hidden, counter=counter, only_cls=True)
        whole = model(batch, hidden=hidden, counter=counter, only_cls=False)
    assert short.hidden is None
    assert whole.hidden.shape == (int(hidden.sum()), 32)
    assert (short.cls - whole.cls).abs().max() < 1e-12


@pytest.mark.parametrize("expression", ["bins", "continuous"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_hidden_expression_is_seen_by_nobody_and_its_state_tells_its_gene(
    attention: str, expression: str, make_batch: Batches, make_config: Configs
) -> None:
    batch, model = make_batch(), encoder(make_config(attention, expression=expression))
    hidden = torch.zeros(batch.tokens, dtype=torch.bool)
    hidden[[0, 1, 40]] = True
    other_values = CellBatch(
        batch.genes,
        torch.where(hidden, 5 - batch.bins, batch.bins),
        torch.where(hidden, batch.values + 2, batch.values),
        batch.offsets,
        batch.malignancy,
        batch.slots,
        batch.depths,
    )
    with torch.no_grad():
        first, second = (model(b, hidden=hidden, counter=None, only_cls=False) for b in (batch, other_values))
    assert torch.equal(first.cls, second.cls)
    assert torch.equal(first.hidden, second.hidden)
    assert (first.hidden[0] - first.hidden[1]).abs().max() > 1e-3
    predicted = hidden.clone()
    predicted[1] = False  # the expression of a hidden gene that is not predicted is seen by nobody, either
    with torch.no_grad():
        fewer, fewer_other = (
            model(b, hidden=hidden, predicted=predicted, counter=None, only_cls=False) for b in (batch, other_values)
        )
    assert torch.equal(fewer.cls, fewer_other.cls)
    assert torch.equal(fewer.hidden, fewer_other.hidden)
    assert len(fewer.hidden) == 2
    assert (embed(model, batch) - embed(model, other_values)).abs().max() > 1e-4  # shown, they would differ


def test_hidden_states_come_in_the_order_of_the_batch(make_batch: Batches, make_config: Configs) -> None:
    batch = make_batch()
    for attention in ATTENTIONS:
        model = encoder(make_config(attention)).double()
        hidden = torch.arange(batch.tokens) % 5 == 0
        with torch.no_grad():
            together = model(batch, hidden=hidden, counter=None, only_cls=False).hidden
            cells = [(batch[i : i + 1], slice(*batch.offsets[i : i + 2])) for i in range(len(batch))]
            alone = [model(cell, hidden=hidden[part], counter=None, only_cls=False).hidden for cell, part in cells]
        assert (torch.cat(alone) - together).abs().max() < 1e-12


def test_performer_approaches_full_attention_as_its_features_grow(make_batch: Batches, make_config: Configs) -> None:
    batch, exact = make_batch(), encoder(make_config("full"))
    errors = []
    for features in (16, 64, 2048):
        model = encoder(make_config("performer", features=features))
        weights = dict(exact.state_dict())
        assert not model.load_state_dict(weights, strict=False).unexpected_keys
        errors.append(float((embed(model, batch) - embed(exact, batch)).norm() / embed(exact, batch).norm()))
    assert errors[2] < errors[0]
    assert errors[2] < 0.05


def test_the_random_features_estimate_the_softmax_kernel_without_bias() -> None:
    attention = PerformerAttention(32, 2, 16, 2048)
    generator = torch.Generator().manual_seed(0)
    query, key = (
        2 * torch.nn.functional.normalize(torch.randn(6, 2, 16, generator=generator), dim=-1) for _ in range(2)
    )
    exact = torch.einsum("nhk,mhk->hnm", query, key).mul(16**-0.5).exp()
    estimates = []
    for seed in range(40):
        attention.redraw(seed)
        features = (attention._logits(x).exp().transpose(0, 1) for x in (query, key))
        estimates.append(next(features) @ next(features).mT / 2048)
    single, mean = (
        ((estimate - exact).norm() / exact.norm()) for estimate in (estimates[0], torch.stack(estimates).mean(0))
    )
    assert single < 0.1
    assert mean < single / 3  # 40 draws: about sqrt(40) closer, unless they share a bias


def test_random_features_are_orthogonal_and_a_function_of_their_seed() -> None:
    one, two = PerformerAttention(32, 2, 16, 24), PerformerAttention(32, 2, 16, 24)
    one.redraw(5)
    two.redraw(5)
    assert torch.equal(one.directions, two.directions)
    block = torch.nn.functional.normalize(one.directions[:16], dim=1)
    assert (block @ block.T - torch.eye(16)).abs().max() < 1e-5
    two.redraw(6)
    assert not torch.allclose(one.directions, two.directions)


def test_presets_have_the_sizes_they_promise() -> None:
    base = build_encoder(PRESETS["base"], 19281)
    assert isinstance(base, TokenEncoder)
    assert (PRESETS["base"].layers, PRESETS["base"].width) == (10, 512)
    assert sum(p.numel() for p in base.parameters()) > 50e6
    assert PRESETS["base"].max_genes >= 4096
