"""Learning gene vectors as a run in a folder: the loop of pretraining with another step.

Besides the usual files, the run folder has ``features.safetensors`` until the run is finished, so that a resumed run
does not compute them again, and then ``vectors.safetensors``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from scipy import sparse

from cell_lm.config import GraphMAEConfig
from cell_lm.engine.disk import writing
from cell_lm.engine.distributed import OneProcess
from cell_lm.engine.folder import RunFolder, RunKind
from cell_lm.engine.run import RunResult, RunSession
from cell_lm.files import JSON, atomic_file
from cell_lm.genes.features import Features, node_features
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vectors import GeneVectors
from cell_lm.pretraining.gene_step import GeneStep, gene_loop_settings
from cell_lm.pretraining.gene_vectors import describe_learning, refuse_inputs
from cell_lm.terminal import refuse_other_than_flag

FEATURES, VECTORS = "features.safetensors", "vectors.safetensors"
KEEP_CHECKPOINTS = 2


def _data_difference(before: Mapping[str, JSON], now: Mapping[str, JSON]) -> str | None:
    return None if before == now else "the networks or cells are not those of the run"


GENE_KIND = RunKind(
    config=GraphMAEConfig,
    steps="steps",
    may_change=frozenset({"checkpoint_every"}),
    data_difference=_data_difference,
)


@dataclass(frozen=True)
class GeneRunResult:
    """The result of a run.

    Attributes
    ----------
    path : Path
        File of the vectors.
    vectors : GeneVectors | None
        None if the run was interrupted; ``resume=True`` continues it.
    run : RunResult
        Result of the training.
    """

    path: Path
    vectors: GeneVectors | None
    run: RunResult

    @property
    def exit_code(self) -> int:
        """Exit code of a command: 0, or 128 plus the signal."""
        return self.run.exit_code


def gene_run_folder(path: Path) -> RunFolder[GraphMAEConfig]:
    """Return a run folder of gene vectors."""
    return RunFolder(path, GENE_KIND)


def pretrain_genes(
    networks: Sequence[Network],
    config: GraphMAEConfig,
    out: Path,
    *,
    expression: sparse.csr_matrix[np.float32] | None = None,
    resume: bool = False,
    progress: bool = True,
    stop: Callable[[], bool] | None = None,
) -> GeneRunResult:
    """Learn gene vectors on networks in a run folder, or resume an interrupted run.

    Parameters
    ----------
    networks, config, expression
        As of :func:`~cell_lm.pretraining.gene_vectors.learn_gene_vectors`.
    out
        The folder; it must be empty or absent, unless ``resume`` is set.
    resume
        Resume from the newest intact checkpoint. Networks and settings must be the same, except ``steps``, which may
        be more or fewer. On the CPU the vectors are bit for bit those of an uninterrupted run.
    progress
        Show a bar (on a terminal) or lines on standard error.
    stop
        Called after every step; if it returns true, the run saves and stops as after a signal.

    Raises
    ------
    InputError, ConfigError
        Networks, settings or folder do not fit. Nothing was written.
    ModelError
        ``resume`` finds no run, or no intact checkpoint.
    TrainingError
        Losses are not finite, the disk is full, or another process uses the folder.
    """
    refuse_other_than_flag(progress)
    refuse_inputs(networks, config, expression)
    folder, path = gene_run_folder(Path(out)), Path(out) / VECTORS
    with RunSession(folder, OneProcess(), keep_checkpoints=KEEP_CHECKPOINTS) as session:
        config = session.open(
            config,
            lambda: _data(networks, config, expression),
            resume=resume,
            progress=progress,
            notes=_notes(networks),
        )
        before = _finished_vectors(path, config) if session.done == config.steps else None
        if before is not None:
            return GeneRunResult(path, before, session.result())
        features = _features(networks, config, expression, Path(out) / FEATURES)
        step = GeneStep(networks, features, config, about=describe_learning(networks, config, expression))
        result = session.train(step, gene_loop_settings(config), stop=stop)
        vectors = None if result.interrupted else _finish(step, Path(out))
    return GeneRunResult(path, vectors, result)


def _data(
    networks: Sequence[Network], config: GraphMAEConfig, expression: sparse.csr_matrix[np.float32] | None
) -> dict[str, JSON]:
    """Return the content of ``data.json``."""
    about = describe_learning(networks, config, expression)
    return {name: about[name] for name in ("networks", "cells")}


def _notes(networks: Sequence[Network]) -> list[str]:
    edges = ", ".join(f"{network.name} ({len(network):,} edges)" for network in networks)
    return [f"{edges}; the networks' structure comes first, which takes a minute or two for 17,000 genes"]


def _finished_vectors(path: Path, config: GraphMAEConfig) -> GeneVectors | None:
    """Return the vectors that a run has written, if it had the same number of steps."""
    if not path.is_file():
        return None
    vectors = GeneVectors.load(path)
    settings = vectors.about.get("settings")
    return vectors if isinstance(settings, dict) and settings.get("steps") == config.steps else None


def _features(
    networks: Sequence[Network],
    config: GraphMAEConfig,
    expression: sparse.csr_matrix[np.float32] | None,
    path: Path,
) -> Features:
    """Read the features of the genes, or compute them and save them for a resumed run."""
    if path.is_file():
        try:
            kept = safetensors.numpy.load_file(path)
            return Features(kept["values"], kept["structure"])
        except (SafetensorError, KeyError, OSError):
            pass  # compute them again
    features = node_features(networks, config, expression=expression)
    with writing(path), atomic_file(path) as temporary:
        safetensors.numpy.save_file({"values": features.values, "structure": features.structure}, temporary)
    return features


def _finish(step: GeneStep, out: Path) -> GeneVectors:
    """Write the vectors, and remove the features, which only a resumed run needs."""
    vectors = step.vectors()
    with writing(out / VECTORS):
        vectors.save(out / VECTORS)
        (out / FEATURES).unlink(missing_ok=True)
    return vectors
