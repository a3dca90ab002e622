"""Gene attribution of the cell type classifier: does removing the genes change the prediction, and are they markers?

    python -m benchmarks.attribution --data DIR [--steps 30] [--out RUN] [--quick]
    python -m benchmarks.attribution --quick

``DIR/cells`` holds the h5ad files of ``PRETRAINING`` and ``TARGETS``, ``DIR/genes/markers.parquet`` lists of markers;
``--quick`` alone uses the packaged cells and no markers. A ``small`` encoder is pretrained once on the former. The
classifier is fitted on four fifths of each target, stratified by type, and explained on a few of the other cells of
each type; five splits.

*Deletion.* The genes of a cell are removed as tokens, the highest attribution first. Printed is the area under the
probability of the predicted class of the whole cell, lower being better: over all genes, and over the first tenth of
them, divided by that fraction ("first tenth"). Baselines: the weight of logistic regression times the log expression of
the gene, random genes, and random genes of the same expression (as many of each bin after every step as with integrated
gradients). The explained network also scores the deletions, which favours its own attributions over the weights
of another model.

*Markers.* Fraction of the twenty genes of the highest mean attribution (over more cells, integrated gradients, target:
the true type) that published lists name for the type, and the same for the twenty that Wilcoxon's test ranks first on
all training cells. Types that are in no list are left out. The last line is JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from benchmarks.options import data_folder, parser, run
from benchmarks.parts.attribution import (
    linear_weights,
    precision,
    read_markers,
    weight_times_value,
    wilcoxon_markers,
)
from benchmarks.parts.pretraining_cells import MALIGNANCY, PRETRAINING, packaged, read_target
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import resolve_config
from cell_lm.data import CellData, read_cells
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.attribution import METHODS, attribute, choose_cells, deletion_curves, gene_table

TARGETS = ("zheng_facs10", "pbmc3k", "baron_human")
LEFT_OUT = {"baron_human"}
"""Files of the pretraining of other benchmarks that are targets here."""
LINEAR = "logistic weights"
TOP = 20


def pretrained(datasets: Callable[[], Sequence[CellData]], out: Path, steps: int) -> CellLM:
    """Pretrain the encoder, or take it from where the same command left it."""
    if (out / "model").is_dir():
        return CellLM.from_pretrained(out)
    training = {"steps": steps, "batch_size": 128, "retain_graphs": 4, "validation": 0.0}
    config = resolve_config("small", overrides={"training": training})
    if pretrain(datasets(), config, out, resume=out.is_dir()).interrupted:
        raise SystemExit("interrupted; the same command goes on")
    return CellLM.from_pretrained(out)


def read_datasets(data: Path, names: Sequence[str]) -> list[CellData]:
    return [read_cells(data / "cells" / f"{name}.h5ad", malignancy=MALIGNANCY, min_genes=200) for name in names]


def areas(
    classifier: CellTypeClassifier, cells: CellData, weights: NDArray[np.float64], seed: int, seconds: dict[str, float]
) -> tuple[dict[str, float], float]:
    """Return the area of each order, whole and over the first tenth, and how integrated gradients miss completeness."""
    targets = np.asarray(classifier.predict_proba(cells)).argmax(axis=1)
    orders, gap = {}, 0.0
    for method in METHODS:
        start = time.process_time()
        found = attribute(classifier, cells, targets, method=method)
        seconds[method] = seconds.get(method, 0.0) + time.process_time() - start
        orders[str(method)] = found.values
        gap = found.gap if method == "integrated_gradients" else gap
    orders[LINEAR] = weight_times_value(weights, cells, targets)
    curves = deletion_curves(classifier, cells, orders, seed=seed)
    whole = {f"area.{name}": curves.area(name) for name in curves.probability}
    return whole | {f"first tenth.{name}": curves.area(name, 0.1) for name in curves.probability}, gap


def top_genes(classifier: CellTypeClassifier, cells: CellData, labels: NDArray[np.object_]) -> dict[str, list[str]]:
    """Return the genes of the highest mean attribution for each type, the type itself being the target."""
    targets = np.searchsorted(classifier.classes_, labels.astype(str))
    found = attribute(classifier, cells, targets.astype(np.int64), steps=8)
    table = gene_table(found.values, cells.X, labels, cells.vocabulary.symbols)
    return {str(name): rows["gene"].head(TOP).tolist() for name, rows in table.groupby("label", observed=True)}


def main() -> None:
    arguments = parser(__doc__, quick="5 steps, 1 split, 1 cell of each type of one data set")
    arguments.add_argument("--out", type=Path, default=Path("runs/attribution"))
    arguments.add_argument("--steps", type=int, default=30, help="of pretraining")
    arguments.add_argument("--cells", type=int, default=1, help="of each type in a split, for deletion")
    arguments.add_argument("--marker-cells", type=int, default=8, help="of each type in a split, for markers")
    arguments.add_argument("--seeds", type=int, default=5)
    options = arguments.parse_args()
    if options.quick:
        options.steps, options.seeds, options.cells, options.marker_cells = 5, 1, 1, 2
    targets = TARGETS[:1] if options.quick else TARGETS
    keep_large_blocks()
    torch.set_num_threads(1)
    if options.quick and options.data is None:
        (datasets, cells_of), lists, out = packaged(), None, options.out / "packaged"
        model = pretrained(lambda: datasets, out, options.steps)
    else:
        names = [name for name in PRETRAINING if name not in LEFT_OUT]
        data = data_folder(
            options.data, ["genes/markers.parquet", *(f"cells/{name}.h5ad" for name in (*names, *targets))]
        )
        lists = data / "genes" / "markers.parquet"
        model = pretrained(lambda: read_datasets(data, names), options.out / f"{options.steps}-steps", options.steps)
        cells_of = {name: read_target(data, name) for name in targets}

    results: dict[str, list[float]] = {}
    for name, cells in cells_of.items():
        seconds: dict[str, float] = {}
        explained = 0
        labels = cells.obs["cell_type"].astype(str).to_numpy(object)
        symbols = np.asarray(cells.vocabulary.symbols, object)[cells.audit.found]
        markers = {} if lists is None else read_markers(lists, set(symbols))
        for seed in range(options.seeds):
            train, test = train_test_split(np.arange(len(cells)), test_size=0.2, stratify=labels, random_state=seed)
            classifier = CellTypeClassifier(model, seed=seed).fit(cells[train], "cell_type", min_cells=1)
            some = test[choose_cells(labels[test], options.cells, seed=seed)]
            weights = linear_weights(cells[train], labels[train], seed=seed)
            found, gap = areas(classifier, cells[some], weights, seed, seconds)
            explained += len(some)
            scores = found | {"gap": gap}
            if markers:
                more = test[choose_cells(labels[test], options.marker_cells, seed=seed)]
                scores["precision.attribution"] = precision(top_genes(classifier, cells[more], labels[more]), markers)
                wilcoxon = wilcoxon_markers(cells[train], labels[train], TOP)
                scores["precision.wilcoxon"] = precision(wilcoxon, markers)
            for key, value in scores.items():
                results.setdefault(f"{name}.{key}", []).append(value)
        for key in [key for key in results if key.startswith(f"{name}.")]:
            mean, spread = np.mean(results[key]), np.std(results[key])
            print(f"{key:45s} {mean:.3f} ± {spread:.3f}" if mean > 1e-3 else f"{key:45s} {mean:.1e}", flush=True)
        each = ", ".join(f"{method} {1000 * spent / explained:.0f}" for method, spent in seconds.items())
        print(f"{name}: {explained} cells explained; CPU milliseconds a cell: {each}", flush=True)
    print(f"{time.process_time():.0f} CPU seconds in all")
    print(json.dumps({key: [float(f"{np.mean(v):.4g}"), float(f"{np.std(v):.4g}")] for key, v in results.items()}))


if __name__ == "__main__":
    run(main)
