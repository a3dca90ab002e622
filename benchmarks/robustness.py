"""Damage, full disks, kills and files that announce more than they hold: what the program does with them, as counts.

    python -m benchmarks.robustness [--quick]

- Bombs: small files that announce gigabytes (those of ``tests/faults/bombs.py``) are given to ``cell-lm check``.
  ``bombs_over_1gb`` counts those whose process took over a gigabyte more than one that reads an honest file,
  ``bombs_over_20s`` those that took over 20 CPU seconds, ``exit70`` those that ended with an internal error.
- ``kills_lost``, ``flips_silent``, ``disk_full_clean``, ``outputs_destroyed``: see ``benchmarks.robustness_writers``.

All targets are 0, that of ``disk_full_clean`` is 1. It makes its own cells, and takes about five minutes, ``--quick``
two. Ends with one line of JSON.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from benchmarks.options import data_if_given, parser, run
from benchmarks.robustness_writers import measure

MOST_BYTES, MOST_SECONDS, INTERNAL_ERROR = 1 << 30, 20, 70
QUICK_BOMBS = 6
BOMBS = Path(__file__).parent.parent / "tests" / "faults" / "bombs.py"


class Ended(NamedTuple):
    """How a process ended: its exit code, its peak of resident memory and its CPU time."""

    code: int
    bytes: int
    seconds: float


def main() -> None:
    arguments = parser(__doc__, quick=f"{QUICK_BOMBS} bombs, fewer kills and flips", reads_data=False)
    options = arguments.parse_args()
    data_if_given(options.data)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        figures: dict[str, float] = dict(bombs(work, QUICK_BOMBS if options.quick else None))
        (work / "writers").mkdir()
        figures |= measure(work / "writers", quick=options.quick)
    for name, value in figures.items():
        print(f"{name:24s} {value:g}")
    print(json.dumps(figures))


def bombs(work: Path, most: int | None) -> dict[str, int]:
    """Return how many bombs took too much memory or time, or ended in an internal error."""
    made = _builders()
    builders: dict[str, Callable[[Path], Path]] = dict(list(made.CELL_FILES.items())[:most])
    base = _check(made.honest(_room(work, "honest") / "cells.h5ad")).bytes
    ends = {name: _check(make(_room(work, str(n)))) for n, (name, make) in enumerate(builders.items())}
    for name, end in ends.items():
        print(f"{name:40s} exit {end.code:3d}  {end.bytes / 1e6:6.0f} MB  {end.seconds:5.1f} s", flush=True)
    return {
        "bombs": len(ends),
        "bombs_over_1gb": sum(end.bytes > base + MOST_BYTES for end in ends.values()),
        "bombs_over_20s": sum(end.seconds > MOST_SECONDS for end in ends.values()),
        "exit70": sum(end.code == INTERNAL_ERROR or end.code < 0 for end in ends.values()),
    }


def _builders() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bombs", BOMBS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _room(work: Path, name: str) -> Path:
    folder = work / "bombs" / name
    folder.mkdir(parents=True)
    return folder


def _check(path: Path) -> Ended:
    """Give a file to ``cell-lm check`` in a process of its own."""
    words = [sys.executable, "-m", "cell_lm", "check", str(path)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    _, status, usage = os.wait4(child.pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    run(main)
