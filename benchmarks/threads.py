"""The cost of spinning threads on a busy machine: training steps next to busy processes, by OpenMP's wait policy.

    python -m benchmarks.threads [--steps 3] [--neighbours 2] [--quick]

Runs the same steps (preset small, 128 random cells of 1,500 genes) in new processes, alternating between OpenMP's
default and ``OMP_WAIT_POLICY=PASSIVE``, first alone and then next to processes that keep one core busy each. Prints
cells per second and ends with one line of JSON: the ratio PASSIVE / default, alone and with neighbours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

from benchmarks.options import data_if_given, parser, run

ROUNDS = 3


def work(steps: int) -> None:
    """Print the cells per second of training steps; runs in a process of its own."""
    import time

    import numpy as np
    import torch

    from cell_lm.config import PRESETS
    from cell_lm.data import CellBatch
    from cell_lm.genes import Vocabulary
    from cell_lm.model import CellLM
    from cell_lm.objectives.divide_and_conquer import DivideAndConquer

    rng, cells, genes = np.random.default_rng(0), 128, 1500
    vocabulary = Vocabulary.human()
    chosen = np.concatenate([np.sort(rng.choice(len(vocabulary), genes, replace=False)) for _ in range(cells)])
    bins = torch.from_numpy(rng.integers(0, 6, len(chosen)))
    batch = CellBatch(
        torch.from_numpy(chosen),
        bins,
        bins.float(),
        np.arange(cells + 1) * genes,
        torch.from_numpy(rng.integers(0, 2, cells)),
        torch.arange(cells),
        torch.full((cells,), 4000.0),
    )
    model = CellLM(PRESETS["small"], vocabulary)
    engine = DivideAndConquer(model, model.objectives, seed=0, token_budget=65536)
    engine.step(batch[:16], 0)
    began = time.perf_counter()
    for step in range(steps):
        engine.step(batch, step)
    print(steps * cells / (time.perf_counter() - began))


def measure(policy: str | None, steps: int) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    command = [sys.executable, "-c", f"from benchmarks.threads import work; work({steps})"]
    if policy is None:  # importing the package of benchmarks would set the policy
        command[2] = f"import os; os.environ['OMP_WAIT_POLICY'] = ''; {command[2]}"
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    arguments = parser(__doc__, quick="one step, one round", reads_data=False)
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--neighbours", type=int, default=2)
    options = arguments.parse_args()
    data_if_given(options.data)
    rounds, steps = (1, 1) if options.quick else (ROUNDS, options.steps)
    ratios: dict[str, float] = {}
    for neighbours in (0, options.neighbours):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
        try:
            speeds = [(measure(None, steps), measure("PASSIVE", steps)) for _ in range(rounds)]
        finally:
            for process in busy:
                process.kill()
        default, passive = (median(column) for column in zip(*speeds, strict=True))
        print(f"beside {neighbours} busy processes: default {default:.1f}, PASSIVE {passive:.1f} cells/s", flush=True)
        ratios[f"passive_over_default_beside_{neighbours}"] = round(passive / default, 2)
    print(json.dumps(ratios))


if __name__ == "__main__":
    run(main)
