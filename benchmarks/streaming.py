"""Thousands of steps from a store of millions of cells, with the process's memory and file descriptors on the way.

    python -m benchmarks.streaming --store STORE [--steps 3000] [--batch-size 16] [--max-genes 128]

Pretrains preset tiny (one thread, few genes a cell: what is watched is the loading) and prints anonymous memory, file
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

from benchmarks.loading import memory
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import resolve_config
from cell_lm.data.store import Store
from cell_lm.pretraining import pretrain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-genes", type=int, default=128)
    options = parser.parse_args()
    keep_large_blocks()
    torch.set_num_threads(1)
    training = {"steps": options.steps, "batch_size": options.batch_size, "validate_every": options.steps}
    settings = {"training": training | {"checkpoint_every": options.steps}, "encoder": {"max_genes": options.max_genes}}
    store, seen, began = Store.open(options.store, verify=False), list[tuple[float, int]](), time.perf_counter()

    def watch() -> bool:
        seen.append(memory())
        if len(seen) % max(1, options.steps // 10) == 0:
            speed = len(seen) * options.batch_size / (time.perf_counter() - began)
            print(
                f"step {len(seen):6,}  {seen[-1][0]:7.1f} MB anonymous  {seen[-1][1]:3} files  {speed:.0f} cells/s",
                flush=True,
            )
        return False

    with tempfile.TemporaryDirectory() as folder:
        pretrain([store], resolve_config("tiny", overrides=settings), Path(folder) / "run", progress=False, stop=watch)
    first, last = seen[len(seen) // 4], seen[-1]
    figures = {"cells": len(store), "steps": len(seen), "anon_mb": round(last[0])}
    print(json.dumps(figures | {"anon_growth_mb": round(last[0] - first[0], 1), "fds_growth": last[1] - first[1]}))


if __name__ == "__main__":
    main()
