"""What sharding saves: weights, gradients and moments of each of two processes, with shards or with a whole copy each.

    python -m benchmarks.sharding [--preset base] [--cells 4] [--genes 256] [--quick]

Two processes (gloo, CPU, one thread each) train a few steps on the packaged pancreas cells, alternately with whole
copies and shards. Prints the bytes each process holds between steps (counted), its peak memory in the steps after the
first (resident, minus its size before the model was created) and the median seconds per step; ends with one line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.options import data_if_given, parser, run
from cell_lm.config import PRESETS, TrainingConfig
from cell_lm.data import demo
from cell_lm.data.cells import from_anndata
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.engine.optimiser import build_optimiser
from cell_lm.engine.sharding import shard, whole
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer

PROCESSES = 2
MODES = ("none", "full")


def held(tensors: Any) -> int:
    """Bytes of this process's parts."""
    local = (getattr(tensor, "_local_tensor", tensor) for tensor in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in local)


def resident(what: str) -> int:
    """Bytes of this process in memory: now (``VmRSS``) or at most since :func:`forget_the_most` (``VmHWM``)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def forget_the_most() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def work(rank: int, folder: str, mode: str, preset: str, cells: int, genes: int, steps: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{mode}", rank=rank, world_size=PROCESSES)
    data, training = from_anndata(demo.demo_cells()[demo.PANCREAS]), TrainingConfig()
    config = PRESETS[preset]
    batch = Tokeniser(config.bins, genes)(data, np.arange(cells))
    before = resident("VmRSS")
    model = CellLM(config, data.vocabulary)
    if mode == "full":
        shard(model, torch.device("cpu"), PROCESSES)
    engine = DivideAndConquer(model, model.objectives, seed=0, token_budget=4096)
    optimiser = build_optimiser(model, training)
    share = slice(cells * rank // PROCESSES, cells * (rank + 1) // PROCESSES)
    seconds, norms = [], []
    for step in range(steps):
        began = time.perf_counter()
        engine.step(batch[share], step)
        norms.append(float(whole(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))))
        optimiser.step()
        seconds.append(time.perf_counter() - began)
        gradients = held(p.grad for p in model.parameters())
        optimiser.zero_grad()
        if not step:
            forget_the_most()
    moments = (value for state in optimiser.state.values() for name, value in state.items() if name != "step")
    said = {"weights": held(model.parameters()), "gradients": gradients, "moments": held(moments)}
    said |= {"most": resident("VmHWM") - before, "seconds": median(seconds), "norm": norms[0]}
    Path(folder, f"{mode}{rank}.json").write_text(json.dumps(said))
    dist.barrier()
    dist.destroy_process_group()


def measure(mode: str, arguments: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        given = (folder, mode, arguments.preset, arguments.cells, arguments.genes, arguments.steps)
        spawn(work, args=given, nprocs=PROCESSES)
        said = [json.loads(Path(folder, f"{mode}{rank}.json").read_text()) for rank in range(PROCESSES)]
    return {name: max(each[name] for each in said) for name in said[0]}


def main() -> None:
    options = parser(__doc__, quick="preset small", reads_data=False)
    options.add_argument("--preset", default="base", choices=PRESETS)
    options.add_argument("--cells", type=int, default=4)
    options.add_argument(
        "--genes", type=int, default=256, help="most genes of a cell: time, not the memory of the state"
    )
    options.add_argument("--steps", type=int, default=2)
    arguments = options.parse_args()
    data_if_given(arguments.data)
    if arguments.quick:
        arguments.preset = "small"
    found = {mode: measure(mode, arguments) for mode in MODES}
    for mode, figures in found.items():
        parts = [f"{name} {figures[name] / 1e6:,.0f}" for name in ("weights", "gradients", "moments", "most")]
        print(f"{mode:5} {', '.join(parts)} MB; {figures['seconds']:.2f} s a step")
    state = {m: sum(found[m][name] for name in ("weights", "gradients", "moments")) for m in MODES}
    ratios = {
        "ratio_state": state["full"] / state["none"],
        "ratio_most": found["full"]["most"] / found["none"]["most"],
        "ratio_seconds": found["full"]["seconds"] / found["none"]["seconds"],
        "norm_difference": abs(found["full"]["norm"] / found["none"]["norm"] - 1),
    }
    print(json.dumps({"preset": arguments.preset, **{m: found[m] for m in MODES}, **ratios}))


if __name__ == "__main__":
    run(main)
