"""Tumour or normal cell: within a set by left-out donors, and from one tissue to another, where it fails.

    python -m benchmarks.malignancy --data DIR [--methods ours genes_lr] [--quick]
    python -m benchmarks.malignancy --quick

*Within*: qian2020_ovarian (3 patients; the epithelial cells of a tumour are the tumour cells), colon_crc_pelka624
(epithelium of tumours and beside them; 14 donors in five folds) and tirosh2016_oligodendroglioma (5 donors; RSEM, not
counts, read as linear): whole donors are left out in turn, and their cells scored once. A donor of one kind only has no
AUROC of its own, so the cells of all left-out donors are pooled; intervals are over 1,000 bootstrap samples of donors.
*Across*: fitted on all of one set, scored on each other one, and on npc_infercnvplus154 (where donor and kind are the
same). copykat_tnbc and numbat_atc2 hold no labels: only the fraction called tumour, and of unlike cells, is printed,
as for baron_human and zheng_facs10, all of whose cells are normal. The labels of tumour cells are the authors', in part
by cell type or sample alone ("putative").
*Methods*: ours (the packaged ``small``, frozen, as it is), ours adapted to the cells of the fit without their labels,
and logistic regression on the genes (strength and temperature chosen on left-out donors, too).
*Unlike*: the fraction of cells marked as unlike the fit, at a nominal 5 %: of left-out donors, where it is a false
alarm, and of other sets; and in how many of them the warning (more than a quarter) appears.

No method draws random numbers where donors are given, so there is one run of each.

``--quick`` alone: the packaged ovarian cancer, across to the packaged pancreas. The last line is JSON.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupKFold

from benchmarks.options import data_folder, parser, run
from cell_lm.data import CellData, MalignancyColumn, from_anndata, read_cells
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.model import CellLM
from cell_lm.pretraining.adapt import adapt
from cell_lm.tasks import DissimilarCellsWarning, GeneLogisticBaseline, MalignancyClassifier
from cell_lm.tasks.malignancy.likeness import WARNED

LABELLED = ("qian2020_ovarian", "colon_crc_pelka624", "tirosh2016_oligodendroglioma")
OTHERS = ("npc_infercnvplus154", "copykat_tnbc", "numbat_atc2", "baron_human", "zheng_facs10")
LINEAR = ("tirosh2016_oligodendroglioma",)
MALIGNANCY = MalignancyColumn("malignant", {"putative": "tumour"})
FOLDS, MOST, BOOTSTRAP = 5, 1_500, 1_000
Floats = NDArray[np.float64]
Made = tuple[Floats, Floats | None]
"""Probability of being a tumour cell, and whether each cell is unlike those of the fit."""
Method = Callable[[CellData], Callable[[CellData], Made]]


def ours(adapted: bool) -> Method:
    def fit(cells: CellData) -> Callable[[CellData], Made]:
        model = CellLM.from_pretrained("small")
        if adapted and len(cells) >= 200:
            model = adapt(model, [cells])
        classifier = MalignancyClassifier(model).fit(cells, "kind", groups="donor")

        def call(other: CellData) -> Made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = classifier.table(other)
            return table["probability"].to_numpy(), table["unlike"].to_numpy().astype(float)

        return call

    return fit


def genes(cells: CellData) -> Callable[[CellData], Made]:
    classifier = GeneLogisticBaseline().fit(cells, "kind", groups="donor")

    def call(other: CellData) -> Made:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return classifier.predict_proba(other)["tumour"].to_numpy(), None

    return call


METHODS: Mapping[str, Method] = {"ours": ours(False), "ours_adapted": ours(True), "genes_lr": genes}


def read(folder: Path, name: str) -> CellData:
    """Read the cells of known and unknown kind; at most 1,500, drawn once."""
    path, linear = folder / "cells" / f"{name}.h5ad", name in LINEAR
    cells = read_cells(path, malignancy=MALIGNANCY, min_genes=200, **({"scale": "linear"} if linear else {}))
    return prepared(cells)


def prepared(cells: CellData) -> CellData:
    if len(cells) > MOST:
        cells = cells[np.sort(np.random.default_rng(0).choice(len(cells), MOST, replace=False))]
    kind = np.array(["normal", "tumour", "unknown"], object)[cells.malignancy]
    return replace(cells, obs=cells.obs.assign(kind=kind, donor=cells.obs["donor"].astype(str)))


def packaged() -> tuple[dict[str, CellData], dict[str, CellData]]:
    cells = {name: prepared(from_anndata(adata, malignancy=MALIGNANCY)) for name, adata in demo_cells().items()}
    return {"packaged ovarian cancer": cells[OVARIAN_CANCER]}, {"packaged pancreas": cells[PANCREAS]}


def main() -> None:
    given = parser(__doc__, quick="alone, the packaged cells")
    given.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    options = given.parse_args()
    if options.quick and options.data is None:
        labelled, others = packaged()
    else:
        data = data_folder(options.data, [f"cells/{name}.h5ad" for name in (*LABELLED, *OTHERS)])
        labelled, others = ({name: read(data, name) for name in names} for names in (LABELLED, OTHERS))
    found = dict[str, dict[str, object]]()
    for name, cells in labelled.items():
        for method in options.methods:
            row = within(METHODS[method], cells)
            found[f"within.{name}.{method}"] = row
            print(f"within {name:30s} {method:13s} {shown(row)}", flush=True)
    for name, cells in labelled.items():
        for method in options.methods:
            call = METHODS[method](cells)
            for other in (*labelled, *others):
                if other != name:
                    target = labelled[other] if other in labelled else others[other]
                    row = scores(target, *call(target))
                    found[f"across.{name}.{other}.{method}"] = row
                    print(f"{name:30s} -> {other:30s} {method:13s} {shown(row)}", flush=True)
    alarms(found)
    print(json.dumps(found))


def within(method: Method, cells: CellData) -> dict[str, object]:
    """Leave donors out in turn, in the same folds for every method."""
    cells = cells[np.flatnonzero(cells.malignancy >= 0)]
    donors = cells.obs["donor"].to_numpy(object)
    folds = list(GroupKFold(min(FOLDS, len(set(donors)))).split(donors, groups=donors))
    began, probability, unlike = time.perf_counter(), np.empty(len(cells)), np.full(len(cells), np.nan)
    for train, test in folds:
        probability[test], strange = method(cells[train])(cells[test])
        unlike[test] = np.nan if strange is None else strange
    seconds = (time.perf_counter() - began) / len(folds)
    has = not np.isnan(unlike).any()
    row = scores(cells, probability, unlike if has else None) | intervals(cells, probability)
    if has:
        row["unlike_by_donor"] = {donor: _share(unlike > 0, donors == donor) for donor in sorted(set(donors))}
    return row | {"seconds": round(seconds, 1)}


def scores(cells: CellData, probability: Floats, unlike: Floats | None) -> dict[str, object]:
    known = cells.malignancy >= 0
    truth, p = cells.malignancy[known] == 1, probability[known]
    row: dict[str, object] = {"called_tumour": round(float((probability > 0.5).mean()), 4)}
    if known.any() and 0 < truth.sum() < len(truth):
        proba = np.stack([1 - p, p], axis=1)
        row |= {
            "auroc": round(float(roc_auc_score(truth, p)), 4),
            "f1": round(float(f1_score(truth, p > 0.5, zero_division=0.0)), 4),
            "f1_all_tumour": round(float(f1_score(truth, np.ones(len(truth), bool))), 4),
            "ece": round(calibration_error(truth.astype(str), proba, ["False", "True"]), 4),
        }
    elif known.any():
        row["right"] = round(float(((p > 0.5) == truth).mean()), 4)
    if unlike is not None:
        row["unlike"] = round(float(unlike.mean()), 4)
        if known.any():
            wrong = (p > 0.5) != truth
            row["right_of_alike"] = _share(~wrong, unlike[known] == 0)
    return row


def _share(right: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    return round(float(right[among].mean()), 4) if among.any() else None


def intervals(cells: CellData, probability: Floats) -> dict[str, object]:
    """Return 95 % intervals of AUROC and F1 over bootstrap samples of the donors."""
    donors, truth, rng = cells.obs["donor"].to_numpy(object), cells.malignancy == 1, np.random.default_rng(0)
    rows_of = [np.flatnonzero(donors == donor) for donor in sorted(set(donors))]
    drawn = list[tuple[float, float]]()
    for _ in range(BOOTSTRAP):
        rows = np.concatenate([rows_of[i] for i in rng.integers(len(rows_of), size=len(rows_of))])
        if 0 < truth[rows].sum() < len(rows):
            p = probability[rows]
            f1 = float(f1_score(truth[rows], p > 0.5, zero_division=0.0))
            drawn.append((float(roc_auc_score(truth[rows], p)), f1))
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0).round(3).tolist()
    return {"auroc_95": [low[0], high[0]], "f1_95": [low[1], high[1]]}


def alarms(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print how often the warning of unlike cells would appear, falsely and rightly."""
    for method in METHODS:
        rows = {key: row for key, row in found.items() if key.endswith(f".{method}") and "unlike" in row}
        donors = [share for row in rows.values() for share in row.get("unlike_by_donor", {}).values()]
        others = [row["unlike"] for key, row in rows.items() if key.startswith("across")]
        if donors and others:
            false, true = (sum(share > WARNED for share in shares) for shares in (donors, others))
            kept = f"{false} of {len(donors)} left-out donors (mean share {np.mean(donors):.3f})"
            print(f"{method}: {DissimilarCellsWarning.__name__} for {kept}, and for {true} of {len(others)} other sets")


def shown(row: Mapping[str, object]) -> str:
    """Return the figures of a row."""
    parts = list[str]()
    for key, value in row.items():
        if isinstance(value, float) and key != "seconds":
            more = row.get(f"{key}_95")
            parts.append(f"{key} {value:.3f}" + (f" {more}" if more else ""))
    return ", ".join(parts)


if __name__ == "__main__":
    run(main)
