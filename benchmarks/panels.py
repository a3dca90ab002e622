"""Accuracy of a classifier on cells that lack genes of its reference, and of one fitted on the genes that both have.

    python -m benchmarks.panels --data DIR [--cells 1200]
    python -m benchmarks.panels --quick

Baron's pancreas and Qian's ovarian cancer with one donor left out, and a split of pbmc3k; ``--quick``: the packaged
pancreas cells, fewer panels. The query keeps some of the genes, drawn at random or the most variable ones of the
reference, as in a targeted panel. Each row: genes kept, their fraction of the genes and of the log expression of the
reference (:class:`cell_lm.tasks.Coverage`), accuracy, macro-F1 and median confidence of the classifier of all genes,
then of one fitted on the shared genes (``genes_of=``). The bounds of the warning and of the refusal in
:mod:`cell_lm.tasks.estimator` were chosen on this table; nothing was tuned on it otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.options import data_folder, parser, run
from cell_lm.data import CellData, from_anndata, read_cells
from cell_lm.data.demo import HELD_OUT, PANCREAS, demo_cells
from cell_lm.data.loading.expression import log_expression
from cell_lm.data.view import CellView
from cell_lm.evaluation import annotation_scores
from cell_lm.files import JSON
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier, Coverage

DONORS = {"baron_human": "human2", "qian2020_ovarian": "OvC_patient_13"}
SPLIT = "pbmc3k"
NOT_A_TYPE = "unlabelled (failed QC)"
RANDOM, VARIABLE = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75), (20, 50, 100, 200, 400, 800, 1600, 3200)
QUICK = 400, (0.1, 0.5), (50, 400)


class Row(NamedTuple):
    """One panel."""

    data: str
    panel: str
    genes: int
    share: float
    expression: float
    cells: int
    accuracy: float
    macro_f1: float
    confidence: float
    fitted_accuracy: float
    fitted_macro_f1: float
    fitted_confidence: float


def packaged(most: int) -> Iterator[tuple[str, CellView, CellView]]:
    """Yield the packaged pancreas cells, with one donor as query."""
    cells = from_anndata(demo_cells()[PANCREAS])
    yield "packaged pancreas", *halves(cells, (cells.obs["donor"] == HELD_OUT[PANCREAS]).to_numpy(), most)


def files(folder: Path, most: int) -> Iterator[tuple[str, CellView, CellView]]:
    """Yield reference and query of each file."""
    for name, donor in DONORS.items():
        cells = read_cells(folder / "cells" / f"{name}.h5ad")
        yield name, *halves(cells, (cells.obs["donor"] == donor).to_numpy(), most)
    cells = read_cells(folder / "cells" / f"{SPLIT}.h5ad")
    cells = cells[(cells.obs["cell_type"].astype(str) != NOT_A_TYPE).to_numpy()]
    yield SPLIT, *halves(cells, np.random.default_rng(0).random(len(cells)) < 0.3, most)


def halves(cells: CellData, test: NDArray[np.bool_], most: int) -> tuple[CellView, CellView]:
    """Return at most so many cells of the reference, and half as many of the query."""
    rng, view = np.random.default_rng(0), CellView.of(cells)
    return view[rng.permutation(np.flatnonzero(~test))[:most]], view[rng.permutation(np.flatnonzero(test))[: most // 2]]


def panels(
    reference: CellView, random: tuple[float, ...], variable: tuple[int, ...]
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield the genes of each panel, int64, ascending."""
    genes, rng = reference.genes, np.random.default_rng(1)
    logs = log_expression(reference)
    mean = np.asarray(logs.mean(axis=0)).ravel()
    variance = np.asarray(logs.multiply(logs).mean(axis=0)).ravel() - mean**2
    for share in random:
        yield "random", np.sort(rng.choice(genes, int(share * len(genes)), replace=False))
    for number in variable:
        yield "variable", np.sort(np.argsort(-variance, kind="stable")[:number])
    yield "all", genes


def measure(
    name: str, panel: str, genes: NDArray[np.int64], whole: CellTypeClassifier, reference: CellView, query: CellView
) -> Row:
    """Score both classifiers on the query with these genes only."""
    query = query.cut(genes)
    query = query[query.expressing()]
    truth = query.obs()["cell_type"].astype(str).to_numpy()
    fitted = CellTypeClassifier(whole.model).fit(reference, "cell_type", genes_of=query, min_cells=1)
    found = list[float]()
    for classifier in (whole, fitted):
        cells = classifier.cut_like_fit(query)
        p = classifier._probabilities(cells, None)  # predict would refuse too large a gap
        scores = annotation_scores(truth, classifier.classes_[p.argmax(axis=1)])
        found += [scores.accuracy, scores.macro_f1, float(np.median(p.max(axis=1)))]
    coverage = Coverage.of(whole.reference_, query.genes)
    return Row(name, panel, coverage.shared, coverage.share, coverage.expression, len(query), *found)


def main() -> None:
    options = parser(__doc__, quick="the packaged pancreas cells, four panels")
    options.add_argument("--cells", type=int, default=1200, help="most cells of a reference")
    given = options.parse_args()
    if given.quick and given.data is None:
        most, random, variable = QUICK
        sets = packaged(most)
    else:
        folder = data_folder(given.data, [f"cells/{name}.h5ad" for name in (*DONORS, SPLIT)])
        random, variable = QUICK[1:] if given.quick else (RANDOM, VARIABLE)
        sets = files(folder, QUICK[0] if given.quick else given.cells)
    model, rows = CellLM.from_pretrained("small"), list[Row]()
    for name, reference, query in sets:
        whole = CellTypeClassifier(model).fit(reference, "cell_type", min_cells=1)
        for panel, genes in panels(reference, random, variable):
            row = measure(name, panel, genes, whole, reference, query)
            rows.append(row)
            numbers = " ".join(f"{value:.3f}" for value in row[6:])
            print(f"{name:18s} {panel:8s} {row.genes:6,} {row.share:.3f} {row.expression:.3f} {numbers}", flush=True)
    result: dict[str, JSON] = {"rows": [{key: _rounded(value) for key, value in row._asdict().items()} for row in rows]}
    print(json.dumps(result))


def _rounded(value: float | str) -> JSON:
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    run(main)
