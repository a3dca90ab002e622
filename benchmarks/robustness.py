"""Damage, full disks, kills and bad inputs: what the program does with them, as counts.

    python -m benchmarks.robustness [--quick]

- Bombs: small files that announce gigabytes (those of ``tests/faults/bombs.py``) are given to ``cell-lm check``.
  ``bombs_over_1gb`` counts those whose process took over a gigabyte more than one that reads an honest file,
  ``bombs_over_20s`` those that took over 20 CPU seconds.
- Advice: bad inputs of the packaged cells (those of ``tests/faults/advice_cases.py``) are given to the verbs, and the
  error of each is followed. ``advice_followed_works`` is the fraction of them whose command then works.
- ``exit70`` counts the bombs and bad inputs whose command ended with an internal error, before or after the advice.
- ``kills_lost``, ``flips_silent``, ``disk_full_clean``, ``outputs_destroyed``: see ``benchmarks.robustness_writers``.

All targets are 0, those of ``disk_full_clean`` and ``advice_followed_works`` are 1. It makes its own files, and takes
about five minutes, ``--quick`` two. Ends with one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.options import data_if_given, parser, run
from benchmarks.robustness_writers import measure

MOST_BYTES, MOST_SECONDS, INTERNAL_ERROR = 1 << 30, 20, 70
QUICK_BOMBS, QUICK_ADVICE = 4, 20
_AT_A_TIME = 2
"""Bombs that are read at the same time."""
FAULTS = Path(__file__).parent.parent / "tests" / "faults"


class Ended(NamedTuple):
    """How a process ended: its exit code, its peak of resident memory and its CPU time."""

    code: int
    bytes: int
    seconds: float


def main() -> None:
    arguments = parser(
        __doc__, quick=f"{QUICK_BOMBS} bombs, {QUICK_ADVICE} bad inputs, fewer kills and flips", reads_data=False
    )
    options = arguments.parse_args()
    data_if_given(options.data)
    sys.path.insert(0, str(FAULTS))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")  # what is remembered of stores
        for name in ("writers", "advice"):
            (work / name).mkdir()
        figures: dict[str, float] = dict(bombs(work, QUICK_BOMBS if options.quick else None))
        followed = advice(work / "advice", QUICK_ADVICE if options.quick else None)
        figures = {**followed, **figures, "exit70": figures["exit70"] + followed["exit70"]}
        figures |= measure(work / "writers", quick=options.quick)
    for name, value in figures.items():
        print(f"{name:24s} {value:g}")
    print(json.dumps(figures))


def bombs(work: Path, most: int | None) -> dict[str, int]:
    """Return how many bombs took too much memory or time, or ended in an internal error."""
    made = import_module("bombs")
    builders: dict[str, Callable[[Path], Path]] = dict(list(made.CELL_FILES.items())[:most])
    base = _check(made.honest(_room(work, "honest") / "cells.h5ad")).bytes
    paths = [make(_room(work, str(number))) for number, make in enumerate(builders.values())]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        ends = dict(zip(builders, pool.map(_check, paths), strict=True))
    for name, end in ends.items():
        print(f"{name:40s} exit {end.code:3d}  {end.bytes / 1e6:6.0f} MB  {end.seconds:5.1f} s", flush=True)
    return {
        "bombs": len(ends),
        "bombs_over_1gb": sum(end.bytes > base + MOST_BYTES for end in ends.values()),
        "bombs_over_20s": sum(end.seconds > MOST_SECONDS for end in ends.values()),
        "exit70": sum(end.code == INTERNAL_ERROR or end.code < 0 for end in ends.values()),
    }


def advice(work: Path, most: int | None) -> dict[str, float]:
    """Return how often following the error of a bad input made the command work, and the internal errors."""
    cases: dict[str, Any] = import_module("advice_cases").CASES
    chosen = list(cases)[:: 1 if most is None else -(-len(cases) // most)]
    room = import_module("advice").Room(work)
    outcomes = {name: cases[name].run(room) for name in chosen}
    for name, outcome in outcomes.items():
        if outcome.failed:
            print(f"not followed: {name}: {outcome.failed}", flush=True)
    worked = sum(not outcome.failed for outcome in outcomes.values()) / len(outcomes)
    faults = sum(INTERNAL_ERROR in outcome.codes for outcome in outcomes.values())
    return {"bad_inputs": len(outcomes), "advice_followed_works": round(worked, 4), "exit70": faults}


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
