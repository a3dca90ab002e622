from __future__ import annotations

import pytest
import torch

from cell_lm.engine.optimiser import build_optimiser, load_optimiser_tensors, optimiser_tensors
from cell_lm.errors import ModelError
from cell_lm.model import CellLM
from toy_run import VOCABULARY, toy_config

CONFIG = toy_config()


def model_and_optimiser(attention: str = "full") -> tuple[CellLM, torch.optim.AdamW]:
    config = toy_config({"attention": attention})
    model = CellLM(config.encoder, VOCABULARY, config.objectives)
    return model, build_optimiser(model, config.training)


def train(model: CellLM, optimiser: torch.optim.AdamW, steps: int) -> None:
    generator = torch.Generator().manual_seed(steps)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


@pytest.mark.parametrize("attention", ["full", "latent"])
def test_only_matrices_of_linear_layers_decay(attention: str) -> None:
    model, optimiser = model_and_optimiser(attention)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in optimiser.param_groups if group["weight_decay"] for p in group["params"]}
    spared = set(names.values()) - decayed
    assert decayed
    assert all(dict(model.named_parameters())[name].ndim == 2 for name in decayed)
    assert not any("norm" in name or "embedding.genes" in name or "table" in name for name in decayed)
    assert {name for name in spared if "attention" in name and name.endswith("weight") and "norm" not in name} == set()
    assert "encoder.cls" in spared or "encoder.latents" in spared
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(names)


def test_state_goes_through_tensors_and_back_to_the_bit() -> None:
    first, second = model_and_optimiser(), model_and_optimiser()
    train(*first, 3)
    second[0].load_state_dict(first[0].state_dict())
    load_optimiser_tensors(*second, {name: tensor.clone() for name, tensor in optimiser_tensors(*first).items()})
    train(*first, 2)
    train(*second, 2)
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))


def test_without_the_moments_the_next_steps_are_others() -> None:
    first, second = model_and_optimiser(), model_and_optimiser()
    train(*first, 3)
    second[0].load_state_dict(first[0].state_dict())
    train(*first, 2)
    train(*second, 2)
    assert not all(torch.equal(a, b) for a, b in zip(first[0].parameters(), second[0].parameters(), strict=True))


def test_a_parameter_that_never_had_a_gradient_has_no_state() -> None:
    model, optimiser = model_and_optimiser()
    model.malignancy_head.requires_grad_(False)
    train(model, optimiser, 1)
    model.malignancy_head.logit.weight.grad = None
    assert "encoder.cls/exp_avg" in optimiser_tensors(model, optimiser)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("encoder.nothing/exp_avg", (2,)), ("encoder.cls/exp_avg", (3,)), ("encoder.cls/other", (16,))],
)
def test_state_of_other_parameters_is_refused(name: str, shape: tuple[int, ...]) -> None:
    model, optimiser = model_and_optimiser()
    with pytest.raises(ModelError, match=name):
        load_optimiser_tensors(model, optimiser, {name: torch.zeros(shape)})


def test_half_a_state_is_refused() -> None:
    model, optimiser = model_and_optimiser()
    train(model, optimiser, 1)
    tensors = optimiser_tensors(model, optimiser)
    del tensors["encoder.cls/exp_avg_sq"]
    with pytest.raises(ModelError, match="incomplete"):
        load_optimiser_tensors(model, optimiser, tensors)
