"""Divide and conquer against one end-to-end graph, and mutants, each a known trap, that the comparison must catch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data.loading.batch import PER_CELL, CellBatch, concatenate
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn import counter as counter_module
from cell_lm.nn import encoder as encoder_module
from cell_lm.nn.attention import PerformerAttention
from cell_lm.nn.counter import Counter, keep_mask, mix
from cell_lm.nn.layout import AttentionLayout, Segments, cell_of_gene
from cell_lm.objectives import contrastive, reconstruction, thinning
from cell_lm.objectives import divide_and_conquer as engine_module
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from cell_lm.objectives.masked import MASK_SITE, choose_hidden, choose_read
from cell_lm.objectives.thinning import THIN_SITE
from made_reference import dense_residuals, made_reference

ATTENTIONS = ("full", "latent", "performer")
SEED, STEP = 3, 5
Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """The genes of the batches, and some that no cell expresses: a table of all human genes is most of the time."""
    return Vocabulary(tuple(f"GENE{i:03d}" for i in range(400)), ("",) * 400)


def build(
    config: EncoderConfig, vocabulary: Vocabulary, dtype: torch.dtype = torch.float64, **objectives: Any
) -> CellLM:
    """A model with a reference, in which every part has its share: halves of the counts of half of the genes.

    Of the masked genes of a cell two are predicted, on average.
    """
    settings = {"contrastive": {"gene_fraction": 0.5}, "masked": {"most": 2}} | objectives
    model = CellLM(config, vocabulary, ObjectivesConfig.model_validate(settings), seed=1)
    if model.encoder.readout.path is not None:
        model.set_reference(made_reference(len(vocabulary), config.reference_genes, config.width))
    model.to(dtype)
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


def halves(batch: CellBatch) -> list[CellBatch]:
    """Both halves of the counts, by the definition of thinning, a gene at a time in Python."""
    keys = mix(Counter.of(SEED, STEP, batch.slots, 0).rows(cell_of_gene(batch), batch.genes) ^ THIN_SITE).tolist()
    cell = np.repeat(np.arange(len(batch)), batch.lengths)
    whole = np.rint(np.expm1(batch.values.numpy().astype(float)) * batch.depths.numpy()[cell] / PER_CELL).clip(1)
    first = np.array([heads(key, int(n)) for key, n in zip(keys, whole, strict=True)], float)
    found = []
    for counts in (first, whole - first):
        total = np.bincount(cell, counts, len(batch))
        counts = np.where((total == 0)[cell], whole, counts)
        part = batch.keep(torch.from_numpy(counts > 0))
        left, owner = torch.from_numpy(counts[counts > 0]).float(), cell_of_gene(part)
        depths = torch.zeros(len(batch)).index_add(0, owner, left)
        values = torch.log1p(left * (PER_CELL / depths)[owner])
        found.append(replace(part, values=values, bins=values.round().long().clamp(max=5), depths=depths))
    return found


def heads(key: int, tosses: int) -> int:
    """How many of so many tosses of a coin are heads: the tosses are the low 63 bits of one hash after the other."""
    if tosses > 252:
        first, second = ((scramble(key ^ word) >> 11) & (2**53 - 1) for word in (1, 2))
        radius = math.sqrt(-2 * math.log1p(-first / 2**53))
        drawn = tosses / 2 + math.sqrt(tosses) / 2 * radius * math.cos(2 * math.pi * second / 2**53)
        return min(max(round(drawn), 0), tosses)
    bits = "".join(f"{scramble(key ^ word) % 2**63:063b}"[::-1] for word in (1, 2, 3, 4))
    return bits[:tosses].count("1")


def scramble(x: int) -> int:
    """SplitMix64's output function, of whole numbers."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def predicted_genes(model: CellLM, whole: CellBatch, views: CellBatch) -> Tensor:
    """Which genes of the views are predicted if they are masked, a gene at a time in Python."""
    settings, cell = model.objectives.masked, cell_of_gene(views)
    keys = Counter.of(SEED, STEP, views.slots, 0).rows(cell, views.genes)
    lengths = dict(zip(whole.slots.tolist(), whole.lengths.tolist(), strict=True))
    rates = [min(settings.rate, settings.most / lengths[slot]) for slot in views.slots[cell].tolist()]
    return torch.cat([~keep_mask(key[None], MASK_SITE, 1, rate)[0] for key, rate in zip(keys, rates, strict=True)])


def end_to_end(model: CellLM, batch: CellBatch) -> tuple[float, Tensor]:
    """All cells and views in one graph, the losses by their definitions, gradients by autograd."""
    objectives = model.objectives
    model.zero_grad()
    model.redraw_features(SEED, STEP)
    share = objectives.contrastive.gene_fraction
    counters = [Counter.of(SEED, STEP, batch.slots, view) for view in range(2)]
    parts = halves(batch) if objectives.contrastive.thinning else [batch, batch]
    parts = [part.keep(choose_read(part, each, share)) for part, each in zip(parts, counters, strict=True)]
    both, other = concatenate(parts), concatenate(parts[::-1])
    cells = len(batch)
    view = torch.arange(2).repeat_interleave(cells)
    hidden = choose_hidden(both, Counter.of(SEED, STEP, both.slots, 0), objectives.masked.rate)
    predicted = hidden & predicted_genes(model, batch, both)
    output = model(
        both, hidden=hidden, predicted=predicted, counter=Counter.of(SEED, STEP, both.slots, view), reconstruct=True
    )
    masked = F.cross_entropy(output.expression, both.bins[predicted])
    known = both.malignancy >= 0
    malignancy = F.binary_cross_entropy_with_logits(
        output.malignancy[known], both.malignancy[known].to(output.malignancy.dtype)
    )
    logits = output.projection @ output.projection.T / objectives.contrastive.temperature
    logits = logits.masked_fill(torch.eye(2 * cells, dtype=torch.bool), -torch.inf)
    nce = F.cross_entropy(logits, torch.arange(2 * cells).roll(cells))
    reference = model.reference
    assert reference is not None
    target = torch.from_numpy(dense_residuals(other, model.encoder.readout.path.profile.numpy(), reference.genes))
    residuals = output.residuals[:, : len(reference.genes)]
    reconstruction = F.mse_loss(residuals, target.to(residuals))
    loss = objectives.masked.weight * masked + objectives.discrimination.weight * malignancy
    loss = loss + objectives.contrastive.weight * nce + objectives.reconstruction.weight * reconstruction
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


@pytest.mark.parametrize("changes", [{"thinning": False}, {"gene_fraction": 1.0}, {"weight": 0.0}])
def test_with_other_views_too_the_gradient_equals_the_end_to_end_one(
    changes: dict[str, object], make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model, batch = build(make_config("latent"), vocabulary, contrastive={"gene_fraction": 0.5} | changes), make_batch()
    loss, gradient = divided(model, batch, 100)
    expected_loss, expected = end_to_end(model, batch)
    assert loss == pytest.approx(expected_loss, rel=1e-11)
    assert error(gradient, expected) <= 1e-12


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


@pytest.mark.parametrize("off", ["masked", "discrimination", "contrastive", "reconstruction"])
def test_each_objective_can_be_off(off: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary) -> None:
    model, batch = build(make_config(), vocabulary, **{off: {"weight": 0.0}}), make_batch()
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
    losses = engine.step(batch, STEP)
    values = {name: getattr(losses, name) for name in ("masked", "discrimination", "contrastive", "reconstruction")}
    assert math.isnan(values.pop(off))
    assert losses.total == pytest.approx(sum(values.values()))
    whole = gradients(model)
    assert error(divided(model, batch, 10**6)[1], whole) <= 1e-12


def test_weights_scale_and_accumulation_are_linear(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    batch, config = make_batch(), make_config()
    weights = {"masked": {"weight": 0.7}, "discrimination": {"weight": 0.2}, "contrastive": {"weight": 1.3}}
    weights["reconstruction"] = {"weight": 0.4}
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
    unknown = replace(batch, malignancy=torch.full_like(batch.malignancy, -1))
    engine = DivideAndConquer(model, model.objectives, seed=SEED, token_budget=100)
    losses = engine.step(unknown, STEP)
    assert losses.labelled_cells == 0
    assert losses.discrimination != losses.discrimination
    assert losses.total == pytest.approx(losses.masked + losses.contrastive + losses.reconstruction)
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
    names = ("total", "masked", "discrimination", "contrastive", "reconstruction", "masked_accuracy", "masked_genes")
    for name in names:
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


@contextmanager
def counts_divided_anew_in_the_replay(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole, calls = engine_module.divide_counts, [0]

    def divided_anew(batch: CellBatch, counter: Counter) -> Tensor:
        calls[0] += 1
        return whole(batch, Counter(counter.cells ^ calls[0]))

    monkeypatch.setattr(engine_module, "divide_counts", divided_anew)
    yield


@contextmanager
def the_target_of_the_own_view(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = engine_module.reconstruction_loss

    def of_own(predicted: Tensor, residuals: Tensor, used: Tensor) -> Tensor:
        return whole(predicted, residuals.roll(len(residuals) // 2, 0), used)

    monkeypatch.setattr(engine_module, "reconstruction_loss", of_own)
    yield


@contextmanager
def both_views_the_same_half(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = engine_module.divide_counts

    def one_half(batch: CellBatch, counter: Counter) -> Tensor:
        return whole(batch, counter)[:1].expand(2, -1)

    monkeypatch.setattr(engine_module, "divide_counts", one_half)
    yield


@contextmanager
def halves_at_the_depth_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = engine_module.with_counts

    def too_deep(batch: CellBatch, counts: Tensor, bins: int) -> CellBatch:
        return replace(whole(batch, counts, bins), depths=batch.depths)

    monkeypatch.setattr(engine_module, "with_counts", too_deep)
    yield


@contextmanager
def rows_without_a_gene_in_the_error(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    whole = engine_module.reconstruction_loss
    monkeypatch.setattr(engine_module, "reconstruction_loss", lambda x, y, used: whole(x, y, torch.ones_like(used)))
    yield


@pytest.mark.parametrize(
    ("mutant", "attention"),
    [
        (counts_divided_anew_in_the_replay, "latent"),
        (the_target_of_the_own_view, "latent"),
        (both_views_the_same_half, "latent"),
        (halves_at_the_depth_of_the_cell, "latent"),
        (rows_without_a_gene_in_the_error, "latent"),
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
    assert engine_module.divide_counts is thinning.divide_counts
    assert engine_module.with_counts is thinning.with_counts
    assert engine_module.reconstruction_loss is reconstruction.reconstruction_loss
