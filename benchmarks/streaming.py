"""Thousands of steps from a store of millions of cells, recording memory and file descriptors of the process.

    python -m benchmarks.streaming --store STORE [--steps 3000] [--batch-size 16] [--max-genes 128]
    python -m benchmarks.streaming --quick

Pretrains preset tiny (one thread, few genes per cell, because loading is measured) and prints anonymous memory, file
descriptors and speed ten times. Ends with one line of JSON: ``anon_mb`` at the end, ``anon_growth_mb`` and
``fds_growth`` over the last three quarters of the steps.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.large_store import QUICK, make_store
from benchmarks.loading import memory
from benchmarks.options import data_if_given, parser, run
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import resolve_config
from cell_lm.data.store import Store
from cell_lm.errors import ConfigError
from cell_lm.pretraining import pretrain


def main() -> None:
    arguments = parser(__doc__, quick=f"200 steps; a store of {QUICK:,} cells, where none is given")
    arguments.add_argument("--store", type=Path)
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--batch-size", type=int, default=16)
    arguments.add_argument("--max-genes", type=int, default=128)
    options = arguments.parse_args()
    data = data_if_given(options.data)
    if options.store is None and not options.quick:
        raise ConfigError("no store was given", fix="Give --store, or run with --quick alone")
    options.steps = 200 if options.quick else options.steps
    with tempfile.TemporaryDirectory() as folder:
        path = options.store or make_store(data, Path(folder) / "store", QUICK)
        stream(Store.open(path, verify=False), options, Path(folder) / "run")


def stream(store: Store, options: argparse.Namespace, out: Path) -> None:
    keep_large_blocks()
    torch.set_num_threads(1)
    training = {"steps": options.steps, "batch_size": options.batch_size, "validate_every": options.steps}
    settings = {"training": training | {"checkpoint_every": options.steps}, "encoder": {"max_genes": options.max_genes}}
    seen, began = list[tuple[float, int]](), time.perf_counter()

    def watch() -> bool:
        seen.append(memory())
        if len(seen) % max(1, options.steps // 10) == 0:
            speed = len(seen) * options.batch_size / (time.perf_counter() - began)
            print(
                f"step {len(seen):6,}  {seen[-1][0]:7.1f} MB anonymous  {seen[-1][1]:3} files  {speed:.0f} cells/s",
                flush=True,
            )
        return False

    pretrain([store], resolve_config("tiny", overrides=settings), out, progress=False, stop=watch)
    first, last = seen[len(seen) // 4], seen[-1]
    figures = {"cells": len(store), "steps": len(seen), "anon_mb": round(last[0])}
    print(json.dumps(figures | {"anon_growth_mb": round(last[0] - first[0], 1), "fds_growth": last[1] - first[1]}))


if __name__ == "__main__":
    run(main)
