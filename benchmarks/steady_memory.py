"""Memory of a training process beyond its tensors, step by step, for several settings of caches and freed memory.

    python -m benchmarks.steady_memory [--quick] [--steps 40] [--cells 64] [--tokens 32768]

Trains on new random cells in each step (lognormal(1,050, .45) genes), each setting in a new process: with the kernel
caches as PyTorch and oneDNN set them (``libraries``), as the command line sets them (``ours``), and in addition with
the free memory of the heap returned after each step (``trimmed``); preset ``small`` and two layers of full attention of
width 64; no graph kept, and three. Prints the growth of the process (its peak minus its size before the first step,
with weights, gradients and moments allocated) after a fifth of the steps and after all, divided by the peak of the
tensors in a step (counted by ``cell_lm.pretraining.footprint.TensorMemory``), and the CPU seconds per step. Ends with
one line of JSON: that ratio at the end, and the seconds per step.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.options import data_if_given, parser, run
from cell_lm.cli.kernels import CACHES

VARIANTS = ("libraries", "ours", "trimmed")
MODELS = ("small", "full")
KEPT = (0, 3)


def work(kind: str, keep: int, steps: int, cells: int, tokens: int, trim: bool) -> None:
    """Train, and print what it took; runs in a process of its own."""
    from cell_lm.cli.allocator import keep_large_blocks

    keep_large_blocks()
    import time

    import torch

    from benchmarks.parts.turns import random_cells
    from cell_lm.config import PRESETS, EncoderConfig
    from cell_lm.genes import Vocabulary
    from cell_lm.model import CellLM
    from cell_lm.objectives.divide_and_conquer import DivideAndConquer
    from cell_lm.pretraining.budget import held_memory
    from cell_lm.pretraining.footprint import TensorMemory

    full = EncoderConfig(attention="full", width=64, layers=2, heads=4, head_width=16, feedforward=256, gene_width=64)
    model = CellLM(PRESETS["small"] if kind == "small" else full, Vocabulary.human())
    engine = DivideAndConquer(model, model.objectives, seed=0, token_budget=tokens, keep=keep)
    optimiser = torch.optim.AdamW(model.parameters())
    engine.step(random_cells(2), 0)  # compiles, and makes gradients and moments
    optimiser.step()
    base, growth, began = held_memory(torch.device("cpu")), [], time.process_time()
    for step in range(steps):
        engine.step(random_cells(cells, step), step)
        optimiser.step()
        optimiser.zero_grad()
        if trim:
            ctypes.CDLL(None).malloc_trim(0)
        growth.append(_peak() - base)
    seconds = (time.process_time() - began) / steps
    engine.step(random_cells(2), 0)  # gradients count as held, not as growth
    with TensorMemory() as memory:
        engine.step(random_cells(cells, 0), 0)
    early = growth[max(0, steps // 5 - 1)]
    print(json.dumps([memory.peak, early, growth[-1], seconds]))


def _peak() -> int:
    """Return the most bytes that were ever resident; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(variant: str, *arguments: str | int) -> tuple[int, int, int, float]:
    """Return the bytes of tensors, the growth early and at the end, and the CPU seconds of a step."""
    environment = dict(os.environ)
    for name in CACHES:
        environment.pop(name, None)
    if variant == "libraries":
        environment |= dict.fromkeys(CACHES, "1024")  # what they take by themselves
    code = f"from benchmarks.steady_memory import work; work(*{arguments!r}, trim={variant == 'trimmed'})"
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    tensors, early, late, seconds = json.loads(done.stdout)
    return tensors, early, late, seconds


def compare(options: argparse.Namespace) -> Iterator[tuple[str, float]]:
    print(f"{'':22}{'tensors MB':>11}{'early x':>9}{'end x':>9}{'end MB':>9}{'CPU s/step':>12}", flush=True)
    for kind in options.models:
        for keep in options.kept:
            for variant in options.variants:
                tensors, early, late, seconds = measure(
                    variant, kind, keep, options.steps, options.cells, options.tokens
                )
                ratios = f"{early / tensors:9.2f}{late / tensors:9.2f}"
                name = f"{kind}_keep{keep}_{variant}"
                print(f"{name:22}{tensors / 1e6:11.0f}{ratios}{late / 1e6:9.0f}{seconds:12.2f}", flush=True)
                yield name, round(late / tensors, 2)
                yield f"{name}_cpu_s", round(seconds, 3)


def main() -> None:
    arguments = parser(__doc__, quick="preset small, few steps, no graph kept: about a minute", reads_data=False)
    arguments.add_argument("--steps", type=int, default=40)
    arguments.add_argument("--cells", type=int, default=64)
    arguments.add_argument("--tokens", type=int, default=32_768, help="token budget of a chunk, over both views")
    arguments.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    arguments.add_argument("--kept", nargs="+", type=int, default=KEPT)
    arguments.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    options = arguments.parse_args()
    data_if_given(options.data)
    if options.quick:
        options.steps, options.cells, options.models, options.kept = 10, 32, ["small"], [0]
    print(json.dumps(dict(compare(options))))


if __name__ == "__main__":
    run(main)
