"""The one training loop: every kind of training is a :class:`Step` that this loop takes again and again.

A step of the loop: the gradient of step n, clip, *check on all ranks that loss and norm are finite*, update, log,
validate, save. Everything that decides a step is a function of its number (cells, masks, dropout, learning rate), so
weights, moments and the number are all that a resumed run needs to go on bit for bit. A :class:`Step` defines what is
trained and how its gradient and its validation are computed; the :class:`Trainer` owns optimiser, schedule, skipping,
counting, logging, early stopping and the moment of a checkpoint; :mod:`cell_lm.engine.run` owns the folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Protocol

import torch
from torch import nn

from cell_lm.engine.checkpoint import Checkpoint
from cell_lm.engine.distributed import OneProcess, Ranks
from cell_lm.engine.log import Log, SilentLog
from cell_lm.engine.optimiser import load_optimiser_tensors, optimiser_tensors
from cell_lm.engine.progress import Display, Silent
from cell_lm.engine.schedule import learning_rate
from cell_lm.engine.sharding import gather, load_weights, whole
from cell_lm.errors import ConfigError, ModelError, TrainingError
from cell_lm.files import JSON

_NO_PATIENCE = "Hold examples out, or leave out patience"
MAX_SKIPPED = 3
"""Steps in a row whose loss or gradient is not finite, after which the run ends."""


@dataclass(frozen=True)
class Metrics:
    """What was measured on a batch, or on held-out examples, over all ranks.

    Attributes
    ----------
    values : Mapping of str to float
        Numbers by name, in the order of the log; ``total`` is the loss that is optimised. NaN: nothing to measure.
    examples : int
        How many examples they were measured on.
    """

    values: Mapping[str, float]
    examples: int

    @property
    def total(self) -> float:
        """The loss that is optimised."""
        return self.values["total"]


class Step(Protocol):
    """A kind of training: what is trained, and how.

    All of it depends on the weights and on the number of the step alone; no state is kept from one step to the next.
    """

    examples: str
    """What is counted, in the plural: ``cells``."""
    if_not_finite: str
    """What a user can do about losses that are not finite."""

    @property
    def module(self) -> nn.Module:
        """What is trained, saved and restored."""

    def optimiser(self) -> torch.optim.AdamW:
        """Return the optimiser of ``module``, fresh."""

    def gradient(self, step: int) -> Metrics:
        """Add the gradient of step ``step`` (0, 1, …), summed over all ranks, to ``.grad``."""

    def validate(self) -> Metrics | None:
        """Measure the held-out examples, with the same random numbers each time; None where there are none."""

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return in a few words how a step went, for the display."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast; see :class:`~cell_lm.engine.schedule.Schedule` for the learning rate."""

    steps: int
    """Optimiser steps."""
    learning_rate: float
    """The peak."""
    warmup: float
    """Share of the steps in which the learning rate rises."""
    final_rate: float
    """Learning rate at the end, as a share of the peak."""
    clip: float
    """Largest gradient norm."""
    checkpoint_every: int
    """Steps between two checkpoints."""
    validate_every: int
    """Steps between two validations."""
    patience: int | None = None
    """Early stopping: validations in a row that bring no better one, after which the run ends; None: never."""
    monitor: str = "total"
    """The metric of the validation that is compared."""
    mode: Literal["min", "max"] = "min"
    """Whether a lower value of it is better, or a higher one."""


@dataclass
class LoopState:
    """What a run has to remember besides its tensors; all of it is in ``state.json`` of a checkpoint."""

    step: int = 0
    """Optimiser steps done."""
    examples: int = 0
    """Examples seen, counted each time."""
    seconds: float = 0.0
    """Time the run took, over all its sessions."""
    skipped: int = 0
    """Steps that never reached the weights."""
    skipped_in_a_row: int = 0
    """Those of them since the last good step."""
    best_validation: float | None = None
    """Best value of the monitored metric."""
    best_step: int | None = None
    """The step it was measured after."""
    validations_since_best: int = 0
    """Validations since then."""

    @classmethod
    def from_json(cls, values: Mapping[str, JSON]) -> LoopState:
        """Read back what a checkpoint holds."""
        try:
            return cls(**{field.name: values[field.name] for field in fields(cls)})  # type: ignore[arg-type]
        except KeyError as error:
            raise ModelError(f"the state of the checkpoint lacks {error}") from None


class Trainer:
    """Takes a :class:`Step` again and again.

    Parameters
    ----------
    step
        What is trained, and how.
    settings
        How long and how fast.
    ranks
        The processes that share a step; default: this one alone.
    log, display
        Where the numbers go, and what the user sees; default: nowhere.
    save
        Writes a checkpoint after so many steps; default: none is written.
    """

    def __init__(
        self,
        step: Step,
        settings: LoopSettings,
        ranks: Ranks | None = None,
        *,
        log: Log | None = None,
        display: Display | None = None,
        save: Callable[[int, Checkpoint], None] | None = None,
    ) -> None:
        self.step, self.module, self.settings, self.ranks = step, step.module, settings, ranks or OneProcess()
        self.log, self.display, self._save = log or SilentLog(), display or Silent(), save
        self.optimiser = step.optimiser()
        self.state = LoopState()
        self.saved: int | None = None
        self.train_metrics: Metrics | None = None
        self.validation_metrics: Metrics | None = None
        self._clock, self._examples, self._seconds = time.monotonic(), 0, 0.0

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end or until ``stop`` returns true on a rank, save, and return whether it was stopped.

        Raises
        ------
        TrainingError
            Loss or gradient was not finite three times in a row, or the disk is full. The checkpoints stand.
        """
        state, settings, stopped = self.state, self.settings, False
        self._clock = time.monotonic()
        self.module.train()
        if state.step == 0:
            self._validate()
            self._keep_best()
        while not (stopped or self.finished):
            began = time.monotonic()
            metrics = self.step.gradient(state.step)
            norm = float(whole(torch.nn.utils.clip_grad_norm_(self.module.parameters(), settings.clip)))
            rate = learning_rate(state.step, settings)
            finite = self._all_ranks_finite(metrics, norm)
            if finite:
                self._update(rate)
            self.optimiser.zero_grad()
            seconds = self._count(metrics, began)
            if finite:
                self._log(metrics, rate, norm, seconds)
            else:
                self._skip(metrics, norm)
            if self._due(settings.validate_every):
                self._validate()
            if self._due(settings.checkpoint_every):
                self.checkpoint()
            self._keep_best()
            stopped = self.ranks.any([stop()])[0] and not self.finished
        self.checkpoint()
        return stopped

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or early stopping ended the run."""
        return self.state.step >= self.settings.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether the last validations brought no better one, as many as ``patience`` allows."""
        patience = self.settings.patience
        return patience is not None and self.state.validations_since_best >= patience

    @property
    def examples_per_second(self) -> float:
        """Speed of this session's steps, validation and checkpoints left out; NaN before the first."""
        return self._examples / self._seconds if self._seconds else math.nan

    def restore(self, step: int, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint; one of step 0 holds weights to begin with, and nothing else."""
        load_weights(self.module, checkpoint.model)
        load_optimiser_tensors(self.module, self.optimiser, checkpoint.optimiser)
        self.state, self.saved = LoopState.from_json(checkpoint.state) if step else LoopState(), step

    def checkpoint(self) -> None:
        """Save all that is needed to go on, unless that is done already."""
        state = self.state
        if self._save is None or self.saved == state.step:
            return
        self._tick()
        self.log.sync()
        values: dict[str, JSON] = dict(asdict(state))
        moments = optimiser_tensors(self.module, self.optimiser)
        weights, moments = (gather(part, keep=self.ranks.is_main) for part in (self.module.state_dict(), moments))
        self._save(state.step, Checkpoint(weights, moments, values))
        self.saved = state.step

    def note(self, message: str) -> None:
        """Write a note into the log and show it."""
        self.log.note(self.state.step, message)
        self.display.note(message)

    def _all_ranks_finite(self, metrics: Metrics, norm: float) -> bool:
        """Agree over the ranks, so that all of them update or none."""
        return not self.ranks.any([not (math.isfinite(metrics.total) and math.isfinite(norm))])[0]

    def _update(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()

    def _skip(self, metrics: Metrics, norm: float) -> None:
        """Leave the weights as they were; give up after several in a row."""
        state = self.state
        state.skipped += 1
        state.skipped_in_a_row += 1
        found = f"loss {metrics.total:g}, gradient norm {norm:g}"
        self.note(f"step {state.step} skipped: {found}; the weights are as they were")
        if state.skipped_in_a_row >= MAX_SKIPPED:
            raise TrainingError(
                f"loss or gradient was not finite in {MAX_SKIPPED} steps in a row, up to step {state.step} ({found})",
                fix=self.step.if_not_finite,
            )

    def _tick(self) -> float:
        """Add the time since the last tick to the run's; return the clock."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now
        return now

    def _count(self, metrics: Metrics, began: float) -> float:
        """Count a step; return the seconds it took."""
        seconds = self._tick() - began
        self._examples += metrics.examples
        self._seconds += seconds
        self.state.step += 1
        self.state.examples += metrics.examples
        return seconds

    def _log(self, metrics: Metrics, rate: float, norm: float, seconds: float) -> None:
        state = self.state
        state.skipped_in_a_row = 0
        self.train_metrics = metrics
        speed = metrics.examples / seconds
        more = {"learning_rate": rate, "norm": norm, f"{self.step.examples}_per_second": speed}
        self.log.metrics("train", state.step, {**metrics.values, **more, "seconds": state.seconds})
        self.display.step(state.step, self.step.describe(metrics, speed))

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.settings.steps

    def _validate(self) -> None:
        metrics = self.step.validate()
        if metrics is None:
            if self.settings.patience is not None:
                raise ConfigError("early stopping was asked for, and there is nothing to validate on", fix=_NO_PATIENCE)
            return
        self.validation_metrics = metrics
        self._compare_with_best(metrics)
        self._tick()
        self.log.metrics("valid", self.state.step, {**metrics.values, "seconds": self.state.seconds})

    def _compare_with_best(self, metrics: Metrics) -> None:
        state, settings = self.state, self.settings
        if settings.monitor not in metrics.values:
            found = f"validation measures {', '.join(metrics.values)}, and '{settings.monitor}' is to be monitored"
            raise ConfigError(found, fix="Monitor one of those")
        value, best = metrics.values[settings.monitor], state.best_validation
        state.validations_since_best += 1
        better = best is None or (value < best if settings.mode == "min" else value > best)
        if math.isfinite(value) and better:
            state.best_validation, state.best_step, state.validations_since_best = value, state.step, 0

    def _keep_best(self) -> None:
        """With early stopping, save a checkpoint where the validation was the best so far."""
        if self.settings.patience is not None and self.state.best_step == self.state.step:
            self.checkpoint()
