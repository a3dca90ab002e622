"""How good frozen embeddings are: cell types from 1, 5, 20 labels per type and 80 %, neighbours, donors, geometry.

    python -m benchmarks.representation --data DIR [--seeds 5] [--sets zheng_facs10 ...] [--rows ...] [--quick]

On five sets that took no part in the packaged model (docs/representation.md). Rows:

    genes_lr    logistic regression on log1p of counts per 10,000 of all genes
    pca_log     60 principal components of the same, from all cells of the set, labelled or not
    pca_res     60 components of its Pearson residuals, 2,000 variable genes, from all cells of the set
    pca_log128, pca_res128   the same with as many components as the model (128), of as many genes (4,000)
    scvi        scVI, 30 latents, trained on all cells of the set, donors as batches; only with --environments
    start       CLS of the packaged model before any step: components of other cells; the set was never seen
    small       CLS of the packaged model
    adapted     the model adapted to the cells of the set
    refined     the same with 300 steps of refinement
    contrastive the same with the contrastive loss at full weight, temperature .3

One head for all: softmax regression with its strength chosen on left-out training cells, on embeddings scaled to one
root mean square. Rows that saw the cells of the set saw no label. Intervals are 95 %, over seeds, paired.

The last line is JSON, in points of macro-F1, means over sets: ``adapted_vs_best_5``, ``_20``, ``_80``: the adapted
model minus the best of the pca rows and scvi of each set; ``worst_task`` of all those; ``pretrained_vs_pca``: small
minus that best at 5 labels; ``pretrained_vs_start``; ``adapt_s``, CPU seconds of the slowest adaptation for 3,000
cells; and ``intervals``, ``scores``. ``train_speed_ratio`` is printed by ``benchmarks.encoder --only small``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd

from benchmarks.options import data_folder, data_if_given, parser, run
from benchmarks.parts.annotation_environments import scvi_latents
from cell_lm.config import AdaptConfig
from cell_lm.data import CellData, from_anndata, read_cells
from cell_lm.data.demo import demo_cells
from cell_lm.data.loading.expression import log_expression
from cell_lm.evaluation import Split, compare, few_shot, stratified
from cell_lm.evaluation.baselines import GeneLogisticRegression
from cell_lm.evaluation.geometry import effective_rank, mean_cosine
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.files import JSON
from cell_lm.genes.reference import compute_reference, pearson_residuals
from cell_lm.model import CellLM
from cell_lm.pretraining.adapt import adapt

SETS = ("zheng_facs10", "pbmc3k", "baron_human", "qian2020_ovarian", "kang_pbmc")
KANG_LABELS = "kang_pbmc_labels.csv"
ROWS = (
    "genes_lr",
    "pca_log",
    "pca_res",
    "pca_log128",
    "pca_res128",
    "scvi",
    "start",
    "small",
    "adapted",
    "refined",
    "contrastive",
)
BEST_OF = ("pca_log", "pca_res", "pca_log128", "pca_res128", "scvi")
SHOTS = {"1": 1, "5": 5, "20": 20}
RAREST, COMPONENTS, NEIGHBOURS = 25, 60, 15
CONTRASTIVE = AdaptConfig(steps=300, contrastive_weight=1.0, temperature=0.3, patience=100)
NORM = 30.0
"""Root mean square length of the embeddings that the head sees, about that of a cell in log1p of counts per 10,000."""


Features: TypeAlias = NDArray[np.float32] | sparse.csr_matrix[np.float32]


def read(folder: Path | None, name: str) -> CellData:
    """Return a set; labels in ``cell_type``, empty where unknown or of a rare type."""
    if folder is None:
        cells = from_anndata(demo_cells(harmonise=True)[name])
        labels = cells.obs["cell_type"].astype(str)
    else:
        cells = read_cells(folder / "cells" / f"{name}.h5ad", min_genes=200)
        labels = _labels(folder, name, cells)
    return with_common_types(cells, labels)


def with_common_types(cells: CellData, labels: pd.Series) -> CellData:
    """Note the labels in ``cell_type``, empty for types of too few cells."""
    cells.obs["cell_type"] = labels.where(labels.map(labels.value_counts()) >= RAREST, "")
    return cells


def draws(labels: pd.Series, seeds: Sequence[int]) -> dict[str, list[Split]]:
    """Return the draws of the labelled cells by setting: 1, 5 and 20 a type, 80 %."""
    return {key: few_shot(labels, count, seeds) for key, count in SHOTS.items()} | {
        "80": stratified(labels, 0.2, seeds)
    }


def probe(features: Features, labels: pd.Series, settings: Mapping[str, Sequence[Split]]) -> dict[str, list[float]]:
    """Return macro-F1 of the head by setting, one number a draw."""
    heads = {"head": lambda seed: GeneLogisticRegression(seed=seed)}
    return {
        key: [float(one.macro_f1) for one in compare(heads, features, labels, splits).results]
        for key, splits in settings.items()
    }


def _labels(folder: Path, name: str, cells: CellData) -> pd.Series:
    if name != "kang_pbmc":
        column = cells.obs["cell_type"].astype(object)
        return column.where(column.notna(), "").astype(str)
    table = pd.read_csv(folder / "cells" / KANG_LABELS, index_col=0)
    column = next(column for column in table.columns if "type" in column or "cell" in column)
    return table[column].reindex(cells.obs.index).astype(object).where(lambda x: x.notna(), "").astype(str)


def components(dense: NDArray[np.float32], number: int = COMPONENTS) -> NDArray[np.float32]:
    left, strength, _ = randomized_svd(dense - dense.mean(axis=0), number, n_iter=4, random_state=0)
    return (left * strength).astype(np.float32)


def own_residuals(cells: CellData, genes: int = 2000, number: int = COMPONENTS) -> NDArray[np.float32]:
    own = compute_reference(cells.X, genes, 2)  # for its profile and its most variable genes
    return components(pearson_residuals(cells.X, own.profile, own.genes), number)


def embeddings(
    cells: CellData, rows: Sequence[str], model: CellLM, environments: Path | None
) -> dict[str, NDArray[np.float32]]:
    """Return the embedding of each row, and note how long each took."""
    start = CellLM(model.config, model.vocabulary, model.objectives)
    assert model.reference is not None
    start.set_reference(model.reference)
    make: Mapping[str, Callable[[], NDArray[np.float32]]] = {
        "pca_log": lambda: components(log_expression(cells).toarray()),
        "pca_res": lambda: own_residuals(cells),
        "pca_log128": lambda: components(log_expression(cells).toarray(), 128),
        "pca_res128": lambda: own_residuals(cells, 4000, 128),
        "scvi": lambda: scvi_latents(cells, cast(Path, environments)),
        "start": lambda: start.eval().encode(cells),
        "small": lambda: model.encode(cells),
        "adapted": lambda: adapt(model, [cells]).encode(cells),
        "refined": lambda: adapt(model, [cells], AdaptConfig(steps=300)).encode(cells),
        "contrastive": lambda: adapt(model, [cells], CONTRASTIVE).encode(cells),
    }
    found = {}
    for row in rows:
        if row in make:
            began = cpu_seconds()
            found[row] = make[row]()
            SECONDS[row] = max(SECONDS.get(row, 0.0), (cpu_seconds() - began) * 3000 / len(cells))
    return found


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    return sum(os.times()[:4])


SECONDS: dict[str, float] = {}
"""CPU seconds of each row for 3,000 cells, of the slowest set."""


def scaled(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = embedding - embedding.mean(axis=0)
    return centred * np.float32(NORM / np.sqrt((centred**2).sum(axis=1).mean()))


def neighbours(embedding: NDArray[np.float32], of: NDArray[np.object_], *, same: bool = True) -> float:
    """Return the fraction of the 15 nearest cells with the same (or another) label."""
    index = (
        NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(embedding).kneighbors(return_distance=False)[:, :NEIGHBOURS]
    )
    equal = of[index] == of[:, None]
    return float(equal.mean() if same else 1 - equal.mean())


def evaluate(
    name: str, cells: CellData, rows: Sequence[str], model: CellLM, seeds: Sequence[int], environments: Path | None
) -> dict[str, JSON]:
    """Return the scores of a set: row, setting, one number a seed."""
    known = (cells.obs["cell_type"] != "").to_numpy()
    labels = cells.obs["cell_type"][known].astype(str)
    print(f"\n{name}: {len(cells):,} cells, {known.sum():,} labelled, {labels.nunique()} types", flush=True)
    settings = draws(labels, seeds)
    made: dict[str, Features] = {}
    made |= {row: scaled(each)[known] for row, each in embeddings(cells, rows, model, environments).items()}
    if "genes_lr" in rows:
        made = {"genes_lr": log_expression(cells)[known], **made}
    result: dict[str, JSON] = {}
    for row, features in made.items():
        scores = probe(features, labels, settings)
        text = "  ".join(f"{key}: {mean_interval(np.array(scores[key]))}" for key in settings)
        print(f"{row:9s} {text}{_more(features, labels, cells, known)}", flush=True)
        result[row] = {key: list(values) for key, values in scores.items()}
    return result


def _more(features: object, labels: pd.Series, cells: CellData, known: NDArray[np.bool_]) -> str:
    if not isinstance(features, np.ndarray):
        return ""
    text = f"  neighbours {neighbours(features, labels.to_numpy(object)):.3f}"
    donors = cells.obs["donor"][known].astype(str) if "donor" in cells.obs else None
    if donors is not None and donors.nunique() > 1:
        text += f"  of other donors {neighbours(features, donors.to_numpy(object), same=False):.3f}"
    return f"{text}  rank {effective_rank(features):.0f}  cosine {mean_cosine(features):.2f}"


def summary(scores: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]) -> dict[str, JSON]:
    """Return the figures of the last line."""

    def best(of: Mapping[str, Mapping[str, Sequence[float]]], key: str) -> NDArray[np.float64]:
        rivals = [np.array(of[row][key]) for row in BEST_OF if row in of]
        return max(rivals, key=lambda values: values.mean())

    def difference(row: str, key: str, other: str | None = None) -> list[NDArray[np.float64]]:
        """Return the difference in points of each set, one number a seed."""
        return [
            100 * (np.array(of[row][key]) - (best(of, key) if other is None else np.array(of[other][key])))
            for of in scores.values()
        ]

    parts = {f"adapted_vs_best_{key}": difference("adapted", key) for key in ("5", "20", "80")}
    worst = min(each.mean() for values in parts.values() for each in values)
    parts["pretrained_vs_pca"] = difference("small", "5")
    parts["pretrained_vs_start"] = difference("small", "5", "start")
    intervals = {name: mean_interval(np.mean(values, axis=0)) for name, values in parts.items()}
    return {
        **{name: round(interval.mean, 2) for name, interval in intervals.items()},
        "worst_task": round(float(worst), 2),
        "adapt_s": round(SECONDS["adapted"], 1),
        "intervals": {name: [*interval.bounds()] for name, interval in intervals.items()},
        "seconds": {row: round(value, 1) for row, value in SECONDS.items()},
        "scores": {
            name: {row: {key: round(float(np.mean(v)), 4) for key, v in by.items()} for row, by in of.items()}
            for name, of in scores.items()
        },
    }


def main() -> None:
    options = parser(__doc__, quick="3 seeds, the packaged cells, without genes_lr and scvi")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    options.add_argument("--model", default="small", help="model folder")
    options.add_argument("--environments", type=Path, help="folder of environments of peers; scVI's is made there")
    given = options.parse_args()
    rows = [row for row in given.rows if row != "scvi" or given.environments]
    environments = given.environments and given.environments.resolve()
    folder, sets, seeds = None, list(demo_cells()), range(3)
    needs = [f"cells/{name}.h5ad" for name in given.sets] + [f"cells/{KANG_LABELS}"]
    found = data_if_given(given.data, needs) if given.quick else data_folder(given.data, needs)
    if not given.quick:
        folder, sets, seeds = found, given.sets, range(given.seeds)
    else:
        rows = [row for row in rows if row not in ("genes_lr", "scvi")]
    model = CellLM.from_pretrained(given.model)
    scores = {name: evaluate(name, read(folder, name), rows, model, seeds, environments) for name in sets}
    if {"adapted", "small", "start"} <= set(rows) and set(BEST_OF) & set(rows):
        print(json.dumps(summary(scores)))  # type: ignore[arg-type]
    else:
        print(json.dumps(scores))


if __name__ == "__main__":
    run(main)
