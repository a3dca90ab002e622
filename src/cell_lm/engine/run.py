"""A run in a folder: the part around the loop that all kinds of training share.

It starts, resumes or refuses a run; locks the folder; handles log, display and signals; writes checkpoints and skips
damaged ones; synchronises several processes. A kind of training opens a :class:`RunSession`, makes its
:class:`~cell_lm.engine.loop.Step`, and trains it::

    with RunSession(RunFolder(out, KIND), ranks, keep_checkpoints=2) as session:
        config = session.open(config, describe_data, resume=resume, progress=True)
        result = session.train(MyStep(config), settings)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeAlias

from torch import Tensor

from cell_lm._version import __version__
from cell_lm.engine.checkpoint import Checkpoint, Checkpoints, Shapes
from cell_lm.engine.disk import exclusive, writing
from cell_lm.engine.distributed import Ranks
from cell_lm.engine.folder import CHECKPOINTS, Config, RunFolder
from cell_lm.engine.log import Log, RunLog, SilentLog
from cell_lm.engine.loop import LoopSettings, LoopState, Step, Trainer
from cell_lm.engine.progress import Display, Silent, make_display
from cell_lm.engine.sharding import load_weights
from cell_lm.engine.stopping import stop_on_signals
from cell_lm.errors import InputError, ModelError
from cell_lm.files import JSON

Export: TypeAlias = Callable[[int, Mapping[str, Tensor]], None]
"""Writes a result from the step and its weights; called on the main rank only."""


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes
    ----------
    path : Path
        The run folder.
    steps : int
        Optimiser steps done, over all sessions of the run.
    seconds : float
        Duration, over all sessions.
    examples_per_second : float
        Speed of this session's steps, without validation and checkpoints; NaN if it had no step to do.
    train, validation : Mapping of str to float, or None
        The last metrics of this session, as in the log.
    interrupted : bool
        Whether it was stopped before the last step. ``resume=True`` continues it.
    signal : int | None
        The signal that stopped it.
    stopped_early : bool
        Whether early stopping ended it.
    skipped : int
        Steps whose loss or gradient was not finite; they did not update the weights.
    resumed_from : int | None
        Step of the checkpoint it resumed from.
    best_validation : float | None
        Best validation of the run (of the loss: the lowest).
    best_step : int | None
        Step of that validation.
    """

    path: Path
    steps: int
    seconds: float
    examples_per_second: float
    train: Mapping[str, float] | None
    validation: Mapping[str, float] | None
    interrupted: bool
    signal: int | None
    stopped_early: bool
    skipped: int
    resumed_from: int | None
    best_validation: float | None
    best_step: int | None

    @property
    def exit_code(self) -> int:
        """Exit code of a command: 0, or 128 plus the signal (130 for SIGINT, 143 for SIGTERM)."""
        return 128 + self.signal if self.interrupted and self.signal else 0


class RunSession(Generic[Config]):
    """A session of a run: from opening its folder to closing it; all ranks must enter it.

    Parameters
    ----------
    folder
        Folder of the run.
    ranks
        The processes of the run.
    keep_checkpoints
        Number of checkpoints to keep.
    labels
        Further entries of a checkpoint's ``state.json``.

    Attributes
    ----------
    config
        The final configuration, once the run is open.
    start : int | None
        Step of the checkpoint to resume from; None: there is none.
    """

    config: Config

    def __init__(
        self,
        folder: RunFolder[Config],
        ranks: Ranks,
        *,
        keep_checkpoints: int,
        labels: Mapping[str, JSON] | None = None,
    ) -> None:
        self.folder, self.ranks, self.labels = folder, ranks, dict(labels or {})
        self.checkpoints = Checkpoints(folder.path / CHECKPOINTS, keep_checkpoints)
        self.log: Log = SilentLog()
        self.display: Display = Silent()
        self.start: int | None = None
        self._resumed = False
        self._stack = ExitStack()

    def __enter__(self) -> RunSession[Config]:
        self._stack.enter_context(self.ranks.lost_rank_errors(self._how_to_go_on))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close log and display, and unlock the folder."""
        self._stack.__exit__(kind, error, trace)

    @property
    def done(self) -> int:
        """Steps finished before this session."""
        return self.start or 0

    def open(
        self,
        config: Config,
        data: Callable[[], dict[str, JSON]],
        *,
        resume: bool,
        progress: bool,
        notes: Sequence[str] = (),
        shapes: Shapes | None = None,
    ) -> Config:
        """Start the run, or find the checkpoint to resume from; return the final configuration.

        Parameters
        ----------
        config
            Configuration of the run.
        data
            Returns the content of ``data.json``; called on the main rank only.
        resume, progress
            Whether to resume, and whether to show progress.
        notes
            Notes for the log of a new run.
        shapes
            Shape of every tensor of the model, by name: a checkpoint of other shapes is passed over on resume.

        Raises
        ------
        InputError, ConfigError, ModelError
            The run cannot start or resume in this folder.
        TrainingError
            Another process trains in it, or the disk is full.
        """
        start = partial(self._resume, config, shapes, data) if resume else partial(self._begin, config, data)
        number = self.ranks.run_on_main(lambda: self._open(config, start, progress=progress, notes=notes))
        self.start, self._resumed = (number - 1 if number else None), resume
        self.config = self.folder.settle(config, self.done)
        return self.config

    def _open(
        self, config: Config, start_run: Callable[[], int | None], *, progress: bool, notes: Sequence[str]
    ) -> int:
        """Open the folder; return one more than the step of the checkpoint to resume from, 0 if there is none."""
        start = start_run()
        done = start or 0
        steps = self.folder.kind.steps_of(self.folder.settle(config, done))
        self.log = self._stack.enter_context(RunLog(self.folder.path, done))
        self.display = self._stack.enter_context(make_display(steps, done, progress=progress))
        for note in [*self.folder.notes, *([] if done else notes)]:
            self._note(done, note)
        return 0 if start is None else start + 1

    def _begin(self, config: Config, data: Callable[[], dict[str, JSON]]) -> None:
        self.folder.refuse_to_begin()
        described, path = data(), self.folder.path
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(exclusive(path))
        self.folder.begin(config, described)

    def _resume(self, config: Config, shapes: Shapes | None, data: Callable[[], dict[str, JSON]]) -> int | None:
        self.folder.refuse_settings(config)
        self.folder.refuse_data(data())
        self._stack.enter_context(exclusive(self.folder.path))
        start, damaged = self.checkpoints.newest_whole(shapes)
        self.folder.resume(config, start or 0)
        self.folder.notes += [f"damaged checkpoint passed over: {error}" for error in damaged]
        came = f"after step {start}" if start else "from the start, there was no checkpoint yet"
        self.folder.notes.append(f"resumed {came}")
        return start

    def note(self, message: str) -> None:
        """Write a note to the log and show it."""
        self._note(self.done, message)

    def _note(self, step: int, message: str) -> None:
        self.log.note(step, message)
        self.display.note(message)

    def _how_to_go_on(self) -> str:
        """Return the advice for the error that another process is lost."""
        steps = self.checkpoints.steps()
        kept = f"the checkpoint of step {steps[-1]:,} in {self.folder.path} is good" if steps else _NO_CHECKPOINT
        again = "Start all processes again by the same command and --resume"
        return f"Its own message, if there is one, says why; {kept}. {again}"

    def load(self, step: int) -> Checkpoint:
        """Return the checkpoint of a step of this run.

        Raises
        ------
        ModelError
            It is missing or damaged, or was made under other settings.
        """
        checkpoint = self.checkpoints.load(step)
        if checkpoint.state.get("config") != self.folder.kind.hash(self.config):
            where = str(self.checkpoints.path(step))
            raise ModelError("it was made under other settings than config.json names", where=where)
        return checkpoint

    def train(
        self,
        step: Step,
        settings: LoopSettings,
        *,
        export: Export | None = None,
        stop: Callable[[], bool] | None = None,
        save_start: bool = False,
    ) -> RunResult:
        """Train to the end, or until a signal or ``stop`` ends it.

        Parameters
        ----------
        step
            The kind of training; the weights of a checkpoint, if there is one, replace those of its module.
        settings
            Settings of the loop.
        export
            Called with the weights of every checkpoint; with early stopping, at the end with the best ones.
        stop
            Called after every step; if it returns true, the run saves and stops as after a signal.
        save_start
            Save a checkpoint before the first step, so that a resumed run does not need the initial model.

        Raises
        ------
        TrainingError
            As :meth:`cell_lm.engine.loop.Trainer.run`.
        """
        save = partial(self._save, export, settings)
        trainer = Trainer(step, settings, self.ranks, log=self.log, display=self.display, save=save)
        if self.start is not None:
            checkpoint = self.load(self.start)
            trainer.restore(self.start, checkpoint)
            self.ranks.run_on_main(lambda: export(self.done, checkpoint.model) if export else None)
        elif save_start:
            trainer.checkpoint()
        request = self._stack.enter_context(stop_on_signals(launched=self.ranks.size > 1))
        interrupted = self._run(trainer, lambda: (stop is not None and stop()) or bool(request))
        self._take_best(trainer, export)
        signal = self.ranks.max(request.signal or 0) or None
        return self._result(trainer.state, trainer, interrupted=interrupted, signal=signal)

    def _run(self, trainer: Trainer, stop: Callable[[], bool]) -> bool:
        state, steps = trainer.state, trainer.settings.steps
        try:
            interrupted = trainer.run(stop)
        except InputError as error:
            saved = _NO_CHECKPOINT if trainer.saved is None else f"step {trainer.saved} is saved"
            trainer.note(f"ended after step {state.step}; {saved} ({error})")
            raise
        if interrupted:
            trainer.note(f"stopped after step {state.step} of {steps}; all is saved")
        return interrupted

    def _take_best(self, trainer: Trainer, export: Export | None) -> None:
        """With early stopping, load the weights of the best validation into the model."""
        best, settings = trainer.state.best_step, trainer.settings
        if settings.patience is None or best is None or not trainer.finished:
            return
        trainer.note(f"best validation after step {best} ({settings.monitor} {trainer.state.best_validation:g})")
        checkpoint = self.load(best)
        load_weights(trainer.module, checkpoint.model)
        self.ranks.run_on_main(lambda: export(best, checkpoint.model) if export else None)

    def _save(self, export: Export | None, settings: LoopSettings, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and the export on the main rank; all ranks raise if it fails."""
        values: dict[str, JSON] = {
            **checkpoint.state,
            "config": self.folder.kind.hash(self.config),
            **self.labels,
            "version": __version__,
            "ranks": self.ranks.size,
        }
        best = checkpoint.state["best_step"] if settings.patience is not None else None

        def write() -> None:
            self.checkpoints.save(step, replace(checkpoint, state=values), best=best if isinstance(best, int) else None)
            if export:
                export(step, checkpoint.model)

        self.ranks.run_on_main(write)

    def result(self) -> RunResult:
        """Return the result of a run whose steps are all done, from its checkpoint."""
        return self._result(LoopState.from_json(self.load(self.done).state))

    def _result(
        self, state: LoopState, trainer: Trainer | None = None, *, interrupted: bool = False, signal: int | None = None
    ) -> RunResult:
        train, validation = (trainer.train_metrics, trainer.validation_metrics) if trainer else (None, None)
        return RunResult(
            path=self.folder.path,
            steps=state.step,
            seconds=state.seconds,
            examples_per_second=trainer.examples_per_second if trainer else math.nan,
            train=None if train is None else train.values,
            validation=None if validation is None else validation.values,
            interrupted=interrupted,
            signal=signal,
            stopped_early=trainer is not None and trainer.stopped_early,
            skipped=state.skipped,
            resumed_from=self.done if self._resumed else None,
            best_validation=state.best_validation,
            best_step=state.best_step,
        )


_NO_CHECKPOINT = "there is no checkpoint yet"
