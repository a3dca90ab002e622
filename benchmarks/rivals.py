"""The rivals' rows in the tables of annotation, of the batch size and of the gene inputs: no encoder, minutes.

    python -m benchmarks.rivals --data DIR [--seeds 5] [--quick]

On the cells, splits and draws of ``benchmarks.annotation`` and of the study of gene inputs: ``probe`` after a fit on
four fifths of the cells, stratified, ``shots_k`` after a fit on k cells of each type (five draws a seed). Macro-F1,
mean and standard deviation over the seeds.
"""

from __future__ import annotations

import json

import numpy as np

from benchmarks.annotation import TARGETS, read_target
from benchmarks.options import data_folder, parser, run
from benchmarks.probes import judge_labels, labels_of, rival_probe
from cell_lm.evaluation.baselines import RIVALS

SHOTS = (1, 5, 10, 20)


def main() -> None:
    options = parser(__doc__, quick="1 seed of the smallest data set")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--draws", type=int, default=5)
    given = options.parse_args()
    targets, seeds, draws = (TARGETS[-1:], 1, 1) if given.quick else (TARGETS, given.seeds, given.draws)
    folder = data_folder(given.data, [f"cells/{name}.h5ad" for name in targets]) / "cells"
    found: dict[str, dict[str, list[float]]] = {}
    for target in targets:
        cells = read_target(folder, target)
        for seed in range(seeds):
            for rival in RIVALS:
                probe = rival_probe(cells, seed, rival)
                figures = judge_labels(probe, labels_of(cells), seed, shots=SHOTS, draws=draws)
                for figure, value in figures.items():
                    found.setdefault(f"{target}.{rival}", {}).setdefault(figure, []).append(value)
        for name in (f"{target}.{rival}" for rival in RIVALS):
            row = "  ".join(f"{figure} {np.mean(v):.3f} ± {_spread(v):.3f}" for figure, v in found[name].items())
            print(f"{name:28s} {row}", flush=True)
    print(
        json.dumps(
            {name: {key: [round(v, 4) for v in values] for key, values in row.items()} for name, row in found.items()}
        )
    )


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    run(main)
