"""How well simple methods predict cell types: macro-F1 with 1, 5 and 20 labels per type, and with donors left out.

    python -m benchmarks.evaluation [--data DIR] [--seeds 5] [--quick]

The baselines for every model: logistic regression on the genes, and on their principal components, the nearest
centroid, 15 neighbours, and the most frequent type, each with its strength chosen on left-out training cells or donors.
On the packaged cells; ``--data`` adds four data sets from its ``cells/``, at most 3,000 cells of each. Scores are
computed on cells not used in the fit. Intervals are 95 %: over seeds or donors (Student's t), and, for the difference
to logistic regression on the genes, over seeds (t) or over donors and their cells (paired bootstrap).

The last line is JSON: ``one_shot``, ``few_shot_5``, ``few_shot_20`` and ``donors`` by method, means over both packaged
data sets; ``paired``, the difference of each method to ``genes_lr``; ``intervals`` of all these; and ``sets``, the
means of each data set by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.options import data_if_given, parser, run
from cell_lm.data import CellData, from_anndata, read_cells
from cell_lm.data.demo import demo_cells
from cell_lm.data.loading.expression import log_expression
from cell_lm.evaluation import BASELINES, Comparison, Interval, Split, compare, few_shot, leave_one_group_out
from cell_lm.evaluation.intervals import mean_interval, paired_bootstrap_over
from cell_lm.files import JSON

SHOTS = {"one_shot": 1, "few_shot_5": 5, "few_shot_20": 20}
DONORS = "donors"
MORE = ("zheng_facs10", "pbmc3k", "baron_human", "qian2020_ovarian")
REFERENCE = "genes_lr"
RAREST, RARE, MOST = 10, 10, 3000
"""Types with fewer cells in a data set are left out, those with fewer training cells in a fit named; cells drawn."""


class Set(NamedTuple):
    """Comparisons of one data set, by setting."""

    name: str
    packaged: bool
    by_setting: dict[str, Comparison]


def labelled(cells: CellData) -> CellData:
    """Return the cells of types that have a name and cells enough."""
    labels = cells.obs["cell_type"].astype(object).where(cells.obs["cell_type"].notna(), "")
    sizes = labels.astype(str).map(labels.astype(str).value_counts())
    return cells[((labels != "") & (sizes >= RAREST)).to_numpy()]


def read(folder: Path | None) -> Iterator[tuple[str, bool, CellData]]:
    for name, adata in demo_cells(harmonise=True).items():
        yield name, True, labelled(from_anndata(adata))
    if folder is None:
        return
    for name in MORE:
        cells = read_cells(folder / "cells" / f"{name}.h5ad")
        drawn = np.random.default_rng(0).permutation(len(cells))[:MOST]
        yield name, False, labelled(cells[np.sort(drawn)])


def rare(labels: pd.Series, split: Split) -> list[str]:
    """Return the types with fewer training cells than asked for, or few, with how many."""
    train = labels.iloc[split.train].value_counts()
    few = split.rare if split.unit == "cell" else [name for name in labels.unique() if train.get(name, 0) < RARE]
    return [f"{name} ({train.get(name, 0)})" for name in sorted(few)]


def settings(labels: pd.Series, donors: pd.Series | None, seeds: Sequence[int]) -> dict[str, list[Split]]:
    splits = {key: few_shot(labels, count, seeds) for key, count in SHOTS.items()}
    if donors is not None:
        splits[DONORS] = leave_one_group_out(donors)
    return splits


def evaluate(name: str, packaged: bool, cells: CellData, seeds: Sequence[int]) -> Set:
    labels = cells.obs["cell_type"].astype(str)
    donors = cells.obs["donor"].astype(str) if "donor" in cells.obs and cells.obs["donor"].nunique() > 1 else None
    X, result = log_expression(cells), Set(name, packaged, {})
    print(f"\n{name}: {len(cells):,} cells, {labels.nunique()} types", flush=True)
    for key, splits in settings(labels, donors, seeds).items():
        groups = donors if key == DONORS else None
        comparison = compare(BASELINES, X, labels, splits, groups=groups)
        result.by_setting[key] = comparison
        scores = "  ".join(f"{method} {comparison.score(method)}" for method in BASELINES)
        print(f"{key:12s} {scores}", flush=True)
        for split in splits if key == DONORS else splits[:1]:
            if found := rare(labels, split):
                print(f"{'':12s} {split.name}: few training cells of {', '.join(found)}")
    return result


def scores(sets: Sequence[Set], key: str, method: str) -> np.ndarray:
    """Return a score for each donor of all data sets, or for each seed the mean over data sets."""
    by_set = [[one.macro_f1 for one in each.by_setting[key].of(method)] for each in sets if key in each.by_setting]
    return np.concatenate(by_set) if key == DONORS else np.mean(by_set, axis=0)


def difference(sets: Sequence[Set], key: str, method: str) -> Interval:
    if key != DONORS:
        return mean_interval(scores(sets, key, method) - scores(sets, key, REFERENCE))
    parts = []
    for comparison in (each.by_setting[key] for each in sets if key in each.by_setting):
        for one, other in zip(comparison.of(method), comparison.of(REFERENCE), strict=True):
            parts.append((comparison.truth[one.split.test], one.predicted, other.predicted))
    return paired_bootstrap_over(parts)


def summary(sets: Sequence[Set]) -> dict[str, JSON]:
    packaged = [each for each in sets if each.packaged]
    keys = [*SHOTS, DONORS]
    means = {key: {method: mean_interval(scores(packaged, key, method)) for method in BASELINES} for key in keys}
    others = [method for method in BASELINES if method != REFERENCE]
    paired = {key: {method: difference(packaged, key, method) for method in others} for key in keys}
    by_set: dict[str, JSON] = {
        each.name: {
            key: {method: round(comparison.score(method).mean, 4) for method in BASELINES}
            for key, comparison in each.by_setting.items()
        }
        for each in sets
    }
    bounds: dict[str, JSON] = {**_bounds(means), "paired": _bounds(paired)}
    return {**_means(means), "paired": _means(paired), "intervals": bounds, "sets": by_set}


def _means(table: Mapping[str, Mapping[str, Interval]]) -> dict[str, JSON]:
    return {key: {method: round(each.mean, 4) for method, each in row.items()} for key, row in table.items()}


def _bounds(table: Mapping[str, Mapping[str, Interval]]) -> dict[str, JSON]:
    return {key: {method: [*each.bounds()] for method, each in row.items()} for key, row in table.items()}


def show(sets: Sequence[Set]) -> None:
    """Print the means over both packaged data sets, and what each method is above logistic regression on the genes."""
    packaged = [each for each in sets if each.packaged]
    print("\nboth packaged data sets: macro-F1 [95 %], and the difference to logistic regression on the genes")
    for key in [*SHOTS, DONORS]:
        for method in BASELINES:
            above = "" if method == REFERENCE else f"   {difference(packaged, key, method)}"
            print(f"{key:12s} {method:11s} {mean_interval(scores(packaged, key, method))}{above}")


def main() -> None:
    options = parser(__doc__, quick="3 seeds, the packaged cells alone")
    options.add_argument("--seeds", type=int, default=5)
    given = options.parse_args()
    seeds = range(3 if given.quick else given.seeds)
    folder = data_if_given(given.data, [f"cells/{name}.h5ad" for name in MORE])
    folder = None if given.quick else folder
    sets = [evaluate(name, packaged, cells, seeds) for name, packaged, cells in read(folder)]
    show(sets)
    print(json.dumps(summary(sets)))


if __name__ == "__main__":
    run(main)
