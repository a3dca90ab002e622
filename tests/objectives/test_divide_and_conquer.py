"""Divide and conquer against one end-to-end graph, and mutants, each a known trap, that the comparison must catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data.loading.batch import CellBatch, concatenate
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn import counter as counter_module
from cell_lm.nn import encoder as encoder_module
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.counter import Counter
from cell_lm.nn.layout import AttentionLayout, Segments
from cell_lm.objectives import contrastive
from cell_lm.objectives import divide_and_conquer as engine_module
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from cell_lm.objectives.masked import choose_hidden, choose_read

ATTENTIONS = ("full", "latent", "performer")
SEED, STEP = 3, 5
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


def build(
    config: EncoderConfig, vocabulary: Vocabulary, dtype: torch.dtype = torch.float64, **objectives: Any
) -> CellLM:
    model = CellLM(config, vocabulary, ObjectivesConfig.model_validate(objectives), seed=1).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # some start at zero, where much of what is tested would vanish
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    assert config.dropout > 0  # without dropout the views are one and half of what is tested vanishes
    return model


def gradients(model: CellLM) -> Tensor:
    grads = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )
    assert grads.norm() > 1e-3
    return grads.clone()


def divided(model: CellLM, batch: CellBatch, budget: int, **step: Any) -> tuple[float, Tensor]:
    model.zero_grad()
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=budget)
    losses = engine.step(batch, STEP, **step)
    return losses.total, gradients(model)


def end_to_end(model: CellLM, batch: CellBatch) -> tuple[float, Tensor]:
    """All cells and views in one graph, the losses by their definitions, gradients by autograd."""
    objectives = model.objectives
    model.zero_grad()
    model.redraw_features(SEED, STEP)
    share = objectives.contrastive.gene_fraction
    counters = [Counter.of(SEED, STEP, batch.slots, view) for view in range(2)]
    both = concatenate([batch.keep(choose_read(batch, counter, share)) for counter in counters])
    cells = len(batch)
    view = torch.arange(2).repeat_interleave(cells)
    hidden = choose_hidden(both, Counter.of(SEED, STEP, both.slots, 0), objectives.masked.rate)
    output = model(both, hidden=hidden, counter=Counter.of(SEED, STEP, both.slots, view))
    masked = F.cross_entropy(output.expression, both.bins[hidden])
    known = both.malignancy >= 0
    malignancy = F.binary_cross_entropy_with_logits(
        output.malignancy[known], both.malignancy[known].to(output.malignancy.dtype)
    )
    logits = output.projection @ output.projection.T / objectives.contrastive.temperature
    logits = logits.masked_fill(torch.eye(2 * cells, dtype=torch.bool), -torch.inf)
    nce = F.cross_entropy(logits, torch.arange(2 * cells).roll(cells))
    weights = objectives.masked.weight, objectives.discrimination.weight, objectives.contrastive.weight
    loss = weights[0] * masked + weights[1] * malignancy + weights[2] * nce
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), gradients(model)


def error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def budget_for(batch: CellBatch, chunk: int) -> int:
    """A token budget that cuts into about ``chunk`` cells (two views each)."""
    return 1 if chunk == 1 else int(batch.lengths.mean() * chunk) * 2


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("chunk", [1, 5, 8, 17, 1000])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_the_gradient_equals_the_end_to_end_one_for_any_chunking(
    attention: str, chunk: int, dtype: torch.dtype, bound: float,
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary,
) -> None:  # fmt: skip
    model, batch = build(make_config(attention), vocabulary, dtype), make_batch()
    budget = budget_for(batch, chunk)
    assert len(list(batch.chunks(budget // 2))) > 1 or chunk >= 17
    loss, gradient = divided(model, batch, budget)
    expected_loss, expected = end_to_end(model, batch)
    assert loss == pytest.approx(expected_loss, rel=10 * bound)
    assert error(gradient, expected) <= bound


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("keep", [1, 2, 100])
def test_keeping_graphs_of_the_first_pass_changes_no_gradient_and_saves_forward_passes(
    attention: str, keep: int, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config(attention), vocabulary), make_batch()
    passes = []
    model.encoder.register_forward_hook(lambda *call: passes.append(call))
    expected = divided(model, batch, 100)[1]
    without = len(passes)
    passes.clear()
    model.zero_grad()
    DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100, keep=keep).step(batch, STEP)
    assert error(gradients(model), expected) <= 1e-12
    assert len(passes) == without - min(keep, without // 2)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_equal_chunking_gives_equal_bits(
    attention: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config(attention), vocabulary, torch.float32), make_batch()
    first, second = divided(model, batch, 200), divided(model, batch, 200)
    assert first[0] == second[0]
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("off", ["masked", "discrimination", "contrastive"])
def test_each_objective_can_be_off(off: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary) -> None:
    model, batch = build(make_config(), vocabulary, **{off: {"weight": 0.0}}), make_batch()
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
    losses = engine.step(batch, STEP)
    values = {"masked": losses.masked, "discrimination": losses.discrimination, "contrastive": losses.contrastive}
    assert math.isnan(values.pop(off))
    assert losses.total == pytest.approx(sum(values.values()))
    whole = gradients(model)
    assert error(divided(model, batch, 10**6)[1], whole) <= 1e-12


def test_weights_scale_and_accumulation_are_linear(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    batch, config = make_batch(), make_config()
    weights = {"masked": {"weight": 0.7}, "discrimination": {"weight": 0.2}, "contrastive": {"weight": 1.3}}
    model = build(config, vocabulary, **weights)
    once = divided(model, batch, 200)[1]
    assert error(once, end_to_end(model, batch)[1]) <= 1e-12
    assert error(divided(model, batch, 200, loss_scale=0.25)[1], once / 4) <= 1e-12
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=200)
    model.zero_grad()
    engine.step(batch[:9], STEP)
    first = gradients(model)
    engine.step(batch[9:], STEP)
    both = gradients(model)
    model.zero_grad()
    engine.step(batch[9:], STEP)
    assert error(both, first + gradients(model)) <= 1e-12


def test_cells_of_unknown_malignancy_do_not_count(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config(), vocabulary), make_batch()
    unknown = CellBatch(
        batch.genes, batch.bins, batch.values, batch.offsets, torch.full_like(batch.malignancy, -1), batch.slots
    )
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
    losses = engine.step(unknown, STEP)
    assert losses.labelled_cells == 0
    assert losses.discrimination != losses.discrimination
    assert losses.total == pytest.approx(losses.masked + losses.contrastive)
    assert all(p.grad is None or not p.grad.any() for p in model.malignancy_head.parameters())


def test_another_step_or_seed_meets_other_masks(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config(), vocabulary), make_batch()
    losses = {
        DivideAndConquer(model, model.objectives, seed=seed, token_budget=100).evaluate(batch, step).total
        for seed, step in [(0, 0), (0, 1), (1, 0)]
    }
    assert len(losses) == 3


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_evaluation_gives_the_losses_of_the_step_and_no_gradient(
    attention: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config(attention), vocabulary), make_batch()
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
    losses = engine.evaluate(batch, STEP)
    assert all(p.grad is None for p in model.parameters())
    stepped = engine.step(batch, STEP)
    for name in ("total", "masked", "discrimination", "contrastive", "masked_accuracy", "masked_genes"):
        assert getattr(losses, name) == pytest.approx(getattr(stepped, name), rel=1e-12)


def redrawn_often(attention: str, make_config: Configs, vocabulary: Vocabulary) -> CellLM:
    return build(make_config(attention, redraw_every=2), vocabulary)


def test_evaluations_use_the_same_random_features_and_leave_those_of_training(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = redrawn_often("performer", make_config, vocabulary), make_batch()
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
    features = lambda: model.encoder.layers[0].attention.directions.clone()  # noqa: E731
    losses, drawn = [], []
    for step in (0, 2, 5):
        model.redraw_features(SEED, step)
        before = features()
        losses.append(engine.evaluate(batch, STEP).total)
        drawn.append(features())
        assert torch.equal(drawn[-1], before)
        model.redraw_features(SEED, step)
        assert torch.equal(features(), before), "it must know which features it holds"
    assert losses[0] == losses[1] == losses[2], "validations differ by weights alone"
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_step_after_an_evaluation_has_the_bits_of_one_without(
    attention: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    batch, found = make_batch(), []
    for evaluated in (False, True):
        model = redrawn_often(attention, make_config, vocabulary)
        engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
        engine.step(batch, 4)
        if evaluated:
            engine.evaluate(batch, 0)
        engine.step(batch, 5)
        found.append(gradients(model))
    assert torch.equal(*found)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_pass_over_a_chunk_copies_its_masks_to_the_host_and_nothing_else(
    attention: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU each such copy waits for it; what is read otherwise is read once a step."""
    model, batch = build(make_config(attention), vocabulary), make_batch()
    masks, numbers = list[Tensor](), list[str]()
    on_host = Tensor.cpu

    def cpu(self: Tensor) -> Tensor:
        if self.dim() == 2:
            masks.append(self)
        return on_host(self)

    monkeypatch.setattr(Tensor, "cpu", cpu)
    for name in ("tolist", "item", "__float__", "__bool__", "nonzero"):
        read = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda self, *a, read=read, name=name: numbers.append(name) or read(self, *a))
    counts = []
    for budget in (100, 10**6):
        engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=budget)
        masks.clear()
        numbers.clear()
        engine.step(batch, STEP)
        assert len(masks) == 2 * len(engine._divide(batch)), "once in the first pass, once in the second"
        counts.append(len(numbers))
    assert counts[0] == counts[1] <= 4


def test_bfloat16_autocast_stays_within_its_own_rounding(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config(), vocabulary, torch.float32), make_batch()
    exact = divided(model, batch, 10**6)[1]

    def rounded(budget: int) -> Tensor:
        model.zero_grad()
        autocast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
        DivideAndConquer(model, model.objectives, seed=SEED, token_budget=budget, autocast=autocast).step(batch, STEP)
        return gradients(model)

    whole, cut = rounded(10**6), rounded(100)
    assert whole.dtype == torch.float32
    rounding = error(whole, exact)
    assert 1e-4 < rounding < 0.1
    assert error(cut, whole) < 2 * rounding


# --- mutants: each breaks the engine in a known way, and the comparison with the end-to-end gradient must notice ---


@contextmanager
def dropout_that_draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A mask that changes between the passes."""
    generator = torch.Generator().manual_seed(0)

    def drawn(x: Tensor, keys: Tensor | None, site: int, rate: float) -> Tensor:
        keep = torch.rand(x.shape, generator=generator) >= rate
        return x * keep / (1 - rate)

    monkeypatch.setattr(encoder_module, "dropout", drawn)
    yield


@contextmanager
def negatives_of_the_chunk_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = DivideAndConquer._conquer

    def by_chunk(self: DivideAndConquer, projections: list[Tensor]) -> tuple[float, list[Tensor]]:
        parts = [whole(self, [projection]) for projection in projections]
        return sum(part[0] for part in parts) / len(parts), [part[1][0] / len(parts) for part in parts]  # type: ignore[misc,return-value]

    monkeypatch.setattr(DivideAndConquer, "_conquer", by_chunk)
    yield


@contextmanager
def losses_normalised_by_the_chunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = DivideAndConquer._local_losses

    def by_chunk(self: DivideAndConquer, output: Any, views: Any, counts: Any) -> tuple[Tensor, Tensor]:
        share = len(views.batch) / counts.views
        loss, sums = whole(self, output, views, type(counts)(*views.counts().tolist()))
        return loss * share, sums

    monkeypatch.setattr(DivideAndConquer, "_local_losses", by_chunk)
    yield


@contextmanager
def a_detached_view(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def detached(*args: Any, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
        loss, first, second = contrastive.info_nce(*args, **settings)
        return loss, first, torch.zeros_like(second)

    monkeypatch.setattr(engine_module, "info_nce", detached)
    yield


@contextmanager
def features_redrawn_by_forward_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole, calls = PerformerAttention.forward, [0]

    def redrawing(self: PerformerAttention, *args: Any) -> Tensor:
        calls[0] += 1
        self.redraw(calls[0])
        return whole(self, *args)

    monkeypatch.setattr(PerformerAttention, "forward", redrawing)
    yield


@contextmanager
def keys_of_other_cells(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What padding does that enters the keys: a cell's attention sees rows that are not its own."""
    whole = encoder_module.TokenLayer.forward

    def leaking(
        self: Any, x: Tensor, keys: Tensor | None, layout: AttentionLayout, rows: Tensor | None, *rest: Any
    ) -> Tensor:
        if rows is None:
            everything = Segments.equal(1, len(x), x.device)
            layout = AttentionLayout(everything, everything)
        return whole(self, x, keys, layout, rows, *rest)

    monkeypatch.setattr(encoder_module.TokenLayer, "forward", leaking)
    yield


@contextmanager
def a_statistic_over_the_batch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = encoder_module.TokenLayer.feed_forward

    def centred(self: Any, x: Tensor, keys: Tensor | None) -> Tensor:
        return whole(self, x - x.mean(0), keys)

    monkeypatch.setattr(encoder_module.TokenLayer, "feed_forward", centred)
    yield


@contextmanager
def slots_counted_within_the_chunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Dropout and masks that depend on where a cell stands in its chunk."""
    whole = DivideAndConquer._make_views

    def counted(self: DivideAndConquer, chunk: CellBatch, step: int) -> Any:
        return whole(self, chunk.with_slots(0), step)

    monkeypatch.setattr(DivideAndConquer, "_make_views", counted)
    yield


@contextmanager
def a_stabiliser_over_the_batch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The largest key of all cells in place of the cell's own: it does not cancel against the small constant."""
    largest: list[Tensor] = []
    logits, cells = PerformerAttention._logits, PerformerAttention._cells

    def noting(self: PerformerAttention, x: Tensor) -> Tensor:
        largest.append(logits(self, x).detach().amax((0, 2)))
        return logits(self, x)

    def shifted(self: PerformerAttention, query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
        # a row with the batch's largest key, and no value, makes the cell's stabiliser the batch's
        row = largest[-1][None, None, :, None].expand(1, 1, -1, key.shape[3])
        value = torch.cat([value, torch.zeros_like(value[:, :1])], 1)
        return cells(self, query, torch.cat([key, row], 1), value, *rest)

    monkeypatch.setattr(PerformerAttention, "_logits", noting)
    monkeypatch.setattr(PerformerAttention, "_cells", shifted)
    yield


@contextmanager
def gradients_of_other_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The gradient of one chunk's embeddings at another chunk, as when passes run in different orders."""
    whole = DivideAndConquer._conquer

    def swapped(self: DivideAndConquer, projections: list[Tensor]) -> tuple[Tensor, list[Tensor | None]]:
        loss, gradients = whole(self, projections)
        joined = torch.cat([gradient for gradient in gradients if gradient is not None])
        return loss, list(joined.roll(1, 0).split([len(projection) for projection in projections]))

    monkeypatch.setattr(DivideAndConquer, "_conquer", swapped)
    yield


@pytest.mark.parametrize(
    ("mutant", "attention"),
    [
        (dropout_that_draws, "full"),
        (negatives_of_the_chunk_only, "full"),
        (losses_normalised_by_the_chunk, "full"),
        (a_detached_view, "full"),
        (features_redrawn_by_forward_calls, "performer"),
        (keys_of_other_cells, "full"),
        (a_statistic_over_the_batch, "full"),
        (slots_counted_within_the_chunk, "full"),
        (a_stabiliser_over_the_batch, "performer"),
        (gradients_of_other_chunks, "latent"),
    ],
)
def test_a_mutant_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], Any], attention: str, monkeypatch: pytest.MonkeyPatch,
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary,
) -> None:  # fmt: skip
    model, batch = build(make_config(attention), vocabulary), make_batch()
    # the comparison a broken encoder cannot hide from: its own gradient over all cells at once
    with mutant(monkeypatch):
        _, cut = divided(model, batch, 100)
        _, whole = end_to_end(model, batch)
    assert error(cut, whole) > 1e-6


def test_a_mutant_of_the_counter_changes_the_counter() -> None:
    """Guards the guard: the mutants patch names that the encoder really uses."""
    assert encoder_module.dropout is counter_module.dropout
    assert engine_module.info_nce is contrastive.info_nce
