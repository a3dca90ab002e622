"""Pretraining from cells to a run folder: what a run is made of is put together here, or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from cell_lm._version import __version__
from cell_lm.config import PretrainConfig
from cell_lm.data.protocol import Dataset
from cell_lm.engine.checkpoint import Checkpoint, Checkpoints
from cell_lm.engine.disk import exclusive, writing
from cell_lm.engine.distributed import Ranks
from cell_lm.engine.folder import CHECKPOINTS, MODEL, RunFolder, config_hash
from cell_lm.engine.log import Log, RunLog, SilentLog
from cell_lm.engine.progress import Display, Silent, make_display
from cell_lm.engine.sharding import shard
from cell_lm.engine.stopping import stop_on_signals
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.files import JSON
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer, Losses
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.described import describe_data
from cell_lm.pretraining.plan import adopt, chosen, is_settled, plan, precision, settle
from cell_lm.pretraining.start import describe_vectors, fresh_model, read_vectors, start_gene_vectors
from cell_lm.pretraining.trainer import Trainer


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes
    ----------
    path : Path
        The run folder.
    steps : int
        Optimiser steps done, over all sessions of the run.
    seconds : float
        Time it took, over all sessions.
    cells_per_second : float
        Speed of this session's steps, validation and checkpoints left out; NaN where it had no step to do.
    train, validation : Losses | None
        The last ones of this session.
    interrupted : bool
        Whether it was asked to stop before the last step. ``resume=True`` goes on.
    signal : int | None
        By which signal it was.
    skipped : int
        Steps whose loss or gradient was not finite, and which never reached the weights.
    resumed_from : int | None
        Step of the checkpoint it went on from.
    best_validation : float | None
        Lowest total validation loss of the run.
    """

    path: Path
    steps: int
    seconds: float
    cells_per_second: float
    train: Losses | None
    validation: Losses | None
    interrupted: bool
    signal: int | None
    skipped: int
    resumed_from: int | None
    best_validation: float | None

    @property
    def exit_code(self) -> int:
        """What a command should leave with: 0, or 128 plus the signal (130 for SIGINT, 143 for SIGTERM)."""
        return 128 + self.signal if self.interrupted and self.signal else 0


def pretrain(
    datasets: Sequence[Dataset],
    config: PretrainConfig,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Pretrain a model on cells, or go on with a run that was interrupted.

    Under ``torchrun`` or ``accelerate launch`` every process calls it with the same arguments; each takes its share of
    every batch, the first one writes, and all need to see ``out``.

    Parameters
    ----------
    datasets
        Cells in memory (:class:`~cell_lm.data.cells.CellData`), in stores (:class:`~cell_lm.data.store.Store`) and in
        h5ad files (:class:`~cell_lm.data.backed.BackedCells`), in any mixture, all aligned to one vocabulary.
    config
        Of the run.
    out
        The run folder; it must be empty or not there, unless ``resume`` is set.
    resume
        Go on from the newest checkpoint of ``out`` that is whole. On the CPU the result is the same to the bit as that
        of a run that was never interrupted.
    progress
        Show a bar (on a terminal) or lines on standard error.
    stop
        Asked after every step; if it returns true, the run saves and leaves as after a signal.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError, ConfigError
        The cells, the configuration or the run folder do not fit together. Nothing was written.
    ModelError
        ``resume`` finds no run, or no checkpoint that is whole.
    TrainingError
        Losses are not finite, the disk is full, another process trains in the folder, or one of those that were
        launched together is gone.
    """
    out, ranks = Path(out), Ranks(config.training.timeout)
    with ExitStack() as stack:
        run = ranks.everywhere(lambda: _Run(config, out, ranks, Batches(datasets, config, ranks), datasets))
        stack.enter_context(ranks.together(run.advice))
        run.refuse_to_differ()
        run.settle(resume=resume)
        done = ranks.on_first(lambda: run.open(stack, resume=resume, progress=progress))
        trainer = run.trainer(done)
        stack.enter_context(run.batches.prefetch(done))
        request = stack.enter_context(stop_on_signals(launched=ranks.size > 1))
        try:
            interrupted = trainer.run(lambda: (stop is not None and stop()) or bool(request))
        except InputError as error:
            saved = "there is no checkpoint yet" if trainer.saved is None else f"step {trainer.saved} is saved"
            run.say(trainer.state.step, f"ended after step {trainer.state.step}; {saved} ({error})")
            raise
        if interrupted:
            step = trainer.state.step
            run.say(step, f"stopped after step {step} of {config.training.steps}; all is saved")
        signal = ranks.largest(request.signal or 0) or None
    return _result(trainer, out, done if resume else None, interrupted, signal)


def initial_model(datasets: Sequence[Dataset], config: PretrainConfig) -> CellLM:
    """Return the model that :func:`pretrain` starts from, before its first step."""
    vocabulary = datasets[0].vocabulary
    model = fresh_model(config, vocabulary)
    start_gene_vectors(
        model, config, read_vectors(config, vocabulary), Batches(datasets, config, Ranks()).training_subset
    )
    return model.eval()


class _Run:
    """What :func:`pretrain` puts together."""

    def __init__(
        self, config: PretrainConfig, out: Path, ranks: Ranks, batches: Batches, datasets: Sequence[Dataset]
    ) -> None:
        self.config, self.out, self.ranks, self.batches, self.datasets = config, out, ranks, batches, datasets
        self.folder = RunFolder(out)
        self.checkpoints = Checkpoints(out / CHECKPOINTS, config.training.keep_checkpoints)
        self.log: Log = SilentLog()
        self.display: Display = Silent()
        vocabulary = datasets[0].vocabulary
        self.vectors, self.described_vectors = read_vectors(config, vocabulary), describe_vectors(config)
        self.model = fresh_model(config, vocabulary).to(ranks.device)

    def refuse_to_differ(self) -> None:
        """Raise where the processes were not started with the same settings and cells: they would train on anything."""
        cells = [len(cells) for cells in self.datasets]
        given = f"{config_hash(self.config)} {self.model.vocabulary.hash} {cells} {self.described_vectors}"
        number = int.from_bytes(hashlib.sha256(given.encode()).digest()[:7])
        alike = self.ranks.same(number)

        def refuse() -> None:
            if not alike:
                fix = "Start all processes with the same command on the same files"
                raise ConfigError(f"the {self.ranks.size} processes were given different settings or cells", fix=fix)

        self.ranks.on_first(refuse)

    def settle(self, *, resume: bool) -> None:
        """Settle how steps are cut, where the configuration leaves it open; all ranks must call it."""
        if resume:
            self.config = adopt(self.config, self.ranks.everywhere(self.folder.read_config))
        if not is_settled(self.config):
            budget = plan(self.model, self.batches, self.config, self.ranks)
            self.config = settle(self.config, budget)
            self.folder.notes.append(str(budget))

    def advice(self) -> str:
        """Say how to go on once another process is gone."""
        steps = self.checkpoints.steps()
        kept = f"the checkpoint of step {steps[-1]:,} in {self.out} is good" if steps else "there is no checkpoint yet"
        again = "Start all processes again by the same command and --resume"
        return f"Its own message, if there is one, says why; {kept}. {again}"

    def _data(self) -> dict[str, JSON]:
        described = describe_data(self.datasets, len(self.batches.train_cells), len(self.batches.validation_cells))
        return described if self.described_vectors is None else described | {"gene_vectors": self.described_vectors}

    def open(self, stack: ExitStack, *, resume: bool, progress: bool) -> int:
        """Open run folder, log and display (only the first rank does); return the steps that are done."""
        done = self._resume(stack) if resume else self._begin(stack)
        self.log = stack.enter_context(RunLog(self.out, done))
        self.display = stack.enter_context(make_display(self.config.training.steps, done, progress=progress))
        for note in [*self.folder.notes, *([] if done else self.batches.notes)]:
            self.say(done, note)
        return done

    def _begin(self, stack: ExitStack) -> int:
        """Make the run folder; 0 steps are done."""
        self.folder.refuse_to_begin()
        data = self._data()
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(exclusive(self.out))
        self.folder.begin(self.config, data)
        return 0

    def _resume(self, stack: ExitStack) -> int:
        """Find the checkpoint to go on from; return its step."""
        self.folder.refuse_to_resume(self.config, self._data())
        stack.enter_context(exclusive(self.out))
        done, damaged = self.checkpoints.newest_whole()
        self.folder.resume(self.config)
        self.folder.notes += [f"damaged checkpoint passed over: {error}" for error in damaged]
        came = f"after step {done}" if done else "from the start, there was no checkpoint yet"
        self.folder.notes.append(f"resumed {came}")
        return done or 0

    def say(self, step: int, message: str) -> None:
        """Write a note into the log and show it."""
        self.log.note(step, message)
        self.display.note(message)

    def trainer(self, done: int) -> Trainer:
        """Put the trainer together, and the weights of the checkpoint into it."""
        self._prepare(done)
        token_budget, keep = chosen(self.config)
        engine = DivideAndConquer(
            self.model,
            self.config.objectives,
            seed=self.config.training.seed,
            token_budget=token_budget,
            keep=keep,
            autocast=precision(self.config, self.ranks.device),
        )
        trainer = Trainer(
            self.model,
            engine,
            self.batches,
            self.config,
            self.ranks,
            log=self.log,
            display=self.display,
            save=self.save,
        )
        if done:
            checkpoint = self._checked(self.checkpoints.load(done), done)
            trainer.restore(done, checkpoint)
            self.ranks.on_first(lambda: self._export(done, checkpoint))
        return trainer

    def _prepare(self, done: int) -> None:
        """Give the model the weights it starts from, unless a checkpoint has them, and share it among the ranks."""
        if not done:
            self.say(0, start_gene_vectors(self.model, self.config, self.vectors, self.batches.training_subset))
            self.ranks.broadcast(self.model.encoder.embedding.genes.weight)
        if self.config.training.sharding == "full":
            shard(self.model, self.ranks.device, self.ranks.size)

    def _checked(self, checkpoint: Checkpoint, step: int) -> Checkpoint:
        if checkpoint.state.get("config") != config_hash(self.config):
            where = str(self.checkpoints.path(step))
            raise ModelError("it was made under other settings than config.json names", where=where)
        return checkpoint

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and the model folder; the other ranks wait, and learn if it failed."""
        values: dict[str, JSON] = {
            **checkpoint.state,
            "config": config_hash(self.config),
            "vocabulary": self.model.vocabulary.hash,
            "version": __version__,
            "ranks": self.ranks.size,
        }

        def write() -> None:
            self.checkpoints.save(step, replace(checkpoint, state=values))
            self._export(step, checkpoint)

        self.ranks.on_first(write)

    def _export(self, step: int, checkpoint: Checkpoint) -> None:
        steps, names = self.config.training.steps, ", ".join(cells.name for cells in self.datasets)
        card = f"Pretrained for {step:,} of {steps:,} steps on {len(self.batches.train_cells):,} cells ({names})."
        with writing(self.out / MODEL):
            self.model.save_pretrained(self.out / MODEL, notes=card, tensors=checkpoint.model)


def _result(trainer: Trainer, out: Path, resumed: int | None, interrupted: bool, signal: int | None) -> RunResult:
    state = trainer.state
    return RunResult(
        path=out,
        steps=state.step,
        seconds=state.seconds,
        cells_per_second=trainer.cells_per_second,
        train=trainer.train_losses,
        validation=trainer.validation_losses,
        interrupted=interrupted,
        signal=signal,
        skipped=state.skipped,
        resumed_from=resumed,
        best_validation=state.best_validation,
    )
