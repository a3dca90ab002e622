"""The neural part of the main path: a multi-task network on principal components of the cell vectors ("N").

An ensemble of small networks with dropout, one output per drug, trained together by
:class:`cell_lm.engine.loop.Trainer` on the mean squared error over the measured pairs. Its last layer begins at zero,
so that it begins as a correction that says nothing; its outputs are rescaled by the slope that fits the validation
lines, and a network that has learned nothing is rescaled to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cell_lm.engine.loop import LoopSettings, Metrics
from cell_lm.tasks.response.training import held_out_rows, load, seed_of_step, seeded, train

Floats = NDArray[np.float64]

COMPONENTS, HIDDEN, DROPOUT, BATCH = 300, 512, 0.5, 128
HELD_OUT = 0.1
"""Fraction of the lines that decide when to stop, and the slope."""
SETTINGS = LoopSettings(
    steps=400,
    learning_rate=1e-3,
    warmup=0.05,
    final_rate=0.05,
    clip=5.0,
    checkpoint_every=10**9,
    validate_every=20,
    patience=5,
)


class Ensemble(nn.Module):
    """Several networks with one hidden layer, computed together.

    Parameters
    ----------
    members, inputs, hidden, drugs
        Numbers of networks, inputs, hidden units and outputs.
    """

    def __init__(self, members: int, inputs: int, hidden: int, drugs: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(members, inputs, hidden))
        self.bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.last = nn.Parameter(torch.zeros(members, hidden, drugs))
        self.offset = nn.Parameter(torch.zeros(members, 1, drugs))
        nn.init.normal_(self.first, std=math.sqrt(2 / inputs))

    def forward(self, inputs: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the outputs of every network, [members, lines, drugs], for inputs [lines, inputs]."""
        hidden = torch.relu(inputs @ self.first + self.bias)
        return torch.nn.functional.dropout(hidden, dropout, training=dropout > 0) @ self.last + self.offset


class _Step:
    """One step on a batch of lines; batches and dropout are functions of seed and step."""

    examples = "lines"
    if_not_finite = "Check that the expression has no extreme values, or fit without the network (network=False)"

    def __init__(self, module: Ensemble, inputs: Tensor, targets: Tensor, held_out: Tensor, seed: int) -> None:
        self.module, self.seed = module, seed
        self.seen = torch.isfinite(targets)
        self.inputs, self.targets = inputs, torch.nan_to_num(targets)
        self.train, self.held_out = torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()

    def optimiser(self) -> torch.optim.AdamW:
        """Return AdamW over all parameters."""
        return torch.optim.AdamW(self.module.parameters(), lr=SETTINGS.learning_rate, weight_decay=1e-2)

    def gradient(self, step: int) -> Metrics:
        """Add the gradient of a batch of lines to ``.grad``."""
        generator = torch.Generator().manual_seed(seed_of_step(self.seed, step))
        rows = self.train[torch.randperm(len(self.train), generator=generator)[:BATCH]]
        with seeded(seed_of_step(self.seed, step)):
            outputs = self.module(self.inputs[rows], DROPOUT)
        loss = self._loss(outputs, rows)
        torch.autograd.backward(loss)
        return Metrics({"total": loss.item()}, len(rows))

    @torch.no_grad()
    def validate(self) -> Metrics | None:
        """Return the loss of the mean of the networks on the held-out lines."""
        if not len(self.held_out):
            return None
        outputs = self.module(self.inputs[self.held_out]).mean(dim=0, keepdim=True)
        return Metrics({"total": self._loss(outputs, self.held_out).item()}, len(self.held_out))

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return loss and speed in a few words."""
        return f"squared error {metrics.total:.4f}, {per_second:,.0f} lines/s"

    def _loss(self, outputs: Tensor, rows: Tensor) -> Tensor:
        error = (outputs - self.targets[rows]) ** 2 * self.seen[rows]
        return error.sum() / (self.seen[rows].sum() * len(outputs)).clamp(min=1)


@dataclass(frozen=True, eq=False)
class Network:
    """A fitted ensemble and the components it reads.

    Attributes
    ----------
    basis : ndarray
        float64 [features, components]; components are scaled to unit variance.
    tensors : dict of str to ndarray
        Parameters of :class:`Ensemble`, float32.
    slope : float
        Outputs are multiplied by it.
    """

    basis: Floats
    tensors: dict[str, NDArray[np.float32]]
    slope: float

    def predict(self, features: Floats) -> Floats:
        """Return standardised responses, float64 [lines, drugs], for standardised features [lines, features]."""
        members, inputs, hidden = self.tensors["first"].shape
        module = Ensemble(members, inputs, hidden, self.tensors["last"].shape[2])
        load(module, self.tensors)
        with torch.no_grad():
            outputs = module(torch.from_numpy((features @ self.basis).astype(np.float32))).mean(dim=0)
        return np.asarray(self.slope * outputs.double().numpy())


def fit_network(
    features: Floats,
    responses: Floats,
    *,
    members: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Network:
    """Train the ensemble.

    Parameters
    ----------
    features
        Standardised [lines, features].
    responses
        Standardised [lines, drugs], NaN where not measured.
    members
        Number of networks.
    seed
        Seed of weights, batches, dropout and held-out lines.
    progress
        Called with 1 after every step.
    """
    _, singular, axes = np.linalg.svd(features, full_matrices=False)
    kept = min(COMPONENTS, int((singular > 1e-6 * singular[0]).sum()))
    basis = axes[:kept].T * (np.sqrt(len(features)) / singular[:kept])
    # equal variance of all components would make noise as loud as signal; the square root is a compromise
    basis = basis * np.sqrt(singular[:kept] / singular[0])
    held_out = held_out_rows(len(features), HELD_OUT, least=1, seed=seed)
    with seeded(seed):
        module = Ensemble(members, kept, HIDDEN, responses.shape[1])
    inputs = torch.from_numpy((features @ basis).astype(np.float32))
    step = _Step(module, inputs, torch.from_numpy(responses.astype(np.float32)), torch.from_numpy(held_out), seed)
    unscaled = Network(basis, train(step, SETTINGS, progress), 1.0)
    return replace(unscaled, slope=_slope(unscaled.predict(features[held_out]), responses[held_out]))


def _slope(predicted: Floats, measured: Floats) -> float:
    """Return the slope through zero that fits the measured responses, from 0 to 2."""
    seen = np.isfinite(measured)
    squares = float((predicted[seen] ** 2).sum())
    return float(np.clip((predicted[seen] * measured[seen]).sum() / squares, 0.0, 2.0)) if squares > 0 else 0.0
