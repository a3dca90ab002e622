"""Cell type annotation on data sets not used for pretraining, against logistic regression on the genes.

    python -m benchmarks.annotation --data DIR [--steps 400] [--out RUN] [--quick]
    python -m benchmarks.annotation --quick

``DIR/cells`` holds h5ad files with raw counts and ``obs["cell_type"]``: those of ``PRETRAINING`` and of ``TARGETS``
below; ``--quick`` alone uses the packaged cells. The encoder is pretrained once on the former. Each of the latter is
then split 80/20, stratified by type, five times. On each split four methods use the same linear head, with
regularisation chosen by cross-validation on the training cells only: logistic regression on the genes and on their
leading components, the encoder before pretraining, and after it. The test cells are scored once. Prints macro-F1, mean
and standard deviation over the seeds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from benchmarks.options import data_folder, parser, run
from benchmarks.probes import rival_probe
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import resolve_config
from cell_lm.data import CellData, MalignancyColumn, from_anndata, read_cells
from cell_lm.data.demo import HELD_OUT, PANCREAS, demo_cells
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.geometry import geometry
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.folder import run_folder
from cell_lm.pretraining.run import initial_model
from cell_lm.tasks.annotation import CellTypeClassifier

PRETRAINING = (
    "pbmc_frozen_donorA",
    "kang_pbmc",
    "malt_lymphoma",
    "baron_human",
    "qian2020_ovarian",
    "copykat_tnbc",
    "numbat_atc2",
    "pc9_erlotinib",
)
TARGETS = ("zheng_facs10", "pbmc3k", "pbmc_scminer638")
LOGISTIC = {"logistic regression": "genes_lr", "components + logistic regression": "pca_lr"}
NOT_A_TYPE = "unlabelled (failed QC)"
RAREST = 10
MALIGNANCY = MalignancyColumn("malignant", {"putative": "tumour"})


def read_pretraining(folder: Path) -> list[CellData]:
    """Read the cells to pretrain on from a data folder."""
    return [read_cells(folder / "cells" / f"{name}.h5ad", malignancy=MALIGNANCY, min_genes=200) for name in PRETRAINING]


def read_target(folder: Path, name: str) -> CellData:
    """Read the cells of common types of one file of a data folder."""
    return common_types(read_cells(folder / "cells" / f"{name}.h5ad"))


def packaged() -> tuple[list[CellData], dict[str, CellData]]:
    """Return the packaged cells to pretrain on, and those of a donor that is left out of them."""
    cells = {name: from_anndata(adata, malignancy=MALIGNANCY) for name, adata in demo_cells().items()}
    left_out = {name: (one.obs["donor"] == HELD_OUT[name]).to_numpy() for name, one in cells.items()}
    target = common_types(cells[PANCREAS][left_out[PANCREAS]])
    return [one[~left_out[name]] for name, one in cells.items()], {"packaged pancreas": target}


def files(targets: tuple[str, ...]) -> list[str]:
    """Return the files of the data folder that are read."""
    return [f"cells/{name}.h5ad" for name in (*PRETRAINING, *targets)]


def common_types(cells: CellData) -> CellData:
    labels = cells.obs["cell_type"].astype(str)
    common = labels.isin(labels.value_counts().loc[lambda n: n >= RAREST].index)
    return cells[(common & (labels != NOT_A_TYPE)).to_numpy()]


def main() -> None:
    arguments = parser(__doc__, quick="10 steps and 2 seeds on one data set")
    arguments.add_argument("--out", type=Path, default=Path("runs/annotation"))
    arguments.add_argument("--steps", type=int, default=400)
    arguments.add_argument("--seeds", type=int, default=5)
    options = arguments.parse_args()
    steps, seeds = (10, 2) if options.quick else (options.steps, options.seeds)
    names = TARGETS[-1:] if options.quick else TARGETS
    keep_large_blocks()
    if options.quick and options.data is None:
        datasets, targets = packaged()
        out = options.out / "packaged"
    else:
        data = data_folder(options.data, files(names))
        datasets, targets = read_pretraining(data), {name: read_target(data, name) for name in names}
        out = options.out / ("quick" if options.quick else f"{steps}-steps")

    config = resolve_config("small", overrides={"training": {"steps": steps, "batch_size": 128, "retain_graphs": 4}})
    done = out.is_dir() and run_folder(out).read_config() == config
    if pretrain(datasets, config, out, resume=done).interrupted:
        raise SystemExit("interrupted; the same command goes on")
    model = CellLM.from_pretrained(out)
    encoders = {"before pretraining": initial_model(datasets, config), "after pretraining": model}

    results: dict[str, list[float]] = {}
    for name, cells in targets.items():
        labels = cells.obs["cell_type"].astype(str).to_numpy()
        for seed in range(seeds):
            train, test = train_test_split(np.arange(len(cells)), test_size=0.2, stratify=labels, random_state=seed)
            for method, score in judge(cells, labels, train, test, encoders, seed).items():
                results.setdefault(f"{name}.{method}", []).append(score)
        for key in [key for key in results if key.startswith(f"{name}.")]:
            print(f"{key:55s} macro-F1 {np.mean(results[key]):.3f} ± {np.std(results[key], ddof=1):.3f}", flush=True)
        for method, encoder in encoders.items():
            shape = geometry(encoder.encode(cells), labels=labels)
            print(f"{name} {method}: mean cosine {shape.mean_cosine:.2f}, effective rank {shape.effective_rank:.0f}")
    rounded = {key: [round(float(np.mean(v)), 4), round(float(np.std(v, ddof=1)), 4)] for key, v in results.items()}
    print(json.dumps(rounded))


def judge(
    cells: CellData,
    labels: NDArray[np.object_],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    encoders: dict[str, CellLM],
    seed: int,
) -> dict[str, float]:
    predicted = {name: rival_probe(cells, seed, rival)(train, test) for name, rival in LOGISTIC.items()}
    for name, encoder in encoders.items():
        predicted[name] = (
            CellTypeClassifier(encoder, seed=seed).fit(cells[train], "cell_type", min_cells=1).predict(cells[test])
        )
    return {name: macro_f1(labels[test], each) for name, each in predicted.items()}


if __name__ == "__main__":
    run(main)
