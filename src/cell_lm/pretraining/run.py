"""Pretraining from cells to a run folder: assembles the parts of a run, and refuses those that do not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from cell_lm.config import PretrainConfig
from cell_lm.data.protocol import Dataset
from cell_lm.engine.disk import writing
from cell_lm.engine.distributed import Ranks
from cell_lm.engine.run import RunResult, RunSession
from cell_lm.engine.sharding import shard
from cell_lm.errors import ConfigError
from cell_lm.files import JSON
from cell_lm.model import CellLM
from cell_lm.model_folder import Discriminated
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.described import describe_data
from cell_lm.pretraining.folder import INITIAL, KIND, MODEL, VECTORS, run_folder
from cell_lm.pretraining.initial import (
    InitialModel,
    copy_weights,
    load_recorded,
    recorded_initial,
    refuse_initial,
)
from cell_lm.pretraining.plan import adopt, is_settled, plan, settle
from cell_lm.pretraining.start import describe_vectors, fresh_model, read_vectors, start_model
from cell_lm.pretraining.step import PretrainStep, loop_settings
from cell_lm.terminal import refuse_other_than_flag


def pretrain(
    datasets: Sequence[Dataset],
    config: PretrainConfig,
    out: Path,
    *,
    initial: str | Path | CellLM | None = None,
    resume: bool = False,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Pretrain a model on cells, or resume an interrupted run.

    Under ``torchrun`` or ``accelerate launch`` every process calls it with the same arguments; each takes its part of
    every batch, the first one writes, and all must see ``out``.

    Parameters
    ----------
    datasets
        Cells in memory (:class:`~cell_lm.data.cells.CellData`), in stores (:class:`~cell_lm.data.store.Store`) and in
        h5ad files (:class:`~cell_lm.data.backed.BackedCells`), in any mixture, all aligned to one vocabulary.
    config
        Configuration of the run.
    out
        The run folder; it must be empty or absent, unless ``resume`` is set.
    initial
        Start from the weights of this run folder, model folder, repository of the Hugging Face hub or model, instead of
        random ones. The encoder of ``config`` and the vocabulary of the cells must be the model's. A resumed run
        has its weights in its checkpoints; ``initial`` may be left out then.
    resume
        Resume from the newest intact checkpoint of ``out``. On the CPU the result is bit for bit that of an
        uninterrupted run. ``config.training.steps`` may change: more steps also extend a finished run; no more steps
        than are done leave the run as it is. The remaining steps have the learning rate of a run of the new length.
    progress
        Show a bar (on a terminal) or lines on standard error.
    stop
        Called after every step; if it returns true, the run saves and stops as after a signal.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError, ConfigError
        The cells, the configuration, the initial model or the run folder do not fit together. Nothing was written.
    ModelError
        ``resume`` finds no run, or no intact checkpoint; or there is no initial model.
    TrainingError
        Losses are not finite, the disk is full, another process trains in the folder, or a process of the
        run is lost.
    """
    refuse_other_than_flag(progress)
    ranks = Ranks(config.training.timeout)
    run = ranks.run_on_all(lambda: _Pretraining(datasets, config, Path(out), ranks, initial, resume=resume))
    labels = {"vocabulary": run.model.vocabulary.hash}
    keep = config.training.keep_checkpoints
    with RunSession(run.folder, ranks, keep_checkpoints=keep, labels=labels) as session:
        run.refuse_to_differ()
        run.settle(resume=resume)
        shapes = {name: tuple(tensor.shape) for name, tensor in run.model.state_dict().items()}
        run.config = session.open(
            run.config, run.data, resume=resume, progress=progress, notes=run.batches.notes, shapes=shapes
        )
        step = run.step(session)
        with run.batches.prefetch(session.done):
            return session.train(
                step,
                loop_settings(run.config),
                export=run.export,
                stop=stop,
                save_start=run.recorded_initial is not None,
            )


def initial_model(datasets: Sequence[Dataset], config: PretrainConfig) -> CellLM:
    """Return the model that :func:`pretrain` starts from, before its first step."""
    vocabulary = datasets[0].vocabulary
    model = fresh_model(config, vocabulary)
    start_model(model, config, read_vectors(config, vocabulary), Batches(datasets, config, Ranks()).training_subset)
    return model.eval()


class _Pretraining:
    """The parts of a run of :func:`pretrain`."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        config: PretrainConfig,
        out: Path,
        ranks: Ranks,
        initial: str | Path | CellLM | None,
        *,
        resume: bool,
    ) -> None:
        self.datasets, self.config, self.out, self.ranks = datasets, config, out, ranks
        self.folder = run_folder(out)
        self.batches = Batches(datasets, config, ranks)
        vocabulary = datasets[0].vocabulary
        self.initial: InitialModel | None = None
        self.recorded_initial: JSON = None
        if resume:
            self.recorded_initial = recorded_initial(self.folder.read_data(), initial)
        elif initial is not None:
            self.initial = InitialModel.read(initial)
            refuse_initial(self.initial, config, datasets)
            self.recorded_initial = {**self.initial.describe()}
        self.vectors, self.described_vectors = read_vectors(config, vocabulary), describe_vectors(config)
        self.model = fresh_model(config, vocabulary).to(ranks.device)

    def refuse_to_differ(self) -> None:
        """Raise if the processes were started with different settings or cells: their gradients would not match."""
        cells = [len(cells) for cells in self.datasets]
        given = [KIND.hash(self.config), self.config.training.steps, self.model.vocabulary.hash, cells]
        more = [self.described_vectors, self.recorded_initial]
        number = int.from_bytes(hashlib.sha256(str(given + more).encode()).digest()[:7])
        equal = self.ranks.all_equal(number)

        def refuse() -> None:
            if not equal:
                fix = "Start all processes with the same command on the same files"
                raise ConfigError(f"the {self.ranks.size} processes were given different settings or cells", fix=fix)

        self.ranks.run_on_main(refuse)

    def settle(self, *, resume: bool) -> None:
        """Choose token budget and kept graphs where the configuration does not; all ranks must call it."""
        if resume:
            self.config = adopt(self.config, self.ranks.run_on_all(self.folder.read_config))
        if not is_settled(self.config):
            budget = plan(self.model, self.batches, self.config, self.ranks)
            self.config = settle(self.config, budget)
            self.folder.notes.append(str(budget))

    def data(self) -> dict[str, JSON]:
        """Return the content of ``data.json``."""
        described = describe_data(self.datasets, len(self.batches.train_cells), len(self.batches.validation_cells))
        more = {VECTORS: self.described_vectors, INITIAL: self.recorded_initial}
        return described | {key: value for key, value in more.items() if value is not None}

    def step(self, session: RunSession[PretrainConfig]) -> PretrainStep:
        """Return the step, with the initial weights in its model unless a checkpoint has the weights."""
        if session.start is None:
            session.note(self._start())
            for tensor in (self.model.encoder.embedding.genes.weight, *self.model.encoder.buffers()):
                self.ranks.broadcast(tensor)
        if self.config.training.sharding == "full":
            shard(self.model, self.ranks.device, self.ranks.size)
        return PretrainStep(self.model, self.batches, self.config, self.ranks.device)

    def _start(self) -> str:
        """Set the initial weights of the model; return where they are from."""
        if self.recorded_initial is not None:
            initial = self.initial or load_recorded(self.recorded_initial)
            return copy_weights(self.model, initial)
        return start_model(self.model, self.config, self.vectors, self.batches.training_subset)

    def _discriminated(self, step: int) -> Discriminated | None:
        """Return what the discrimination head has learned from; before the first step, that of the initial model."""
        if not step:
            return None if self.initial is None else self.initial.model.discriminated
        return self.batches.discriminated() if self.config.objectives.discrimination.weight else None

    def export(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the model folder."""
        steps, names = self.config.training.steps, ", ".join(cells.name for cells in self.datasets)
        card = f"Pretrained for {step:,} of {steps:,} steps on {len(self.batches.train_cells):,} cells ({names})."
        if isinstance(self.recorded_initial, dict):
            name, digest = self.recorded_initial["name"], self.recorded_initial["hash"]
            card += f"\n\nContinued from `{name}`, whose weights have the SHA-256 `{digest}`."
        self.model.discriminated = self._discriminated(step)
        if self.model.discriminated is not None:
            seen = self.model.discriminated
            card += f"\n\nIts discrimination head saw {seen.tumour:,} tumour and {seen.normal:,} normal cells."
        with writing(self.out / MODEL):
            self.model.save_pretrained(self.out / MODEL, notes=card, tensors=tensors)
