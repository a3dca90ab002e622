"""What a vector of lines adds: each alone and beside the genes, under the same low-rank ridge, paired over folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from benchmarks.parts.response_methods import Result, drug_mean
from benchmarks.parts.response_sets import FILES, Data, Floats, Task, splits, task
from cell_lm.config import PRESETS
from cell_lm.data import from_anndata
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.evaluation.regression import response_scores
from cell_lm.files import JSON
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks.features import embed_cells
from cell_lm.tasks.response.impute import drug_scale
from cell_lm.tasks.response.lines import fit_lines

COMPONENTS = 300


def vectors(folder: Path, data: Data, encoders: Mapping[str, str]) -> dict[str, Floats]:
    """Return the vectors of the lines by name; ``untrained`` is an encoder with random weights."""
    expression = anndata.read_h5ad(folder / FILES[3])
    if not data.name.startswith("gdsc"):
        expression.obs_names = expression.obs["depmap_id"].astype(str)
    expression = expression[data.lines].copy()
    models = {"untrained": CellLM(PRESETS["small"], Vocabulary.human(), seed=0)}
    models |= {name: CellLM.from_pretrained(path) for name, path in encoders.items()}
    found = {"genes": data.X}
    for name, model in models.items():
        cells = from_anndata(expression, vocabulary=model.vocabulary, scale="log2")
        found[name] = embed_cells(model, cells).astype(np.float64)
        print(f"vectors of {name}: {found[name].shape}", flush=True)
    return found


def low_rank(work: Task, X: Floats) -> Result:
    rows, columns = np.flatnonzero(~work.new_lines), np.flatnonzero(~work.new_drugs)
    train = work.train[np.ix_(rows, columns)]
    scale = drug_scale(train)
    model = fit_lines(X[rows], scale.standardise(train), parts=("low rank",))
    found = np.array(drug_mean(work).mean)
    found[:, columns] = scale.restore(model.predict(X))
    return Result(found)


def _beside(genes: Floats, other: Floats, rows: Floats) -> Floats:
    """Both standardised over the training lines, the other scaled to the total variance of the genes."""
    blocks = [(each - each[rows].mean(axis=0)) / np.maximum(each[rows].std(axis=0), 1e-9) for each in (genes, other)]
    # the ridge standardises each feature, so that the block is repeated to weigh as much
    times = max(1, round(genes.shape[1] / other.shape[1]))
    return np.hstack([blocks[0], *([blocks[1]] * times)])


def ablation(data: Data, found: Mapping[str, Floats], keep: Path | None, folds: int | None) -> dict[str, JSON]:
    """Print and return per-drug correlations of every vector, and differences to the genes."""
    scores: dict[str, list[float]] = {}
    for split in splits(data, "cold_line", keep)[:folds]:
        work = task(data, split)
        rows = np.flatnonzero(~work.new_lines)
        pca = PCA(min(COMPONENTS, len(rows) - 1), random_state=0).fit(data.X[rows]).transform(data.X)
        each = {**found, "pca": pca}
        each |= {f"genes + {name}": _beside(data.X, X, rows) for name, X in each.items() if name != "genes"}
        line, drug = np.nonzero(work.test)
        for name, X in each.items():
            mean = low_rank(work, X).mean[line, drug]
            one = response_scores(data.Y[line, drug], mean, lines=data.lines[line], drugs=data.drugs[drug])
            scores.setdefault(name, []).append(one.pearson_per_drug)
    table: dict[str, JSON] = {}
    for name, values in scores.items():
        above = mean_interval(np.subtract(values, scores["genes"]))
        print(f"{data.name:8s} vectors {name:24s} per drug {mean_interval(values)}   - genes {above}", flush=True)
        table[name] = {
            "per_drug": round(float(np.mean(values)), 4),
            "minus_genes": round(above.mean, 4),
            "95": above.bounds(),
        }
    return table


def few_lines(data: Data, found: Mapping[str, Floats], numbers: Sequence[int] = (50, 100, 200)) -> dict[str, JSON]:
    """The same with few training lines, drawn by seed: where an encoder that was trained elsewhere might help."""
    rng, table = np.random.default_rng(0), dict[str, JSON]()
    base = splits(data, "cold_line", None)
    for number in numbers:
        scores: dict[str, list[float]] = {}
        for split in base:
            work = task(data, split)
            rows = rng.permutation(np.flatnonzero(~work.new_lines))[:number]
            train = np.full_like(work.train, np.nan)
            train[rows] = work.train[rows]
            few = Task(data, train, work.validation, work.test)
            line, drug = np.nonzero(work.test)
            for name, X in found.items():
                mean = low_rank(few, X).mean[line, drug]
                one = response_scores(data.Y[line, drug], mean, lines=data.lines[line], drugs=data.drugs[drug])
                scores.setdefault(name, []).append(one.pearson_per_drug)
        row = {name: str(mean_interval(values)) for name, values in scores.items()}
        print(pd.Series(row, name=f"{number} lines").to_string(), flush=True)
        table[str(number)] = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
    return table
