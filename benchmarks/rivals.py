"""The baselines' rows in the tables of annotation, batch size and gene inputs: no encoder, takes minutes.

    python -m benchmarks.rivals --data DIR [--seeds 5] [--rivals genes_lr pca_lr]
    python -m benchmarks.rivals --quick

On the cells, splits and draws of ``benchmarks.annotation`` and of the study of gene inputs: ``probe`` after a fit on
four fifths of the cells, stratified, ``shots_k`` after a fit on k cells of each type (five draws per seed). Macro-F1,
mean and standard deviation over the seeds.
"""

from __future__ import annotations

import json
from itertools import product

import numpy as np

from benchmarks.options import data_folder, parser, run
from benchmarks.parts.pretraining_cells import TARGETS, packaged, read_target
from benchmarks.probes import judge_labels, labels_of, rival_probe
from cell_lm.evaluation.baselines import BASELINES

SHOTS = (1, 5, 10, 20)


def main() -> None:
    options = parser(__doc__, quick="1 seed of the smallest data set")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--draws", type=int, default=5)
    options.add_argument("--rivals", nargs="+", default=[*BASELINES], choices=[*BASELINES], metavar="RIVAL")
    given = options.parse_args()
    targets, seeds, draws = (TARGETS[-1:], 1, 1) if given.quick else (TARGETS, given.seeds, given.draws)
    if given.quick and given.data is None:
        cells_of = packaged()[1]
    else:
        folder = data_folder(given.data, [f"cells/{name}.h5ad" for name in targets])
        cells_of = {name: read_target(folder, name) for name in targets}
    found: dict[str, dict[str, list[float]]] = {}
    for rival, (target, cells) in product(given.rivals, cells_of.items()):
        row = found.setdefault(f"{target}.{rival}", {})
        for seed in range(seeds):
            probe = rival_probe(cells, seed, rival)
            for figure, value in judge_labels(probe, labels_of(cells), seed, shots=SHOTS, draws=draws).items():
                row.setdefault(figure, []).append(round(value, 4))
        shown = "  ".join(f"{figure} {np.mean(v):.3f} ± {_spread(v):.3f}" for figure, v in row.items())
        print(f"{target}.{rival}: {shown}", flush=True)
    print(json.dumps(found))


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    run(main)
