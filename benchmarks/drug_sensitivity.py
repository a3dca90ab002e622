"""Sensitive or resistant, cell by cell: few labels, many labels, and real counts with a rare sensitive subset.

    python -m benchmarks.drug_sensitivity --data DIR [--seeds 20] [--parts ...] [--quick]
    python -m benchmarks.drug_sensitivity --data DIR --parts encoder [--encoder-sets planted10] [--scbert FOLDER]
    python -m benchmarks.drug_sensitivity --quick

``DIR/drug`` holds the sets of ``SCALED`` and ``LINES``, ``DIR/cells`` the cells to pretrain on and to plant in;
``--quick`` alone makes cells.

*Few and many labels.* 5 or 80 % of the cells of A375 (PLX-4720) and of HNSC120 are labelled, drawn with equal shares of
either kind or plainly; all others are predicted, and scored once. Unlabelled cells are known to the methods that learn
from them, which includes the cells that are scored: that is the task (label some cells, call the rest). HNSC120 lists
four drugs that are one labelling and its negation, so it counts once.
*Encoder.* ``--encoder-sets`` with the packaged model ``small``: frozen (beside the genes and alone), adapted to all
cells of the set without their labels, and fine-tuned (``refinement``, kept where left-out cells say so: with 5 % of the
labels of the default sets no cell of each kind can be left out, so it stays frozen); and scBERT's recipe at a small
size (:mod:`benchmarks.parts.annotation_scbert`, pretrained once in ``--scbert``). z-scores reach both through the
stand-in of :mod:`cell_lm.tasks.sensitivity.values`. Adaptation takes 200 cells, and A375 and HNSC120 have 108 and 120,
so it runs on planted sets alone: real counts, for which the encoders were made. Both encoders were pretrained on PC9
cells, unplanted and without labels, among others. Fewer draws; planted sets at 5 % only.
*Planted.* Counts of PC9 cells with a programme planted in 5, 10, 50 or 90 % of them
(:func:`benchmarks.parts.sensitivity_sets.planted_set`); another plant for every seed.
*Lines.* The labels of the five lines of GSE118767 are constant within a line, so a whole line is left out in turn: its
cells are unlabelled, and the fraction that is called as its line responds is printed.
*Transfer.* No label but the response of bulk lines: :mod:`benchmarks.parts.sensitivity_transfer`.

The schedule of self-training was chosen on draws 0 to 19 of the first two sets and on one planted set; draws here begin
at 1,000, but the cells are the same: these figures flatter every variant of self-training, including the rival.

F1 (of sensitive cells), AUROC, AUPRC, MCC and ECE, means over seeds with 95 % intervals (Student's t). The last line is
JSON: ``<set>.<share>.<method>`` (``<set>.<share>.plain.<method>`` for plain draws), ``margin_*_5pct`` (points of F1
over a rival, the worse of A375 and HNSC120), ``margin_selftrain_10pct_prevalence``, ``lines``, ``transfer.<drug>`` and
``trust``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.options import data_folder, parser, run
from benchmarks.parts.annotation_scbert import CORPUS, pretrained
from benchmarks.parts.sensitivity_lines import leave_lines_out
from benchmarks.parts.sensitivity_made import made_set
from benchmarks.parts.sensitivity_rivals import METHODS, Method, with_encoder
from benchmarks.parts.sensitivity_sets import (
    LINES,
    PLANTED_IN,
    SCALED,
    SensitivitySet,
    draw,
    planted_set,
    scaled_set,
)
from benchmarks.parts.sensitivity_transfer import needs as needs_of_transfer
from benchmarks.parts.sensitivity_transfer import transfer
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.evaluation.sensitivity_metrics import sensitivity_scores
from cell_lm.files import JSON
from cell_lm.model import CellLM

PERCENT = (5, 10, 50, 90)
SHARES = {"5pct": 0.05, "80pct": 0.8}
ENCODER_SETS = (*SCALED, *(f"planted{percent:02d}" for percent in PERCENT))
PARTS = ("labels", "encoder", "planted", "lines", "transfer")
FIRST_SEED = 1000
METRICS = ("f1", "auroc", "auprc", "mcc", "ece")
PLANTED = {name: method for name, method in METHODS.items() if name != "forest"}
Scores = dict[str, dict[str, list[float]]]
Make = Callable[[int], SensitivitySet]


def judge(name: str, make: Make, methods: Mapping[str, Method], share: str, seeds: int, *, stratified: bool) -> Scores:
    """Score the methods on the unlabelled cells, over draws of the labelled ones."""
    found: Scores = {}
    seconds = dict.fromkeys(methods, 0.0)
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        each = make(seed)
        rows = draw(each.sensitive, SHARES[share], seed, stratified=stratified)
        rest = np.setdiff1d(np.arange(len(each.sensitive)), rows)
        for method, predict in methods.items():
            start = time.process_time()
            chances = predict(each, rows, seed)[rest]
            seconds[method] += time.process_time() - start
            scores = sensitivity_scores(each.sensitive[rest], np.clip(chances, 0.0, 1.0)).to_json()
            for metric, value in scores.items():
                found.setdefault(method, {}).setdefault(metric, []).append(value)
    kind = "" if stratified else " plain"
    print(f"\n{name}, {share}{kind}: {seeds} draws, {sum(seconds.values()):.0f} CPU seconds", flush=True)
    for method, scores in found.items():
        told = "  ".join(f"{metric} {mean_interval(np.array(scores[metric]))}" for metric in METRICS)
        print(f"  {method:26s} {told}  {seconds[method] / seeds:.1f} s a draw", flush=True)
    return found


def summary(results: Mapping[str, Scores]) -> dict[str, JSON]:
    """Return the means by set, share and method, and the margins."""
    table: dict[str, JSON] = {
        f"{key}.{method}": {metric: round(float(np.mean(values)), 4) for metric, values in scores.items()}
        for key, methods in results.items()
        for method, scores in methods.items()
    }

    def margin(rival: str, keys: list[str]) -> float | None:
        # paired: where the rival ran on fewer draws, on those
        points = list[float]()
        for key in keys:
            if key not in results or rival not in results[key]:
                return None
            other = results[key][rival]["f1"]
            points.append(100 * float(np.mean(np.array(results[key]["ours"]["f1"][: len(other)]) - other)))
        return round(min(points), 2)

    few = [f"{name}.5pct" for name in SCALED]
    for name, rival in (("lr", "genes_lr"), ("scbert", "scbert"), ("selftrain", "selftrain")):
        table[f"margin_{name}_5pct"] = margin(rival, few)
    table["margin_selftrain_10pct_prevalence"] = margin("selftrain", ["planted10.5pct"])
    return table


def made(data: Path, name: str) -> Make:
    """Return a function of the seed that gives the cells of a set: the same for all, or another plant for each."""
    if name not in SCALED:
        return partial(planted_set, data, int(name.removeprefix("planted")))
    each = scaled_set(data, name)
    return lambda seed: each  # noqa: ARG005


def main() -> None:
    options = parser(__doc__, quick="made cells, 2 draws, no encoder")
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--planted-seeds", type=int, default=10)
    options.add_argument("--shares", nargs="+", choices=list(SHARES), default=list(SHARES), help="not of labels")
    options.add_argument("--percent", type=int, nargs="+", default=list(PERCENT), help="prevalences to plant")
    options.add_argument("--encoder-seeds", type=int, default=5)
    options.add_argument("--encoder-sets", nargs="+", choices=ENCODER_SETS, default=[*SCALED, "planted10"])
    options.add_argument(
        "--scbert", type=Path, default=Path("runs/annotation-scbert"), help="folder of its pretraining"
    )
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to run")
    given = options.parse_args()
    keep_large_blocks()
    results: dict[str, Scores] = {}
    if given.quick and given.data is None:
        results["made.5pct"] = judge("made", made_set, METHODS, "5pct", 2, stratified=True)
        print(json.dumps(summary(results)))
        return
    needs = [f"drug/{name}.h5ad" for name in (*SCALED.values(), LINES)]
    needs += needs_of_transfer()
    needs += [f"cells/{name}.h5ad" for name in (*CORPUS, PLANTED_IN)]
    data = data_folder(given.data, needs)
    seeds, planted = (2, 1) if given.quick else (given.seeds, given.planted_seeds)
    for name in SCALED if "labels" in given.parts else ():
        make = made(data, name)
        for share, plain in (("5pct", False), ("5pct", True), ("80pct", False)):
            key = f"{name}.{share}{'.plain' if plain else ''}"
            results[key] = judge(name, make, METHODS, share, seeds, stratified=not plain)
    if "encoder" in given.parts and not given.quick:
        model, of_scbert = CellLM.from_pretrained("small"), pretrained(data, given.scbert)
        for name in given.encoder_sets:
            make = made(data, name)
            methods = {"ours": METHODS["ours"]} | with_encoder(model, of_scbert, len(make(FIRST_SEED).cells))
            for share in given.shares if name in SCALED else ["5pct"]:
                scores = judge(name, make, methods, share, given.encoder_seeds, stratified=True)
                results[f"{name}.{share}"] = scores | results.get(f"{name}.{share}", {})
    for percent in given.percent if "planted" in given.parts else ():
        name = f"planted{percent:02d}"
        for share in given.shares:
            scores = judge(name, made(data, name), PLANTED, share, planted, stratified=True)
            results[f"{name}.{share}"] = results.get(f"{name}.{share}", {}) | scores
    more: dict[str, JSON] = {}
    if "lines" in given.parts:
        more["lines"] = leave_lines_out(data / "drug" / f"{LINES}.h5ad")
    if "transfer" in given.parts:
        more |= transfer(data)
    print(json.dumps(summary(results) | more))


if __name__ == "__main__":
    run(main)
