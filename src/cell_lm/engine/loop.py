"""The training loop: every kind of training is a :class:`Step` that this loop repeats.

A step of the loop: the gradient of step n, clip, *check on all ranks that loss and norm are finite*, update, log,
validate, save. Cells, masks, dropout and learning rate of a step are functions of its number, so a resumed run
needs only weights, moments and the number to continue bit for bit. A :class:`Step` defines what is
trained and how its gradient and its validation are computed; the :class:`Trainer` owns optimiser, schedule, skipping,
counting, logging, early stopping and the schedule of checkpoints; :mod:`cell_lm.engine.run` owns the folder.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol, get_args, get_type_hints

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
"""The run ends after so many steps in a row whose loss or gradient is not finite."""


@dataclass(frozen=True)
class Metrics:
    """Metrics of a batch, or of held-out examples, over all ranks.

    Attributes
    ----------
    values : Mapping of str to float
        Numbers by name, in the order of the log; ``total`` is the optimised loss. NaN: not measured.
    examples : int
        Number of examples.
    """

    values: Mapping[str, float]
    examples: int

    @property
    def total(self) -> float:
        """The loss that is optimised."""
        return self.values["total"]


class Step(Protocol):
    """A kind of training: its model, gradient and validation.

    All of it depends only on the weights and the number of the step; no state is kept between steps.
    """

    examples: str
    """What an example is, in the plural: ``cells``."""
    if_not_finite: str
    """Advice for losses that are not finite."""

    @property
    def module(self) -> nn.Module:
        """The module that is trained, saved and restored."""

    def optimiser(self) -> torch.optim.AdamW:
        """Return a new optimiser of ``module``."""

    def gradient(self, step: int) -> Metrics:
        """Add the gradient of step ``step`` (0, 1, …), summed over all ranks, to ``.grad``."""

    def validate(self) -> Metrics | None:
        """Measure the held-out examples, with the same random numbers each time; None if there are none."""

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return a short description of a step's metrics, for the display."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of the loop; see :class:`~cell_lm.engine.schedule.Schedule` for the learning rate."""

    steps: int
    """Optimiser steps."""
    learning_rate: float
    """Peak learning rate."""
    warmup: float
    """Fraction of the steps in which the learning rate rises."""
    final_rate: float
    """Learning rate at the end, as a fraction of the peak."""
    clip: float
    """Largest gradient norm."""
    checkpoint_every: int
    """Steps between two checkpoints."""
    validate_every: int
    """Steps between two validations."""
    patience: int | None = None
    """Early stopping: the run ends after so many validations without improvement; None: never."""
    monitor: str = "total"
    """The validation metric that early stopping compares."""
    mode: Literal["min", "max"] = "min"
    """Whether a lower or a higher value of ``monitor`` is better."""


@dataclass
class LoopState:
    """The state of a run besides its tensors, as in ``state.json`` of a checkpoint."""

    step: int = 0
    """Optimiser steps done."""
    examples: int = 0
    """Examples processed, repeats included."""
    seconds: float = 0.0
    """Duration of the run, over all its sessions."""
    skipped: int = 0
    """Steps that did not update the weights."""
    skipped_in_a_row: int = 0
    """Skipped steps since the last good one."""
    best_validation: float | None = None
    """Best value of the monitored metric."""
    best_step: int | None = None
    """Step of the best value."""
    validations_since_best: int = 0
    """Validations since the best one."""

    @classmethod
    def from_json(cls, values: Mapping[str, JSON]) -> LoopState:
        """Read the state from a checkpoint's JSON.

        Raises
        ------
        ModelError
            A value is missing, or of another type.
        """
        hints = get_type_hints(cls)
        for name, hint in hints.items():
            kinds = get_args(hint) or (hint,)
            if name not in values:
                raise ModelError(f"the state of the checkpoint lacks '{name}'")
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, (*kinds, int) if float in kinds else kinds):
                raise ModelError(f"the state of the checkpoint has {value!r:.40} as '{name}'")
        return cls(**{name: values[name] for name in hints})  # type: ignore[arg-type]


class Trainer:
    """Repeats a :class:`Step`.

    Parameters
    ----------
    step
        The kind of training.
    settings
        Settings of the loop.
    ranks
        The processes that share a step; default: this one alone.
    log, display
        Receive the metrics; default: no log, no display.
    save
        Writes a checkpoint; default: none is written.
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
            Loss or gradient was not finite three times in a row, or the disk is full. The checkpoints are intact.
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
        """Whether the last ``patience`` validations brought no improvement."""
        patience = self.settings.patience
        return patience is not None and self.state.validations_since_best >= patience

    @property
    def examples_per_second(self) -> float:
        """Speed of this session's steps, without validation and checkpoints; NaN before the first step."""
        return self._examples / self._seconds if self._seconds else math.nan

    def restore(self, step: int, checkpoint: Checkpoint) -> None:
        """Resume from a checkpoint; that of step 0 holds the initial weights only."""
        load_weights(self.module, checkpoint.model)
        load_optimiser_tensors(self.module, self.optimiser, checkpoint.optimiser)
        self.state, self.saved = LoopState.from_json(checkpoint.state) if step else LoopState(), step

    def checkpoint(self) -> None:
        """Save a checkpoint, unless the current step has one."""
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
        """Write a note to the log and show it."""
        self.log.note(self.state.step, message)
        self.display.note(message)

    def _all_ranks_finite(self, metrics: Metrics, norm: float) -> bool:
        """Return whether loss and norm are finite on all ranks, so that all of them update or none."""
        return not self.ranks.any([not (math.isfinite(metrics.total) and math.isfinite(norm))])[0]

    def _update(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()

    def _skip(self, metrics: Metrics, norm: float) -> None:
        """Skip the update; raise after several skipped steps in a row."""
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
        """Add the time since the last tick to the run's; return the current time."""
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
        """With early stopping, save a checkpoint if the validation is the best so far."""
        if self.settings.patience is not None and self.state.best_step == self.state.step:
            self.checkpoint()
