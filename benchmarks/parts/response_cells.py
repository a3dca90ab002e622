"""What a vector of lines adds: each alone and beside the genes, under the same low-rank ridge, paired over folds.

Vectors: ``genes``; ``pca``, their principal components; ``untrained``, an encoder with random weights; ``small``, the
packaged encoder; ``adapted``, the same adapted to all lines, without responses; ``fine_tuned``, its feed-forward block
trained on the responses of the training lines of the fold; and encoders named by the user.

Settings: unseen lines (5 folds); the same with 50, 100 and 200 training lines; with 100 and 500 genes measured, drawn
by seed; and unseen tissues, each in turn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from benchmarks.parts.response_sets import FILES, Data, Floats, Task, splits, task
from cell_lm.config import PRESETS
from cell_lm.data import CellData, from_anndata
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.evaluation.regression import response_scores
from cell_lm.files import JSON
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.pretraining.adapt import adapt
from cell_lm.tasks.features import embed_cells
from cell_lm.tasks.response.impute import drug_scale, soft_impute
from cell_lm.tasks.response.lines import feature_scale
from cell_lm.tasks.response.ridge import fit_low_rank

COMPONENTS = 300
LINES, GENES = (50, 100, 200), (100, 500)
EPOCHS, PATIENCE, BATCH, RATE = 300, 30, 64, 1e-3
"""Of the fine-tuning; a tenth of the training lines decides when to stop."""


@dataclass(frozen=True, eq=False)
class Encoders:
    """Encoders by name, the one that is fine-tuned, and the expression of all lines as they read it."""

    models: Mapping[str, CellLM]
    tuned: CellLM
    expression: AnnData

    @classmethod
    def of(cls, folder: Path, data: Data, named: Mapping[str, str]) -> Encoders:
        """Read the expression of the lines of a set; ``named`` are models of the user."""
        expression = anndata.read_h5ad(folder / FILES[3])
        if not data.name.startswith("gdsc"):
            expression = expression[expression.obs["depmap_id"].notna()]
            expression.obs_names = expression.obs["depmap_id"].astype(str)
            expression = expression[~expression.obs_names.duplicated()]
        small = CellLM.from_pretrained("small")
        models = {"untrained": CellLM(PRESETS["small"], Vocabulary.human(), seed=0).eval(), "small": small}
        models |= {name: CellLM.from_pretrained(path) for name, path in named.items()}
        return cls(models, small, expression[data.lines].copy())

    def cells(self, model: CellLM, genes: NDArray[np.int64] | None) -> CellData:
        """Return the lines as a model reads them; ``genes``: only these columns were measured."""
        if genes is None:
            return from_anndata(self.expression, vocabulary=model.vocabulary, scale="log2")
        own = self.expression[:, genes].copy()
        return from_anndata(own, vocabulary=model.vocabulary, scale="log2", min_overlap=len(genes) // 2)

    def vectors(self, genes: NDArray[np.int64] | None = None) -> dict[str, Floats]:
        """Return the vectors of all lines that no response enters."""
        found = {name: embed_cells(model, self.cells(model, genes)) for name, model in self.models.items()}
        adapted = adapt(self.tuned, [self.cells(self.tuned, genes)])
        found["adapted"] = embed_cells(adapted, self.cells(adapted, genes))
        return {name: each.astype(np.float64) for name, each in found.items()}


class Refinement:
    """Fine-tuning of the feed-forward block after the linear path of an encoder, on responses.

    Parameters
    ----------
    model
        An encoder with a linear path; unchanged.
    cells
        All lines.
    """

    def __init__(self, model: CellLM, cells: CellData) -> None:
        self.readout = copy.deepcopy(model.encoder.readout)
        tokens = Tokeniser(model.config.bins, model.config.max_genes)
        batch: CellBatch = tokens(cells, np.arange(len(cells)))
        with torch.no_grad(), model.encoder.readout.unrefined():
            self.before: Tensor = model.encoder(batch, hidden=None, counter=None, only_cls=True).cls

    def __call__(self, responses: Floats, rows: NDArray[np.int64], seed: int = 0) -> Floats:
        """Return CLS of all lines, float64 [lines, width], after training on ``responses`` [rows, drugs]."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        readout, head = copy.deepcopy(self.readout), nn.Linear(self.before.shape[1], responses.shape[1])
        trained = nn.ModuleList([readout.norm, readout.refinement, head])
        optimiser = torch.optim.AdamW(trained.parameters(), lr=RATE, weight_decay=0.01)
        seen = torch.from_numpy(np.isfinite(responses))
        target = torch.from_numpy(np.nan_to_num(responses).astype(np.float32))
        order = rng.permutation(len(rows))
        held_out, rest = order[: len(rows) // 10], order[len(rows) // 10 :]

        def error(chosen: NDArray[np.int64]) -> Tensor:
            off = head(readout.refine(self.before[rows[chosen]])) - target[chosen]
            return (off[seen[chosen]] ** 2).mean()

        least, best, since = math.inf, copy.deepcopy(readout), 0
        for _ in range(EPOCHS):
            mixed = rng.permutation(rest)
            for at in range(0, len(mixed), BATCH):
                optimiser.zero_grad()
                torch.autograd.backward(error(mixed[at : at + BATCH]))
                optimiser.step()
            with torch.no_grad():
                now = float(error(held_out))
            since += 1
            if now < least:
                least, best, since = now, copy.deepcopy(readout), 0
            if since >= PATIENCE:
                break
        with torch.no_grad():
            return best.refine(self.before).double().numpy()  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Compared:
    """Scores of the vectors over the folds of one setting, per drug: {vector: [one a fold]}."""

    scores: dict[str, list[float]]

    def add(self, work: Task, found: Mapping[str, Floats], genes: Floats, tuned: Refinement | None) -> None:
        """Score all vectors on the test lines of a task, alone and beside the genes."""
        rows, columns = np.flatnonzero(~work.new_lines), np.flatnonzero(~work.new_drugs)
        train = work.train[np.ix_(rows, columns)]
        scale = drug_scale(train)
        standardised = scale.standardise(train)
        filled = soft_impute(standardised)
        each = {"genes": genes, "pca": _components(genes, rows), **found}
        if tuned is not None:
            each["fine_tuned"] = tuned(standardised, rows)
        each |= {f"genes + {name}": _beside(genes, X, rows) for name, X in each.items() if name != "genes"}
        line, drug = np.nonzero(work.test[:, columns])
        for name, X in each.items():
            mean = scale.restore(_ridge(X, rows, filled))[line, drug]
            truth, lines, drugs = (
                work.data.Y[line, columns[drug]],
                work.data.lines[line],
                work.data.drugs[columns[drug]],
            )
            found_scores = response_scores(truth, mean, lines=lines, drugs=drugs)
            self.scores.setdefault(name, []).append(found_scores.pearson_per_drug)

    def show(self, name: str, setting: str) -> dict[str, JSON]:
        """Print and return the mean of each vector, and the paired difference to the genes."""
        table: dict[str, JSON] = {}
        for vector, values in self.scores.items():
            above = mean_interval(np.subtract(values, self.scores["genes"]))
            own = mean_interval(values)
            print(f"{name:8s} {setting:12s} {vector:20s} per drug {own}   - genes {above}", flush=True)
            table[vector] = {
                "per_drug": round(own.mean, 4),
                "minus_genes": round(above.mean, 4),
                "95": above.bounds() if len(values) > 1 else None,
            }
        return table


def ablation(
    folder: Path, data: Data, named: Mapping[str, str], folds: int | None, keep: Path | None
) -> dict[str, JSON]:
    """Compare the vectors in all settings; return {setting: {vector: scores}}."""
    encoders = Encoders.of(folder, data, named)
    found, tuned = encoders.vectors(), Refinement(encoders.tuned, encoders.cells(encoders.tuned, None))
    table: dict[str, JSON] = {}
    lines = [task(data, split) for split in splits(data, "cold_line", keep)[:folds]]
    table["cold_line"] = _compare(data, "cold_line", lines, found, data.X, tuned)
    for number in LINES:
        few = list(_few_lines(lines, number))
        table[f"lines_{number}"] = _compare(data, f"lines_{number}", few, found, data.X, tuned)
    for number in GENES:
        chosen = np.sort(np.random.default_rng(0).permutation(data.X.shape[1])[:number])
        own = Refinement(encoders.tuned, encoders.cells(encoders.tuned, chosen))
        given = encoders.vectors(chosen), data.X[:, chosen], own
        table[f"genes_{number}"] = _compare(data, f"genes_{number}", lines, *given)
    tissues = [task(data, split) for split in splits(data, "cold_tissue", keep)]
    table["cold_tissue"] = _compare(data, "cold_tissue", tissues, found, data.X, tuned)
    return table


def _compare(
    data: Data, setting: str, tasks: list[Task], found: Mapping[str, Floats], genes: Floats, tuned: Refinement | None
) -> JSON:
    compared = Compared({})
    for work in tasks:
        compared.add(work, found, genes, tuned)
    return compared.show(data.name, setting)


def _few_lines(tasks: list[Task], number: int) -> Iterator[Task]:
    """Yield the tasks with so many training lines, drawn by seed."""
    rng = np.random.default_rng(0)
    for work in tasks:
        rows = rng.permutation(np.flatnonzero(~work.new_lines))[:number]
        train = np.full_like(work.train, np.nan)
        train[rows] = work.train[rows]
        yield replace(work, train=train)


def _ridge(X: Floats, rows: NDArray[np.int64], filled: Floats) -> Floats:
    """Return standardised predictions of the low-rank ridge for all lines."""
    centre, spread = feature_scale(X[rows])
    own = (X - centre) / spread
    return np.asarray(own @ fit_low_rank(own[rows], filled) + filled.mean(axis=0))


def _components(genes: Floats, rows: NDArray[np.int64]) -> Floats:
    number = min(COMPONENTS, len(rows) - 1, genes.shape[1])
    return np.asarray(PCA(number, random_state=0).fit(genes[rows]).transform(genes))


def _beside(genes: Floats, other: Floats, rows: NDArray[np.int64]) -> Floats:
    """Both standardised over the training lines, the other repeated so that it weighs as much as the genes."""
    blocks = [(each - each[rows].mean(axis=0)) / np.maximum(each[rows].std(axis=0), 1e-9) for each in (genes, other)]
    times = max(1, round(genes.shape[1] / other.shape[1]))
    return np.hstack([blocks[0], *([blocks[1]] * times)])
