"""Distributes arms and seeds of a study over processes of one thread each; each result is saved as soon as it is done.

Jobs run in the order of :func:`seed_major`, so that an interrupted study has about as many seeds of each arm. A process
holds a lock on its job, which ends with the process: a second command on the same folder shares the work, and the job
of a killed process starts again.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cell_lm.files import JSON

Job = tuple[str, int]
"""An arm and a seed."""
PAPER_ENCODER: dict[str, Any] = {"linear_path": False, "attended_genes": 4096}
PAPER_OBJECTIVES: dict[str, dict[str, Any]] = {
    "contrastive": {"thinning": False, "gene_fraction": 0.5, "temperature": 0.05},
    "reconstruction": {"weight": 0.0},
}
"""The settings that were the defaults when these studies ran, so that the same commands give the same figures."""


def with_paper_objectives(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return settings of objectives over those of :data:`PAPER_OBJECTIVES`."""
    names = dict.fromkeys([*PAPER_OBJECTIVES, *settings])
    return {name: {**PAPER_OBJECTIVES.get(name, {}), **settings.get(name, {})} for name in names}


def seed_major(names: Sequence[str], seeds: int) -> list[Job]:
    """Return all arms of the first seed, then all of the next."""
    return [(name, seed) for seed, name in product(range(seeds), names)]


def result_file(out: Path, name: str, seed: int, key: str = "") -> Path:
    """Return where the result of a job is kept; ``key`` tells apart what other settings gave."""
    return out / f"{name.replace(' ', '_').replace(',', '')}-{seed}{key and '-' + key}.json"


def unclaimed(jobs: Iterable[Job], file: Callable[[str, int], Path]) -> Iterator[tuple[str, int, Path]]:
    """Yield the jobs that have no result yet and that no other process is at; the next only when one is done."""
    for name, seed in jobs:
        result = file(name, seed)
        if result.is_file():
            continue
        with _claim(result.with_suffix(".claim")) as mine:
            if mine and not result.is_file():
                yield name, seed, result


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        path.unlink(missing_ok=True)


def run_workers(module: str, arguments: Mapping[str, JSON], processes: int) -> None:
    """Call ``work(**arguments)`` of a module in some processes of one thread each; leave where one of them failed.

    They are told to end, and waited for, when this process is.
    """
    code = f"import json; from {module} import work; work(**json.loads({json.dumps(dict(arguments))!r}))"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    workers = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(processes)]
    try:
        codes = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
        signal.signal(signal.SIGTERM, before)
    if any(codes):
        raise SystemExit("a worker failed; the same command goes on")


def spread(values: Sequence[float] | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return ``mean ± standard deviation``; nothing where there are no values."""
    if not values:
        return ""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):{'+' if sign else ''}.{digits}f} ± {deviation:.{digits}f}"
