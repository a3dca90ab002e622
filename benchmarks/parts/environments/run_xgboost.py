"""XGBoost on the 2,000 genes that vary most in the labelled cells; the number of trees by early stopping.

Depth and number of trees are chosen on left-out cells, then it is fitted on all labelled ones. Types weigh the same.
With a cell or two a type nothing can be left out: 50 rounds. XGBoost's default of a least hessian of 1 in a leaf
forbids every split there, so it is lowered where there are few cells.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import xgboost  # type: ignore[import-not-found,unused-ignore]
from case_files import Case  # type: ignore[import-not-found,unused-ignore]
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_sample_weight

GENES, DEPTHS, MOST_ROUNDS, PATIENCE, UNTRIED_ROUNDS = 2000, (3, 6), 200, 10, 50
FEW_A_TYPE = 50
FOLDS = 2


def main(folder: str) -> None:
    case = Case(folder)
    start = time.process_time()
    x, (classes, codes) = case.log(), np.unique(case.labels.astype(str), return_inverse=True)
    known = x[: case.known]
    mean = np.asarray(known.mean(axis=0)).ravel()
    variance = np.asarray(known.multiply(known).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:GENES])
    dense = x[:, genes].toarray()
    labelled, query = dense[: case.known], dense[case.known :]
    least = 1.0 if len(codes) >= FEW_A_TYPE * len(classes) else 0.01
    depth, rounds, score = choose(labelled, codes, case, least)
    model = fit(labelled, codes, depth, rounds, least, case.seed, len(classes))
    fitted = time.process_time()
    chances = model.predict(xgboost.DMatrix(query))
    case.write("xgboost", classes[chances.argmax(axis=1)], chances, classes)
    case.note(
        fit_s=fitted - start,
        predict_s={"xgboost": time.process_time() - fitted},
        depth=depth,
        rounds=rounds,
        left_out=score,
        version=xgboost.__version__,
    )


def choose(x: Any, codes: Any, case: Case, least: float) -> tuple[int, int, float | None]:
    folds = case.folds[:FOLDS]
    if not folds:
        return DEPTHS[0], UNTRIED_ROUNDS, None
    found = []
    for depth in DEPTHS:
        rounds, scores = [], []
        for rest, out in folds:
            names, inside = np.unique(codes[rest], return_inverse=True)
            place = np.searchsorted(names, codes[out])
            held = xgboost.DMatrix(x[out], label=place, weight=compute_sample_weight("balanced", place))
            model = fit(x[rest], inside, depth, MOST_ROUNDS, least, case.seed, len(names), held)
            rounds.append(model.best_iteration + 1)
            guess = model.predict(held, iteration_range=(0, model.best_iteration + 1)).argmax(axis=1)
            scores.append(f1_score(place, guess, labels=np.unique(place), average="macro", zero_division=0.0))
        found.append((float(np.mean(scores)), depth, int(np.mean(rounds))))
    score, depth, rounds = max(found)
    return depth, rounds, round(score, 4)


def fit(x: Any, codes: Any, depth: int, rounds: int, least: float, seed: int, classes: int, held: Any = None) -> Any:
    parameters = {
        "objective": "multi:softprob", "num_class": classes, "tree_method": "hist", "max_bin": 64, "eta": 0.2,
        "max_depth": depth, "min_child_weight": least, "subsample": 0.8, "colsample_bytree": 0.2, "nthread": 1,
        "seed": seed,
    }  # fmt: skip
    train = xgboost.DMatrix(x, label=codes, weight=compute_sample_weight("balanced", codes))
    stopping = {} if held is None else {"evals": [(held, "left_out")], "early_stopping_rounds": PATIENCE}
    return xgboost.train(parameters, train, rounds, verbose_eval=False, **stopping)
