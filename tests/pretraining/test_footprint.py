"""What a step costs is measured as it is, and measuring leaves the model as it was."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from cell_lm.pretraining import footprint
from cell_lm.pretraining.footprint import TensorMemory, measure

Batches = Callable[..., CellBatch]
Configs = Callable[..., EncoderConfig]


def test_tensors_are_counted_while_they_live() -> None:
    with TensorMemory() as memory:
        first = torch.zeros(1000)
        view = first[10:]
        assert memory.now == 4000
        second = torch.ones(500)
        del first
        assert memory.now == 6000, "the view holds the memory"
        del view, second
        gc.collect()
        torch.zeros(10)
    assert (memory.now, memory.peak) == (0, 6000)


def test_what_was_there_before_is_not_counted_through_a_view() -> None:
    there = torch.zeros(1000)
    with TensorMemory() as memory:
        view = there[10:]
        view += 1
        assert memory.now == 0
        copy = view.clone()
        assert memory.now == copy.numel() * 4


def test_memory_of_a_backward_pass_is_counted() -> None:
    weight = torch.ones(100, 100, requires_grad=True)
    with TensorMemory() as memory:
        (weight * 2).exp().sum().backward()
    assert memory.now == 40_000, "the gradient is left"
    assert memory.peak >= 2 * 40_000, "a result kept for the backward pass, and a gradient"


@pytest.mark.parametrize("attention", ["full", "latent"])
def test_the_memory_of_a_larger_step_is_foretold(
    attention: str, make_batch: Batches, make_config: Configs, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "LONGEST_PROBE", 1e9)  # a busy machine would measure fewer cells
    model = CellLM(make_config(attention), vocabulary)
    cost = measure(model, model.objectives, make_batch(32, genes=300, longest=200))
    larger = make_batch(96, genes=300, longest=200, seed=1)
    engine = DivideAndConquer(model, model.objectives, seed=0, token_budget=10**9)
    engine.step(larger[:2], 0)  # makes the gradients
    with TensorMemory() as memory:
        engine.step(larger, 0)
    assert cost.chunk_bytes + cost.bytes_per_gene * larger.tokens == pytest.approx(memory.peak, rel=0.15)
    kept = [chunk.tokens for chunk in larger.chunks(larger.tokens // 3)]
    engine.token_budget, engine.keep = 2 * (larger.tokens // 3), len(kept)
    with TensorMemory() as memory:
        engine.step(larger, 0)
    assert cost.chunk_bytes + cost.bytes_per_gene * larger.tokens == pytest.approx(memory.peak, rel=0.2)


def test_measuring_changes_neither_weights_nor_gradients_nor_the_global_generator(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model = CellLM(make_config(), vocabulary)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    measure(model, model.objectives, make_batch())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_without_the_contrastive_objective_there_is_no_first_pass_to_pay(
    make_batch: Batches, make_config: Configs, vocabulary: Vocabulary
) -> None:
    objectives = ObjectivesConfig.model_validate({"contrastive": {"weight": 0.0}})
    model = CellLM(make_config(), vocabulary, objectives)
    cost = measure(model, objectives, make_batch())
    assert (cost.first_seconds_per_gene, cost.contrast_seconds) == (0.0, 0.0)
    assert cost.replay_seconds_per_gene > 0
