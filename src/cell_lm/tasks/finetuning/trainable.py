r"""Which parameters of an encoder are trained, and low-rank changes of its linear layers.

A low-rank change (LoRA [1]_) adds :math:`B A` to the matrix of a layer, :math:`A` of shape [rank, in] and random,
:math:`B` of shape [out, rank] and 0 at the start. It is written as a parametrisation of the matrix, so it works for any
linear layer, and is merged into plain weights at the end.

References
----------
.. [1] Hu et al. (2021). LoRA: Low-rank adaptation of large language models. arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cell_lm.config import FineTuneConfig
from cell_lm.errors import ConfigError, ModelError
from cell_lm.model import CellLM
from cell_lm.nn.encoder import LatentEncoder

_NOT_IN_CLS = ("decoder.", "embedding.")
"""Parts of an encoder that low-rank changes leave out: CLS does not pass through the first, the second is a table."""


class LowRank(nn.Module):
    """A matrix plus a product of low rank; the sum is the matrix itself until ``up`` is trained.

    Parameters
    ----------
    linear
        The layer whose matrix it is.
    rank
        Rank of the product; at most the smaller side is used.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        rows, columns = linear.out_features, linear.in_features
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed matrix."""
        return weight + self.up @ self.down


def prepare(model: CellLM, config: FineTuneConfig) -> None:
    """Let only the chosen parameters of a model be trained; all others are frozen.

    The matrices of low-rank changes are drawn from torch's generator.

    Raises
    ------
    ModelError
        The refinement is to be trained, and the model has none.
    ConfigError
        More layers are to be trained than the model has.
    """
    model.requires_grad_(False)
    if config.part == "all":
        model.encoder.requires_grad_(True)
    elif config.part == "lora":
        for linear in list(_linears(model.encoder)):
            parametrize.register_parametrization(linear, "weight", LowRank(linear, config.rank))
    else:
        for module in _refinement(model) if config.part == "refinement" else _last(model, config.layers):
            module.requires_grad_(True)


def merge(model: nn.Module) -> None:
    """Make low-rank changes part of the matrices, and let all parameters be trained again."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    model.requires_grad_(True)


def _linears(encoder: nn.Module) -> Iterator[nn.Linear]:
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(_NOT_IN_CLS):
            yield module


def _refinement(model: CellLM) -> list[nn.Module]:
    readout = model.encoder.readout
    if readout.path is None or readout.path.is_empty:
        fix = "Train part='last', or use a model with encoder.linear_path = true, such as small"
        raise ModelError("the model has no linear path, and so no refinement to train", fix=fix)
    return [readout.norm, readout.refinement]


def _last(model: CellLM, number: int) -> list[nn.Module]:
    """Return the last layers, the norm after them and the read-out; cross-attentions between them belong to them."""
    encoder, count = model.encoder, len(model.encoder.layers)
    if number > count:
        raise ConfigError(f"layers = {number}, and the model has {count}", fix=f"Give a number from 1 to {count}")
    first = count - number
    crossing = encoder.cross_attentions.items() if isinstance(encoder, LatentEncoder) else ()
    between = [module for after, module in crossing if int(after) >= first]
    return [*encoder.layers[first:], *between, encoder.norm, encoder.readout]
