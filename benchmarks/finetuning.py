"""Does fine-tuning help, and what does it cost? The frozen encoder against every kind of fine-tuning.

    python -m benchmarks.finetuning [--data DIR] [--parts refinement last lora all] [--seeds 3] [--splits N] [--quick]
    python -m benchmarks.finetuning --cost

The packaged cells, each donor left out in turn; with ``--data`` also zheng_facs10, 80/20 stratified by type, once for
each seed. The encoder is the packaged ``small``, not adapted. The number of steps is chosen on donors (cells) of the
training part; the test cells are scored once. Macro-F1 (mean over splits, 95 % interval by Student's t), ECE, seconds
of CPU of the fit with embedding (one thread), and in how many splits training beat step 0 and was kept. The last line
is JSON. ``--cost`` only times a step of every part on 64 packaged cells, and a look at 64 left-out cells.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from benchmarks.options import data_folder, parser, run
from cell_lm.config import FineTuneConfig
from cell_lm.data import CellData, from_anndata, read_cells
from cell_lm.data.demo import demo_cells
from cell_lm.data.view import CellView
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.linear_head import fit_head
from cell_lm.evaluation.splits import Split, leave_one_group_out, stratified
from cell_lm.model import CellLM
from cell_lm.tasks.features import embed_cells
from cell_lm.tasks.finetuning import fine_tune
from cell_lm.tasks.finetuning.step import FineTuneStep, LabelledCells
from cell_lm.tasks.finetuning.tuning import prepared

RAREST = 10
PARTS = ("refinement", "last", "lora", "all")
Rows = NDArray[np.int64]


def sets(
    data: object, seeds: int
) -> Iterator[tuple[str, CellData, NDArray[np.object_] | None, list[tuple[Split, int]]]]:
    """Yield the name of each set, its cells, their donors, and its splits with a seed for each."""
    for name, adata in demo_cells().items():
        cells = frequent_types(from_anndata(adata))
        donors = cells.obs["donor"].astype(str).to_numpy(object)
        splits = leave_one_group_out(donors)
        yield name, cells, donors, [(split, 0) for split in splits]
    if data is not None:
        cells = frequent_types(read_cells(data / "cells" / "zheng_facs10.h5ad"))
        splits = stratified(cells.obs["cell_type"].astype(str), 0.2, range(seeds))
        yield "zheng_facs10", cells, None, [(split, split.seed or 0) for split in splits]


def frequent_types(cells: CellData) -> CellData:
    """Return the cells of the types with at least ten."""
    labels = cells.obs["cell_type"].astype(str)
    return cells[(labels.map(labels.value_counts()) >= RAREST).to_numpy()]


def main() -> None:
    given = parser(__doc__, quick="one split of the packaged pancreas, the refinement alone")
    given.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--steps", type=int, default=FineTuneConfig().steps)
    given.add_argument("--splits", type=int, help="first splits of each set only")
    given.add_argument("--sets", nargs="+", default=[""], help="sets whose name contains one of these")
    given.add_argument("--cost", action="store_true", help="time single steps only")
    options = given.parse_args()
    data = None if options.data is None else data_folder(options.data, ["cells/zheng_facs10.h5ad"])
    parts = ["refinement"] if options.quick else options.parts
    model, found = CellLM.from_pretrained("small"), dict[str, dict[str, list[float]]]()
    if options.cost:
        print(json.dumps({part: cost(model, part) for part in options.parts}))
        return
    for name, cells, donors, splits in sets(data, 1 if options.quick else options.seeds):
        if not any(part in name for part in options.sets):
            continue
        for split, seed in splits[: 1 if options.quick else options.splits]:
            for part, values in judge(model, cells, donors, split, parts, options.steps, seed).items():
                row = found.setdefault(f"{name}.{part}", {})
                for key, value in values.items():
                    row.setdefault(key, []).append(value)
        for key in [key for key in found if key.startswith(f"{name}.")]:
            print(f"{key:45s} {shown(found[key])}", flush=True)
        if options.quick:
            break
    print(json.dumps({key: {k: [round(v, 4) for v in vs] for k, vs in row.items()} for key, row in found.items()}))


def cost(model: CellLM, part: str) -> dict[str, float]:
    """Return seconds of CPU of a step and of a look at the left-out cells, 64 cells each."""
    cells = next(iter(sets(None, 1)))[1][np.arange(400)]
    labels, rows = cells.obs["cell_type"].astype(str).to_numpy(object), np.arange(400)
    head = fit_head(embed_cells(model, cells), labels, grid=[0.1])
    codes, config = np.searchsorted(head.classes, labels.astype(str)), FineTuneConfig(part=part)
    labelled = LabelledCells(CellView.of(cells), codes, rows[:-64], rows[-64:])
    step = FineTuneStep(prepared(model, config), head, labelled, config)
    optimiser, seconds = step.optimiser(), list[float]()
    for number in range(4):
        began = time.process_time()
        step.gradient(number)
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.process_time() - began)
    began = time.process_time()
    step.validate()
    look = time.process_time() - began
    print(f"{part}: {np.mean(seconds[1:]):.3f} s a step, {look:.3f} s a look", flush=True)
    return {"step": round(float(np.mean(seconds[1:])), 4), "look": round(look, 4)}


def judge(
    model: CellLM, cells: CellData, donors: NDArray[np.object_] | None, split: Split, parts: list[str], steps: int,
    seed: int,
) -> dict[str, dict[str, float]]:  # fmt: skip
    labels = cells.obs["cell_type"].astype(str).to_numpy(object)
    train, test = CellView.of(cells)[split.train], cells[split.test]
    groups = None if donors is None else donors[split.train]
    began = time.process_time()
    head = fit_head(embed_cells(model, train, cache=None), labels[split.train], groups=groups, seed=seed)
    seconds = time.process_time() - began
    proba = head.probabilities(embed_cells(model, test))
    result = {"frozen": scores(labels[split.test], proba, head.classes) | {"seconds": seconds}}
    for part in parts:
        config = FineTuneConfig(part=part, seed=seed, steps=steps)
        began = time.process_time()
        tuned = fine_tune(model, train, labels[split.train], groups, config, cache=None)
        seconds = time.process_time() - began
        proba = tuned.head.probabilities(embed_cells(tuned.model, test))
        result[part] = scores(labels[split.test], proba, tuned.head.classes) | {
            "seconds": seconds,
            "best_step": float(tuned.best_step),
        }
        print(
            f"  {split.name}, {part}: {tuned}; {result[part]['f1']:.3f}, frozen {result['frozen']['f1']:.3f}",
            flush=True,
        )
    return result


def scores(truth: NDArray[np.object_], proba: NDArray[np.float64], classes: tuple[str, ...]) -> dict[str, float]:
    predicted = np.asarray(classes, object)[proba.argmax(axis=1)]
    return {"f1": macro_f1(truth, predicted), "ece": calibration_error(truth, proba, classes)}


def shown(row: dict[str, list[float]]) -> str:
    f1 = np.asarray(row["f1"])
    half = t.ppf(0.975, len(f1) - 1) * f1.std(ddof=1) / len(f1) ** 0.5 if len(f1) > 1 else np.nan
    kept = f", kept in {sum(step > 0 for step in row['best_step'])} of {len(f1)}" if "best_step" in row else ""
    return (
        f"macro-F1 {f1.mean():.3f} ± {half:.3f}, ECE {np.mean(row['ece']):.3f}, {np.mean(row['seconds']):.0f} s{kept}"
    )


if __name__ == "__main__":
    run(main)
