"""Drug response of cell lines: unseen lines, tissues, drugs and pairs, and lines with a few measured drugs.

    python -m benchmarks.drug_response --data DIR [--keep FOLDER] [--sets gdsc2 ...] [--splits cold_line ...]
                                       [--methods ours ...] [--folds N] [--quick]

Sets: GDSC2 and GDSC1 (replicates averaged before the split), and the pairs of the DeepCDR and TGSA benchmarks, with
RMA expression of the lines. Splits are drawn once by seed: ``cold_line``, ``cold_drug`` and ``cold_both`` in 5 folds
(two names of one molecule in one fold), ``cold_tissue`` (each of at least 10 lines in turn), ``warm`` (unique pairs
80/10/10, one draw per seed). ``measured_K`` is ``cold_line`` with K random drugs of every test line given.

Methods: the mean of the drug, drug + line, drug in the tissue; ridge per drug; random forest on PCs and fingerprints;
``low_rank`` and ``without_network``, parts of ours; DeepCDR's architecture in its expression form and a GIN + MLP like
GraphDRP's and TGSA's, in torch with early stopping on validation lines; ours.

Metrics (:mod:`cell_lm.evaluation.regression`): Pearson over all pairs, mean within drugs, normalised by mean effects,
Spearman, RMSE; 95 % intervals over folds (Student's t). ``coverage90``: share of test pairs inside the 90 % intervals.
With ``--keep`` every fold is saved when it is done, and a further run continues. ``--quick``: one fold of GDSC2, where
``--data`` is given, else of made data; floors, ridge and ours.

``--vectors`` compares vectors of lines (genes, principal components, encoders) under the same low-rank ridge on the
first set, alone and beside the genes (:mod:`benchmarks.parts.response_cells`): unseen lines, few training lines, few
genes measured, unseen tissues.

The last line is JSON: ``<set>.<split>.<method>.{pearson,per_drug,normalised,rmse}`` with ``coverage90`` and ``fit_s``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.options import data_folder, data_if_given, parser, run
from benchmarks.parts.response_cells import ablation
from benchmarks.parts.response_made import made
from benchmarks.parts.response_methods import METHODS, Result, fit_ours, predict_ours
from benchmarks.parts.response_peers import PEERS
from benchmarks.parts.response_sets import FILES, KINDS, SETS, Data, Task, read, splits, task
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.evaluation.regression import predict_mean_effects, response_scores
from cell_lm.files import JSON, write_json
from cell_lm.reading import read_json_object

MEASURED = (1, 5, 10, 20)
DEFAULT = ("drug_mean", "drug_line_mean", "tissue_mean", "ridge", "low_rank", "without_network", "ours")
SHOWN = {"pearson": "pearson", "pearson_per_drug": "per_drug", "normalised_pearson": "normalised", "rmse": "rmse"}
WRITTEN = {
    **SHOWN,
    "spearman": "spearman",
    "pearson_per_line": "per_line",
    "coverage90": "coverage90",
    "fit_s": "fit_s",
}
Scores = dict[str, JSON]


def scores(work: Task, result: Result, where: np.ndarray | None = None) -> Scores:
    rows, columns = np.nonzero(work.test if where is None else where)
    lines, drugs, truth = work.data.lines[rows], work.data.drugs[columns], work.data.Y[rows, columns]
    known = np.nonzero(np.isfinite(work.train))
    naive = predict_mean_effects(
        work.train[known], work.data.lines[known[0]], work.data.drugs[known[1]], of_lines=lines, of_drugs=drugs
    )
    mean = result.mean[rows, columns]
    found: Scores = dict(asdict(response_scores(truth, mean, lines=lines, drugs=drugs, mean_effects=naive)))
    if result.half is not None:
        found["coverage90"] = float((np.abs(truth - mean) <= result.half[rows, columns]).mean())
        found["width90"] = float(2 * result.half[rows, columns].mean())
    return found


def with_measured(work: Task, seed: int) -> Iterator[tuple[str, Scores]]:
    """Yield the scores of ours for new lines, without and with measured drugs."""
    began = time.perf_counter()
    model, rows, columns = fit_ours(work)
    seconds = time.perf_counter() - began
    yield "", {**scores(work, predict_ours(model, work, rows, columns)), "fit_s": seconds}
    rng = np.random.default_rng(seed)
    for number in MEASURED:
        given, hidden = np.full(work.train.shape, np.nan), work.test.copy()
        for row in np.flatnonzero(work.new_lines):
            shown = rng.permutation(np.flatnonzero(work.test[row]))[:number]
            given[row, shown], hidden[row, shown] = work.data.Y[row, shown], False
        yield str(number), scores(work, predict_ours(model, work, rows, columns, given), hidden)


def fold(data: Data, kind: str, method: str, number: int, split) -> dict[str, Scores]:
    """Return the scores of one fold by name of the split."""
    work = task(data, split)
    if method == "ours" and kind == "cold_line":
        return {f"measured_{k}" if k else kind: found for k, found in with_measured(work, number)}
    began = time.perf_counter()
    result = ({**METHODS, **PEERS})[method](work)
    seconds = time.perf_counter() - began
    return {kind: {**scores(work, result), "fit_s": seconds}}


def answers(kind: str, method: str) -> bool:
    """Tell whether a method, or a part of ours, predicts pairs of this kind."""
    if method in ("new_drugs", "new_drugs_graphs"):
        return kind == "cold_drug"
    drugs = kind in ("cold_drug", "cold_both")
    return not (drugs and method in ("ridge", "low_rank", "without_network", "lines_only"))


def kept(path: Path | None, compute) -> dict[str, Scores]:
    if path is not None and path.exists():
        return read_json_object(path)
    found = compute()
    if path is not None:
        write_json(path, {key: _finite(value) for key, value in found.items()})
    return found


def _finite(values: Scores) -> Scores:
    return {key: value for key, value in values.items() if value is not None and np.isfinite(value)}


def evaluate(data: Data, kinds: Sequence[str], methods: Sequence[str], folds: int | None, keep: Path | None):
    """Return the scores of all folds: {split: {method: [scores]}}; a line is printed when a method is done."""
    found: dict[str, dict[str, list[Scores]]] = {}
    for kind in kinds:
        for method in methods:
            if not answers(kind, method):
                continue
            for number, split in enumerate(splits(data, kind, keep)[: folds or (1 if kind == "warm" else None)]):
                path = None if keep is None else keep / f"{data.name}.{kind}.{method}.{number}.json"
                each = kept(path, lambda k=kind, m=method, n=number, s=split: fold(data, k, m, n, s))
                for name, values in each.items():
                    found.setdefault(name, {}).setdefault(method, []).append(values)
            show(data.name, found, kind, method)
    return found


def show(name: str, found, kind: str, method: str) -> None:
    for split, by_method in found.items():
        measured = kind == "cold_line" and split.startswith("measured")
        if method not in by_method or (split != kind and not measured):
            continue
        each = by_method[method]
        parts = [_told(each, key, short) for key, short in SHOWN.items()]
        parts += [
            f"{key} {np.mean([one[key] for one in each]):.3f}" for key in ("coverage90", "fit_s") if key in each[0]
        ]
        print(f"{name:8s} {split:12s} {method:16s} {'  '.join(filter(None, parts))}  ({len(each)} folds)", flush=True)


def _told(each: Sequence[Scores], key: str, short: str) -> str:
    values = [one[key] for one in each if key in one]
    return f"{short} {mean_interval(values)}" if values else ""


def summary(found) -> dict[str, JSON]:
    """Return means and intervals over folds."""
    table: dict[str, JSON] = {}
    for split, by_method in found.items():
        row: dict[str, JSON] = {}
        for method, each in by_method.items():
            means: dict[str, JSON] = {}
            for key, short in WRITTEN.items():
                values = [one[key] for one in each if key in one]
                if values:
                    interval = mean_interval(values)
                    means[short] = round(interval.mean, 4)
                    if len(values) > 1 and key in SHOWN:
                        means[f"{short}_95"] = interval.bounds()
            row[method] = {**means, "folds": len(each)}
        table[split] = row
    return table


def main() -> None:
    options = parser(__doc__, quick="one fold of GDSC2 (made data without --data): floors, ridge, ours")
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--splits", nargs="+", default=list(KINDS), choices=KINDS)
    options.add_argument("--methods", nargs="+", default=list(DEFAULT), choices=[*METHODS, *PEERS])
    options.add_argument("--folds", type=int, help="at most so many folds, or draws of warm [default: all, 1 of warm]")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="save splits and the scores of every fold here")
    options.add_argument("--vectors", action="store_true", help="compare vectors of lines of the first set instead")
    options.add_argument("--encoder", nargs="*", default=[], metavar="NAME=FOLDER", help="further models for --vectors")
    given = options.parse_args()
    folder = data_if_given(given.data, FILES)
    if folder is None and not given.quick:
        data_folder(None)
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    if given.quick:
        data = made() if folder is None else read(folder, "gdsc2")
        methods = ("drug_mean", "drug_line_mean", "tissue_mean", "ridge", "ours")
        print(json.dumps({data.name: summary(evaluate(data, ["cold_line"], methods, 1, given.keep))}))
        return
    if given.vectors:
        encoders = dict(each.split("=", 1) for each in given.encoder)
        data = read(folder, given.sets[0])
        print(json.dumps({data.name: ablation(folder, data, encoders, given.folds, given.keep)}))
        return
    sets: dict[str, JSON] = {}
    for name in given.sets:
        data = read(folder, name)
        print(
            f"{name}: {len(data.lines):,} lines, {len(data.drugs):,} drugs, {int(np.isfinite(data.Y).sum()):,} pairs",
            flush=True,
        )
        sets[name] = summary(evaluate(data, given.splits, given.methods, given.folds, given.keep))
    print(json.dumps(sets))


if __name__ == "__main__":
    run(main)
