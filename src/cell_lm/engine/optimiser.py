"""AdamW for the model, and its state as named tensors that safetensors can hold.

``torch.distributed.checkpoint.state_dict`` also names the state. But to save a new optimiser it takes a step with zero
gradients, which advances the step counters of the run; and it silently loads moments of a wrong shape, or only half of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from cell_lm.engine.sharding import spread
from cell_lm.errors import ModelError

_PARTS = ("step", "exp_avg", "exp_avg_sq")


class Rates(Protocol):
    """Settings of the optimiser; every kind of training has them."""

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay on matrices."""


def build_optimiser(model: nn.Module, training: Rates) -> torch.optim.AdamW:
    """Return AdamW with weight decay on the matrices of linear layers only.

    Biases, norms, embeddings and single learned vectors are left out: decay does not regularise them, and the vector of
    a rare gene would shrink between the few steps that use it.
    """
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in matrices], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if id(p) not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=training.learning_rate)


def _names(model: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Name the parameters in the order in which the optimiser numbers them."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimiser.param_groups for parameter in group["params"]]


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as ``{"<parameter>/<exp_avg | exp_avg_sq | step>": tensor}``."""
    names = _names(model, optimiser)
    state = optimiser.state_dict()["state"]
    return {f"{names[number]}/{part}": values[part] for number, values in state.items() for part in _PARTS}


def load_optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load what :func:`optimiser_tensors` returned.

    Raises
    ------
    ModelError
        The tensors do not belong to the model's parameters.
    """
    names = _names(model, optimiser)
    numbers = {name: number for number, name in enumerate(names)}
    parameters = dict(model.named_parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, part = key.rpartition("/")
        if name not in numbers or part not in _PARTS or (part != "step" and tensor.shape != parameters[name].shape):
            raise ModelError(
                f"the optimiser's state holds '{key}' of shape {list(tensor.shape)}, which is not the model's"
            )
        state.setdefault(numbers[name], {})[part] = tensor if part == "step" else spread(tensor, parameters[name])
    if any(len(parts) != len(_PARTS) for parts in state.values()):
        raise ModelError("the optimiser's state is incomplete")
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
