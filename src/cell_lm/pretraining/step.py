"""A step of pretraining, for the loop: the batch of the step, and divide and conquer over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import torch

from cell_lm.config import ObjectivesConfig, PretrainConfig
from cell_lm.engine.device import autocast
from cell_lm.engine.loop import LoopSettings, Metrics
from cell_lm.engine.optimiser import build_optimiser
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer, Losses
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.plan import chosen

LOGGED = (
    "total",
    "masked",
    "discrimination",
    "contrastive",
    "reconstruction",
    "masked_accuracy",
    "discrimination_accuracy",
)
"""Names of the losses that are metrics of the run."""
VALIDATION_STEP = 0
"""Every validation uses the masks and dropout of this step, so that only the weights differ."""


def loop_settings(config: PretrainConfig) -> LoopSettings:
    """Return the loop settings of a run."""
    names = ("steps", "learning_rate", "warmup", "final_rate", "clip", "checkpoint_every", "validate_every")
    return LoopSettings(**config.training.model_dump(include=set(names)))


class PretrainStep:
    """Pretraining as a :class:`~cell_lm.engine.loop.Step`.

    Parameters
    ----------
    model
        The model, on its device, already sharded if it is to be.
    batches
        Cells of each step.
    config
        Configuration of the run, with token budget and kept graphs set.
    device
        Device.
    """

    examples = "cells"
    if_not_finite = "Lower training.learning_rate or use precision float32, in a new run; the last checkpoint is good"

    def __init__(self, model: CellLM, batches: Batches, config: PretrainConfig, device: torch.device) -> None:
        self.module, self.batches, self.config = model, batches, config
        token_budget, keep = chosen(config)
        self.engine = DivideAndConquer(
            model,
            config.objectives,
            seed=config.training.seed,
            token_budget=token_budget,
            keep=keep,
            autocast=autocast(device, config.training.precision),
        )

    def optimiser(self) -> torch.optim.AdamW:
        """Return AdamW that decays matrices only."""
        return build_optimiser(self.module, self.config.training)

    def gradient(self, step: int) -> Metrics:
        """Add the gradient of the whole batch of a step to ``.grad``."""
        return _metrics(self.engine.step(self.batches.train(step), step))

    def validate(self) -> Metrics | None:
        """Evaluate the held-out cells, with the same masks and dropout each time."""
        parts = [self.engine.evaluate(batch, VALIDATION_STEP) for batch in self.batches.validation()]
        return _metrics(average(parts, self.config.objectives)) if parts else None

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return a short description: loss, accuracy of the masked genes and speed."""
        accuracy = metrics.values["masked_accuracy"]
        right = "" if math.isnan(accuracy) else f", masked genes right {accuracy:.1%}"
        return f"loss {metrics.total:.4f}{right}, {per_second:,.0f} cells/s"


def _metrics(losses: Losses) -> Metrics:
    values = asdict(losses)
    return Metrics({name: values[name] for name in LOGGED}, losses.cells)


def _mean(values: Sequence[float], counts: Sequence[int]) -> float:
    """Return the mean weighted by counts; NaN if nothing was counted."""
    counted = [(value, count) for value, count in zip(values, counts, strict=True) if count]
    total = sum(count for _, count in counted)
    return sum(value * count for value, count in counted) / total if counted else math.nan


def average(parts: Sequence[Losses], objectives: ObjectivesConfig) -> Losses:
    """Return the losses over all batches: each mean is weighted by its number of items.

    A batch with few cells of known malignancy has a small weight in discrimination. The total is the sum of the
    averaged terms; an objective without items adds nothing.
    """
    genes = [part.masked_genes for part in parts]
    labelled = [part.labelled_cells for part in parts]
    cells = [part.cells for part in parts]
    masked = _mean([part.masked for part in parts], genes)
    discrimination = _mean([part.discrimination for part in parts], labelled)
    contrastive = _mean([part.contrastive for part in parts], cells)
    on = [0 if math.isnan(part.reconstruction) else part.cells for part in parts]
    reconstruction = _mean([part.reconstruction for part in parts], on)
    terms = [
        (objectives.masked.weight, masked, sum(genes)),
        (objectives.discrimination.weight, discrimination, sum(labelled)),
        (objectives.contrastive.weight, contrastive, sum(cells)),
        (objectives.reconstruction.weight, reconstruction, sum(on)),
    ]
    return Losses(
        total=sum(weight * term for weight, term, count in terms if weight and count),
        masked=masked,
        discrimination=discrimination,
        contrastive=contrastive,
        reconstruction=reconstruction,
        masked_accuracy=_mean([part.masked_accuracy for part in parts], genes),
        discrimination_accuracy=_mean([part.discrimination_accuracy for part in parts], labelled),
        masked_genes=sum(genes),
        labelled_cells=sum(labelled),
        cells=sum(cells),
    )
