"""Cell type annotation against what people use today: many labels, few labels, new donors, another experiment.

    python -m benchmarks.annotation --data DIR [--sets ...] [--settings all 10% 20 5 1] [--methods ...] [--seeds 5]
    python -m benchmarks.annotation --quick

*Tasks.* ``zheng_facs10``, ``pbmc3k``, ``baron_human``, ``qian2020_ovarian``: cells of the same donors are named
(80/20, stratified); ``baron_human.donor``, ``qian2020_ovarian.donor``: each donor (patient) in turn; ``blood.SET``:
zheng_facs10 has the labels, pbmc3k, pbmc_scminer638 or kang_pbmc is named, by the shared types of
``benchmarks.parts.annotation_tasks.SHARED_TYPES``. Types with fewer than ten cells in a set are left out.
*Settings.* Labels of all cells of the fit, of a tenth, of 20, 5 and 1 cells a type (half of a type that is rarer); all
other cells of the set (with ``.donor`` and ``blood``, those of the other donor or set) are named. The query is without
labels everywhere; methods marked * see its counts in the fit. Nothing is chosen on it: every method that has something
to choose chooses it on the same left-out cells of the fit, whole donors where another donor is named.

    genes_lr        logistic regression on all genes
    pca_lr          on 60 components of the labelled cells
    pca_all_lr *    on 60 components of labelled cells and query
    svm             linear SVM, calibrated by a temperature
    neighbours      15 nearest cells in the components, by cosine
    xgboost         2,000 variable genes, early stopping
    celltypist      CellTypist by its package and recipe; its majority voting is the row celltypist_vote
    scanvi *        scANVI by scvi-tools
    scbert          scBERT's recipe in our code: Performer, masked LM alone, fine-tuned; at a small size
    ours            CellTypeClassifier as it is by default, the packaged model
    ours_frozen     a linear head on CLS of the packaged model
    ours_unlabelled * ours with the query as unlabelled cells
    ours_start      ours before pretraining: the linear path of the packaged model, random weights
    ours_finetuned  ours, its encoder fine-tuned first (`refinement`), where that predicts left-out cells better

xgboost, celltypist and scanvi run as child processes in environments of their own (``--environments``), made at the
first run from pinned lists; where that fails, the last line says so. scbert is pretrained once (``--scbert``), on files
that are not evaluated on. The packaged model never saw the cells of zheng_facs10, pbmc3k, baron_human, qian2020_ovarian
and kang_pbmc; those of pbmc_scminer638 are in its corpus, without labels.

Every result is a line of ``--out`` as soon as it exists; the same command goes on where it stopped. ``--again`` forgets
the results of some methods. Without ``--methods``, the slow ones (scanvi, scbert, ours_finetuned) run only if named.

The last line is JSON: ``TASK.SETTING.METHOD`` with ``macro_f1``, its 95 % ``interval`` over seeds or donors (of the
mean over draws), ``accuracy``, ``ece`` and the median CPU seconds ``fit_s`` and ``predict_s``; ``margin_best_peer``
(ours minus the best peer of each task, all labels, in points, mean over tasks), ``margin_best_peer_fewshot``,
``margin_lr``, ``margin_lr_fewshot``, ``margin_scbert`` (all labels); ``margins`` of the other rows of ours;
``by_setting``, the margins over each peer by number of labels (``best_peer_without_query``: over the best of those
without a *); ``worst``, where a peer is better; ``not_in_margins``, the peers that have not answered all cases of ours;
``failed``. Unknown types (``novel_auroc``) and label sets (``conformal_coverage90``) are measured by
``python -m benchmarks.unknown``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.options import data_folder, data_if_given, parser, run
from benchmarks.parts.annotation_environments import ANSWERS, environments
from benchmarks.parts.annotation_ours import Encoders, ours
from benchmarks.parts.annotation_peers import PEERS, Answer, Method
from benchmarks.parts.annotation_results import Record, Results, scores, summary, table
from benchmarks.parts.annotation_scbert import scbert
from benchmarks.parts.annotation_tasks import QUICK_TASKS, SETTINGS, TASKS, Case, Sets, cases, files
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.errors import CellLMError, ConfigError
from cell_lm.evaluation.annotation_metrics import annotation_scores
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.model import CellLM

NAMES = (
    *PEERS, "xgboost", "celltypist", "scanvi", "scbert",
    "ours", "ours_frozen", "ours_unlabelled", "ours_start", "ours_finetuned",
)  # fmt: skip
SLOW = ("scanvi", "scbert", "ours_finetuned")
DEFAULT = tuple(name for name in NAMES if name not in SLOW)
QUICK = ("genes_lr", "pca_all_lr", "neighbours", "ours", "ours_unlabelled")
QUICK_SETTINGS, QUICK_SEEDS = ("all", "5"), 1


def methods(
    names: Sequence[str], model: str, environment: Path, scbert_folder: Path, data: Path | None
) -> dict[str, Method]:
    """Return the methods by name, in that order; what they need is read when they first run."""
    encoders = cache(lambda: Encoders(CellLM.from_pretrained(model)))
    every: Mapping[str, Method] = {
        **PEERS,
        **environments(environment),
        "scbert": scbert(data, scbert_folder),
        **ours(encoders),
    }
    return {name: every[name] for name in names}


def answers(name: str) -> tuple[str, ...]:
    """Return the rows that a method gives."""
    return ANSWERS.get(name, (name,))


def record(case: Case, method: str, answer: Answer) -> Record:
    """Return the scores of an answer, with what it took."""
    told = annotation_scores(case.truth, answer.predicted)
    chances = answer.probabilities
    error = None if chances is None else calibration_error(case.truth, chances, answer.classes)
    return {
        **named(case, method),
        "macro_f1": round(told.macro_f1, 5),
        "accuracy": round(told.accuracy, 5),
        "ece": None if error is None else round(error, 5),
        "fit_s": round(answer.fit_s, 2),
        "predict_s": round(answer.predict_s, 2),
        "notes": dict(answer.notes),
    }


def named(case: Case, method: str) -> Record:
    return {
        "task": case.task,
        "setting": case.setting,
        "part": case.part,
        "method": method,
        "unit": case.unit,
        "fitted_on": len(case.reference),
        "named": len(case.query),
        "types": len(np.unique(case.labels)),
    }


def answer_case(case: Case, name: str, method: Method) -> Iterator[Record]:
    """Run a method on a case; a method that breaks is told, with its reason, and the others go on."""
    try:
        found = method(case)
        yield from [record(case, row, answer) for row, answer in found.items()]
    except Exception as error:
        reason = str(error) if isinstance(error, CellLMError) else f"{type(error).__name__}: {error}"
        print(f"{'.'.join(case.key)}.{name} FAILED: {reason}", flush=True)
        for row in answers(name):
            yield named(case, row) | {"failed": reason}


def measure(
    results: Results,
    every: Callable[[str, str, int], Iterator[Case]],
    chosen: Mapping[str, Method],
    order: Sequence[tuple[int, str, str]],
) -> None:
    """Answer what has no result yet, and print it; the first seed of all tasks first."""
    for seed, setting, task in order:
        for case in every(task, setting, seed):
            for name, method in chosen.items():
                if all(results.done((*case.key, row)) for row in answers(name)):
                    continue
                for each in answer_case(case, name, method):
                    results.add(each)
                    if "macro_f1" in each:
                        print(line(each), flush=True)


def line(each: Record) -> str:
    place = f"{each['task']}.{each['setting']} {each['part']}"
    error = "     " if each["ece"] is None else f"{each['ece']:.3f}"
    took = f"{each['fit_s']:.1f} + {each['predict_s']:.1f} s"
    return f"{place:55s} {each['method']:16s} F1 {each['macro_f1']:.3f}  ECE {error}  {took}"


def show(records: Sequence[Record]) -> None:
    """Print the means by task, setting and method."""
    for (task, setting), each in table(records).items():
        print(f"\n{task}, {setting}")
        rows = {name: scores(parts) for name, parts in each.items()}
        for name, row in sorted(rows.items(), key=lambda pair: -float(pair[1]["macro_f1"])):
            bounds = "" if row["interval"] is None else "[{:.3f}, {:.3f}]".format(*row["interval"])
            took = f"{row['fit_s']} + {row['predict_s']} s"
            print(f"  {name:16s} {row['macro_f1']:.3f} {bounds:16s} ECE {row['ece']}  {took}")


def options() -> Any:
    given = parser(
        __doc__, quick="the packaged tumours, each patient in turn, all labels and 5 a type, 1 draw, 5 methods"
    )
    given.add_argument("--sets", nargs="+", choices=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}")
    given.add_argument("--settings", nargs="+", choices=SETTINGS, help="how many labels")
    given.add_argument("--methods", nargs="+", choices=NAMES, metavar="METHOD", help=f"of {', '.join(NAMES)}")
    given.add_argument("--seeds", type=int, help="draws of cells; default 5")
    given.add_argument("--again", nargs="+", choices=NAMES, default=[], metavar="METHOD", help="forget their results")
    given.add_argument("--model", default="small", help="model of ours: a name or a folder")
    given.add_argument("--out", type=Path, help="file of results; default runs/annotation.jsonl, none with --quick")
    given.add_argument("--environments", type=Path, default=Path("runs/environments"), help="folder of environments")
    given.add_argument("--scbert", type=Path, default=Path("runs/annotation-scbert"), help="folder of its pretraining")
    return given.parse_args()


def main() -> None:
    given = options()
    tasks = given.sets or TASKS
    packaged = given.quick and given.data is None
    if packaged and given.sets:
        raise ConfigError("--sets names files of --data", where="--quick", fix="Give --data, or leave out --sets")
    folder = data_if_given(given.data, files(tasks)) if given.quick else data_folder(given.data, files(tasks))
    names = given.methods or (QUICK if given.quick else DEFAULT)
    settings = given.settings or (QUICK_SETTINGS if given.quick else SETTINGS)
    seeds = given.seeds or (QUICK_SEEDS if given.quick else 5)
    chosen = methods(names, given.model, given.environments.resolve(), given.scbert, folder)
    keep_large_blocks()
    results = Results(given.out or (None if given.quick else Path("runs/annotation.jsonl")))
    results.forget({row for name in given.again for row in answers(name)})
    sets, asked = Sets(folder), QUICK_TASKS if packaged else tasks
    order = [(seed, setting, task) for seed in range(seeds) for setting in settings for task in asked]
    measure(results, lambda task, setting, seed: cases(sets, task, setting, seed), chosen, order)
    records = list(results.records.values())
    show(records)
    print(json.dumps(summary(records)))


if __name__ == "__main__":
    run(main)
