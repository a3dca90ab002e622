"""Learning gene vectors as a run in a folder: with progress, a log, checkpoints, and going on after an interruption.

``config.json``, ``data.json`` (the networks), ``features.safetensors``, ``log.jsonl``, ``checkpoints/`` and, at the
end, ``vectors.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from scipy import sparse

from cell_lm.config import GraphMAEConfig, parse
from cell_lm.engine.checkpoint import Checkpoints
from cell_lm.engine.disk import exclusive, remove_partial, writing
from cell_lm.engine.folder import RunFolder
from cell_lm.engine.log import RunLog
from cell_lm.engine.progress import make_display
from cell_lm.engine.stopping import stop_on_signals
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.files import JSON, atomic_file, write_json
from cell_lm.genes.features import Features, node_features
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vectors import GeneVectors
from cell_lm.pretraining.gene_vectors import GeneLearner, GeneLosses, describe_learning, refuse_inputs

CONFIG, DATA, FEATURES, CHECKPOINTS, VECTORS = (
    "config.json",
    "data.json",
    "features.safetensors",
    "checkpoints",
    "vectors.safetensors",
)
KEPT = 2
"""Checkpoints that are kept."""
MAY_CHANGE = frozenset({"checkpoint_every"})


@dataclass(frozen=True)
class GeneRunResult:
    """What came of a run.

    Attributes
    ----------
    path : Path
        The vectors' file; not there where the run was interrupted.
    vectors : GeneVectors | None
        None where it was interrupted; ``resume=True`` goes on.
    steps : int
        Steps done.
    signal : int | None
        By which signal it was interrupted.
    """

    path: Path
    vectors: GeneVectors | None
    steps: int
    signal: int | None

    @property
    def exit_code(self) -> int:
        """What a command should leave with: 0, or 128 plus the signal."""
        return 128 + self.signal if self.signal else 0


def pretrain_genes(
    networks: Sequence[Network],
    config: GraphMAEConfig,
    out: Path,
    *,
    expression: sparse.csr_matrix[np.float32] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> GeneRunResult:
    """Learn gene vectors on networks in a run folder, or go on with a run that was interrupted.

    Parameters
    ----------
    networks, config, expression
        As of :func:`~cell_lm.pretraining.gene_vectors.learn_gene_vectors`.
    out
        The folder; it must be empty or not there, unless ``resume`` is set.
    resume
        Go on from the newest checkpoint that is whole; networks and settings must be the same. On the CPU the vectors
        are the same to the bit as those of a run that was never interrupted.
    progress
        Show a bar (on a terminal) or lines on standard error.

    Raises
    ------
    InputError, ConfigError
        Networks, settings or folder do not fit. Nothing was written.
    ModelError
        ``resume`` finds no run, or no checkpoint that is whole.
    TrainingError
        Losses are not finite, the disk is full, or another process uses the folder.
    """
    refuse_inputs(networks, config, expression)
    refuse_folder(Path(out), config, resume=resume)
    run = _GeneRun(networks, config, Path(out), expression)
    if resume:
        run.refuse_other_data()
    with ExitStack() as stack:
        with writing(run.out):
            run.out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(exclusive(run.out))
        done = run.resume() if resume else run.begin()
        if done == config.steps and (run.out / VECTORS).is_file():
            return GeneRunResult(run.out / VECTORS, GeneVectors.load(run.out / VECTORS), done, None)
        log = stack.enter_context(RunLog(run.out, done))
        make_display(config.steps, done, progress=progress).note(run.describe(done))
        learner = run.learner(done)
        display = stack.enter_context(make_display(config.steps, done, progress=progress))
        request = stack.enter_context(stop_on_signals())
        for number in range(done, config.steps):
            losses = learner.step(number)
            log.numbers("train", number + 1, asdict(losses))
            display.step(number + 1, _describe(losses))
            if request or (number + 1) % config.checkpoint_every == 0 or number + 1 == config.steps:
                log.sync()
                run.checkpoints.save(number + 1, learner.checkpoint(number + 1))
            if request and number + 1 < config.steps:
                display.note(f"stopped after step {number + 1} of {config.steps}; all is saved")
                return GeneRunResult(run.out / VECTORS, None, number + 1, request.signal)
        return GeneRunResult(run.out / VECTORS, run.finish(learner), config.steps, None)


def refuse_folder(out: Path, config: GraphMAEConfig, *, resume: bool) -> None:
    """Raise where a run cannot begin, or go on, in a folder; cheap, to be asked before anything is read.

    Raises
    ------
    InputError
        There is something in it already.
    ModelError
        ``resume`` finds no run.
    ConfigError
        The settings are not those of the run.
    """
    if not resume:
        if not _is_left_over(out):
            RunFolder(out).refuse_to_begin()
        return
    before = parse(GraphMAEConfig, _read(out, CONFIG), where=str(out / CONFIG)).model_dump()
    _read(out, DATA)
    changed = [
        f"{key}: {before[key]}, now {now}"
        for key, now in config.model_dump().items()
        if before[key] != now and key not in MAY_CHANGE
    ]
    if changed:
        found = f"{len(changed)} settings are not those of the run ({'; '.join(changed)})"
        raise ConfigError(found, where=str(out), fix="Resume with the same settings, or begin a new run")


def _is_left_over(out: Path) -> bool:
    """Tell whether a folder holds no more than what a run that was killed at its beginning leaves."""
    if not out.is_dir() or (out / DATA).exists():
        return False
    names = {path.name for path in out.iterdir() if not path.name.endswith(".partial")}
    return names <= {CONFIG, CHECKPOINTS} and not any((out / CHECKPOINTS).glob("*"))


def _read(out: Path, name: str) -> Mapping[str, JSON]:
    try:
        values = json.loads((out / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = f"there is no run here that could go on (no {name})"
        raise ModelError(found, where=str(out), fix="Leave out --resume") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"it cannot be read ({error})", where=str(out / name), fix="Begin a new run") from None
    if not isinstance(values, dict):
        raise ModelError("it is not a JSON object", where=str(out / name), fix="Begin a new run")
    return values


def _describe(losses: GeneLosses) -> str:
    return f"hidden features {losses.error:.4f}, unheard edges {losses.links:.3f} nats"


class _GeneRun:
    """What :func:`pretrain_genes` keeps in its folder."""

    def __init__(
        self,
        networks: Sequence[Network],
        config: GraphMAEConfig,
        out: Path,
        expression: sparse.csr_matrix[np.float32] | None,
    ) -> None:
        self.networks, self.config, self.out, self.expression = networks, config, out, expression
        self.checkpoints = Checkpoints(out / CHECKPOINTS, KEPT)
        self.about = describe_learning(networks, config, expression)
        self.data: dict[str, JSON] = {key: self.about[key] for key in ("networks", "cells")}

    def refuse_other_data(self) -> None:
        """Raise where networks or cells are not those that the run was begun on."""
        if _read(self.out, DATA) != self.data:
            fix = "Resume with the same networks and cells in the same order, or begin a new run"
            raise InputError("the networks or cells are not those of the run", where=str(self.out), fix=fix)

    def begin(self) -> int:
        """Write down what the run is made of; 0 steps are done."""
        with writing(self.out):
            (self.out / CHECKPOINTS).mkdir(exist_ok=True)
            write_json(self.out / CONFIG, self.config.model_dump(mode="json"))
            write_json(self.out / DATA, self.data)
        return 0

    def resume(self) -> int:
        """Clean up after a killed process; return the steps that are done."""
        remove_partial(self.out)
        self.checkpoints.clean()
        return self.checkpoints.newest_whole()[0] or 0

    def describe(self, done: int) -> str:
        """Say what is learned on."""
        edges = ", ".join(f"{network.name} ({len(network):,} edges)" for network in self.networks)
        began = f"; resumed after step {done}" if done else ""
        return f"{edges}{began}; the networks' structure comes first, which takes a minute or two for 17,000 genes"

    def learner(self, done: int) -> GeneLearner:
        """Return the learner after ``done`` steps."""
        learner = GeneLearner(self.networks, self._features(), self.config, about=self.about)
        if done:
            learner.restore(self.checkpoints.load(done))
        return learner

    def _features(self) -> Features:
        """Read what the genes are described by, or compute it and keep it for a resumed run."""
        path = self.out / FEATURES
        if path.is_file():
            try:
                held = safetensors.numpy.load_file(path)
                return Features(held["values"], held["structure"])
            except (SafetensorError, KeyError, OSError):
                pass  # it is computed again
        features = node_features(self.networks, self.config, expression=self.expression)
        with writing(path), atomic_file(path) as temporary:
            safetensors.numpy.save_file({"values": features.values, "structure": features.structure}, temporary)
        return features

    def finish(self, learner: GeneLearner) -> GeneVectors:
        """Write the vectors; the features, which only a resumed run would need, go."""
        vectors = learner.vectors()
        with writing(self.out / VECTORS):
            vectors.save(self.out / VECTORS)
            (self.out / FEATURES).unlink(missing_ok=True)
        return vectors
