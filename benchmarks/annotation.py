"""Cell type annotation on data sets that took no part in pretraining, against logistic regression on the genes.

    python -m benchmarks.annotation --data DIR [--steps 400] [--out RUN] [--quick]

``DIR`` holds h5ad files with raw counts and ``obs["cell_type"]``: those of ``PRETRAINING`` and of ``TARGETS`` below.
The encoder is pretrained once on the former. Each of the latter is then split 80/20, stratified by type, five times; on
each split four methods get the same linear head, its regularisation chosen by cross-validation on the training cells
alone: logistic regression on the genes and on their leading components, the encoder before pretraining, and after it.
The test cells are judged once. Prints macro-F1, mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from benchmarks.probes import rival_probe
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import resolve_config
from cell_lm.data import CellData, MalignancyColumn, read_cells
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


def read_pretraining(folder: Path) -> list[CellData]:
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    return [read_cells(folder / f"{name}.h5ad", state=column, min_genes=200) for name in PRETRAINING]


def read_target(folder: Path, name: str) -> CellData:
    cells = read_cells(folder / f"{name}.h5ad")
    labels = cells.obs["cell_type"].astype(str)
    common = labels.isin(labels.value_counts().loc[lambda n: n >= RAREST].index)
    return cells[(common & (labels != NOT_A_TYPE)).to_numpy()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/annotation"))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20 steps and 2 seeds on one data set")
    options = parser.parse_args()
    steps, seeds = (20, 2) if options.quick else (options.steps, options.seeds)
    targets = TARGETS[-1:] if options.quick else TARGETS
    keep_large_blocks()

    config = resolve_config("small", overrides={"training": {"steps": steps, "batch_size": 128, "retain_graphs": 4}})
    datasets = read_pretraining(options.data)
    out = options.out / ("quick" if options.quick else f"{steps}-steps")
    done = out.is_dir() and run_folder(out).read_config() == config
    if pretrain(datasets, config, out, resume=done).interrupted:
        raise SystemExit("interrupted; the same command goes on")
    model = CellLM.from_pretrained(out)
    encoders = {"before pretraining": initial_model(datasets, config), "after pretraining": model}

    results: dict[str, list[float]] = {}
    for name in targets:
        cells = read_target(options.data, name)
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
        predicted[name] = CellTypeClassifier(encoder, seed=seed).fit(cells[train], "cell_type").predict(cells[test])
    return {name: macro_f1(labels[test], each) for name, each in predicted.items()}


if __name__ == "__main__":
    main()
