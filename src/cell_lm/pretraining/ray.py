"""Pretraining on a Ray cluster: Ray's ``TorchTrainer`` starts the processes, which train as under torchrun.

Needs ``cell-lm[ray]`` on the driver and on every machine of the cluster.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from cell_lm.config import PretrainConfig
from cell_lm.data.protocol import Dataset
from cell_lm.engine.run import RunResult
from cell_lm.errors import CellLMError, ConfigError, TrainingError
from cell_lm.model import CellLM
from cell_lm.pretraining.run import pretrain


@dataclass(frozen=True)
class _Work:
    """The task of every worker."""

    read: Callable[[], Sequence[Dataset]]
    config: PretrainConfig
    out: Path
    initial: str | Path | CellLM | None
    resume: bool
    folder: Path

    def __call__(self) -> RunResult | CellLMError:
        """Train; return errors of cell-lm as values, so that Ray adds no traceback."""
        os.chdir(self.folder)
        try:
            return pretrain(
                self.read(), self.config, self.out, initial=self.initial, resume=self.resume, progress=False
            )
        except CellLMError as error:
            return error


def pretrain_on_ray(
    read: Callable[[], Sequence[Dataset]],
    config: PretrainConfig,
    out: Path,
    *,
    workers: int,
    initial: str | Path | CellLM | None = None,
    resume: bool = False,
    gpu: bool | None = None,
) -> RunResult:
    """Pretrain on workers of Ray as :func:`cell_lm.pretraining.pretrain` does in one process.

    Connects to the cluster of ``RAY_ADDRESS`` or the one on this machine; otherwise starts Ray on this machine for the
    duration of the run. No worker is restarted: a run that lost one ends, and ``resume`` continues it. Progress is in
    ``log.jsonl`` and ``tensorboard/`` of the run folder.

    Parameters
    ----------
    read
        Returns the cells; called on every worker, in this process's working directory, where it must find the same
        files.
    config, initial, resume
        As in :func:`cell_lm.pretraining.pretrain`.
    out
        The run folder, on a file system that all machines see under this path.
    workers
        Number of processes, with a CPU or GPU each.
    gpu
        Whether each worker gets a GPU; default: whether this process has one.

    Returns
    -------
    RunResult

    Raises
    ------
    ConfigError
        Ray is not installed, or this machine has fewer CPUs than ``workers``.
    CellLMError
        The error of a worker; or a :class:`~cell_lm.errors.TrainingError` if one was lost.
    """
    out = Path(os.path.realpath(out))
    with _cluster(workers):
        answer = _fit(
            _Work(read, config, out, initial, resume, Path.cwd()),
            workers,
            torch.cuda.is_available() if gpu is None else gpu,
        )
    if isinstance(answer, CellLMError):
        raise answer
    return answer


def _fit(work: _Work, workers: int, gpu: bool) -> RunResult | CellLMError:
    """Return the result of the first worker."""
    from ray.exceptions import RayError
    from ray.train import RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    # Every machine must see Ray's own files, so they go next to the run folder; they are removed at the end.
    notes = work.out.parent / f".{work.out.name}.ray.partial"
    timeout = max(1, round(work.config.training.timeout))
    trainer = TorchTrainer(
        work,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo", timeout_s=timeout),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
        run_config=RunConfig(name="run", storage_path=str(notes)),
    )
    try:
        answer = trainer.fit().return_value
    except (TrainingFailedError, RayError) as error:
        return _lost(error, work.out)
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    assert isinstance(answer, RunResult | CellLMError)
    return answer


def _lost(error: Exception, out: Path) -> TrainingError:
    """Return Ray's long error message as one error."""
    lines = [line.strip() for line in str(error).splitlines()]
    reason = next(
        (line for line in lines if any(word in line for word in ("Error:", "died", "killed"))), type(error).__name__
    )
    fix = "Ray's logs say more; go on with the same command and --resume: the checkpoints written before are whole"
    return TrainingError(f"a worker of Ray was lost ({reason[:200]})", where=str(out), fix=fix)


@contextmanager
def _cluster(workers: int) -> Iterator[None]:
    """Connect to Ray, or start it on this machine and stop it afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.train
    except ImportError as error:
        raise ConfigError(f"Ray cannot be used ({error})", fix="Install it by pip install 'cell-lm[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus < workers and len(ray.nodes()) == 1:
            found = f"{workers} workers were asked for, and Ray has {cpus} CPUs on the only machine it runs on"
            raise ConfigError(found, fix="Ask for fewer, or start Ray on more machines")
        yield
    finally:
        if ours:
            ray.shutdown()
