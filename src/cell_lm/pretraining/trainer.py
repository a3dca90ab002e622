"""The loop of pretraining, whole and in order.

A step: fetch the batch, gradient of the whole batch (divide and conquer), clip, *check that loss and norm are finite on
every rank*, optimise, log, validate, save. Everything that decides a step (cells, masks, dropout, learning rate) is a
function of its number, so weights, moments and the number are all that a resumed run needs to go on bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

import torch

from cell_lm.config import PretrainConfig
from cell_lm.engine.checkpoint import Checkpoint
from cell_lm.engine.distributed import Ranks
from cell_lm.engine.log import Log
from cell_lm.engine.optimiser import build_optimiser, load_optimiser_tensors, optimiser_tensors
from cell_lm.engine.progress import Display, describe
from cell_lm.engine.schedule import learning_rate
from cell_lm.engine.sharding import gather, load_weights, whole
from cell_lm.errors import ModelError, TrainingError
from cell_lm.files import JSON
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer, Losses
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.validation import average

MOST_SKIPPED = 3
"""Steps in a row whose loss or gradient is not finite, after which the run ends."""
VALIDATION_STEP = 0
"""The step whose masks and dropout every validation uses, so that its points differ by the weights alone."""


@dataclass
class RunState:
    """What a run knows of itself besides its tensors; all of it is in ``state.json`` of a checkpoint."""

    step: int = 0
    """Optimiser steps done."""
    cells: int = 0
    """Cells seen, counted each time."""
    seconds: float = 0.0
    """Time the run took, over all its sessions."""
    skipped: int = 0
    """Steps that never reached the weights."""
    skipped_in_a_row: int = 0
    """Those of them since the last good step."""
    best_validation: float | None = None
    """Lowest total validation loss."""
    best_step: int | None = None
    """The step it was measured after."""

    @classmethod
    def from_json(cls, values: dict[str, JSON]) -> RunState:
        """Read back what a checkpoint holds."""
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls)})  # type: ignore[arg-type]
        except KeyError as error:
            raise ModelError(f"the state of the checkpoint lacks {error}") from None


class Trainer:
    """Model, engine and optimiser, and the loop over them.

    Parameters
    ----------
    model, engine
        What is trained, and what computes its gradient.
    batches
        Which cells, when.
    config
        Of the run.
    ranks
        The processes that share a batch.
    log, display
        Where the numbers go, and what the user sees.
    save
        Writes a checkpoint after so many steps.
    """

    def __init__(
        self,
        model: CellLM,
        engine: DivideAndConquer,
        batches: Batches,
        config: PretrainConfig,
        ranks: Ranks,
        *,
        log: Log,
        display: Display,
        save: Callable[[int, Checkpoint], None],
    ) -> None:
        self.model, self.engine, self.batches, self.ranks = model, engine, batches, ranks
        self.objectives, self.training = config.objectives, config.training
        self.log, self.display, self._save = log, display, save
        self.optimiser = build_optimiser(model, config.training)
        self.state = RunState()
        self.saved: int | None = None
        self.train_losses: Losses | None = None
        self.validation_losses: Losses | None = None
        self._clock, self._cells, self._seconds = time.monotonic(), 0, 0.0

    @property
    def cells_per_second(self) -> float:
        """Speed of the steps since this process began, validation and checkpoints left out; NaN before the first."""
        return self._cells / self._seconds if self._seconds else math.nan

    def restore(self, step: int, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        load_weights(self.model, checkpoint.model)
        load_optimiser_tensors(self.model, self.optimiser, checkpoint.optimiser)
        self.state, self.saved = RunState.from_json(checkpoint.state), step

    def run(self, stop: Callable[[], bool]) -> bool:
        """Train to the end or to where ``stop`` says so, and leave a checkpoint; return whether it was stopped.

        Raises
        ------
        TrainingError
            Loss or gradient was not finite three times in a row, or the disk is full. The checkpoints stand.
        """
        state, stopped = self.state, False
        self._clock = time.monotonic()
        self.model.train()
        if state.step == 0:
            self._validate()
        while state.step < self.training.steps and not stopped:
            began = time.monotonic()
            batch = self.batches.train(state.step)
            losses = self.engine.step(batch, state.step)
            norm = float(whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)))
            rate = learning_rate(state.step, self.training)
            finite = self._finite_everywhere(losses, norm)
            if finite:
                self._optimise(rate)
            self.optimiser.zero_grad()
            seconds = self._count(losses, began)
            if finite:
                self._log(losses, rate, norm, seconds)
            else:
                self._skip(losses, norm)
            if self._due(self.training.validate_every):
                self._validate()
            if self._due(self.training.checkpoint_every):
                self.checkpoint()
            stopped = self.ranks.any([stop()])[0] and state.step < self.training.steps
        self.checkpoint()
        return stopped

    def _finite_everywhere(self, losses: Losses, norm: float) -> bool:
        """Agree over the ranks, so that all of them step or none."""
        return not self.ranks.any([not (math.isfinite(losses.total) and math.isfinite(norm))])[0]

    def _optimise(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()

    def _skip(self, losses: Losses, norm: float) -> None:
        """Leave the weights as they were; give up after several in a row."""
        state = self.state
        state.skipped += 1
        state.skipped_in_a_row += 1
        found = f"loss {losses.total:g}, gradient norm {norm:g}"
        self._note(f"step {state.step} skipped: {found}; the weights are as they were")
        if state.skipped_in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"loss or gradient was not finite in {MOST_SKIPPED} steps in a row, up to step {state.step} ({found})",
                fix="Lower training.learning_rate or use precision float32, in a new run; the last checkpoint is good",
            )

    def _tick(self) -> float:
        """Add the time since the last tick to the run's; return the clock."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now
        return now

    def _count(self, losses: Losses, began: float) -> float:
        """Count a step; return the seconds it took."""
        seconds = self._tick() - began
        self._cells += losses.cells
        self._seconds += seconds
        self.state.step += 1
        self.state.cells += losses.cells
        return seconds

    def _log(self, losses: Losses, rate: float, norm: float, seconds: float) -> None:
        state = self.state
        state.skipped_in_a_row = 0
        self.train_losses = losses
        speed = losses.cells / seconds
        numbers = {"learning_rate": rate, "norm": norm, "cells_per_second": speed, "seconds": state.seconds}
        self.log.losses("train", state.step, losses, **numbers)
        self.display.step(state.step, describe(losses, speed))

    def _note(self, message: str) -> None:
        self.log.note(self.state.step, message)
        self.display.note(message)

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.training.steps

    def _validate(self) -> None:
        """Measure the held-out cells, under the same masks each time."""
        state = self.state
        parts = [self.engine.evaluate(batch, VALIDATION_STEP) for batch in self.batches.validation()]
        if not parts:
            return
        losses = self.validation_losses = average(parts, self.objectives)
        if math.isfinite(losses.total) and (state.best_validation is None or losses.total < state.best_validation):
            state.best_validation, state.best_step = losses.total, state.step
        self._tick()
        self.log.losses("valid", state.step, losses, seconds=state.seconds)

    def checkpoint(self) -> None:
        """Save all that is needed to go on, unless that is done already."""
        state = self.state
        if self.saved == state.step:
            return
        self._tick()
        self.log.sync()
        values: dict[str, JSON] = dict(asdict(state))
        moments = optimiser_tensors(self.model, self.optimiser)
        weights, moments = (gather(part, keep=self.ranks.first) for part in (self.model.state_dict(), moments))
        self._save(state.step, Checkpoint(weights, moments, values))
        self.saved = state.step
