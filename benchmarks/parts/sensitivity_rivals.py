"""Peers of the sensitivity classifier. Each returns the probability of being sensitive for all cells of a set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.parts.annotation_scbert import trained
from benchmarks.parts.sensitivity_sets import LABEL, SensitivitySet
from cell_lm.data.view import CellView
from cell_lm.evaluation import BASELINES
from cell_lm.evaluation.calibration import log_softmax
from cell_lm.evaluation.folds import training_folds
from cell_lm.model import CellLM
from cell_lm.pretraining.adapt import LEAST_CELLS, adapt
from cell_lm.tasks import DrugSensitivityClassifier
from cell_lm.tasks.sensitivity.components import Components
from cell_lm.tasks.sensitivity.fitting import ENOUGH
from cell_lm.tasks.sensitivity.values import for_encoder

Rows = NDArray[np.int64]
Chances = NDArray[np.float64]
Method = Callable[[SensitivitySet, Rows, int], Chances]

COMPONENTS, SHARES = 10, np.linspace(0.10, 0.40, 8)


def rival(name: str) -> Method:
    """Return one of the baselines of :mod:`cell_lm.evaluation.baselines`, tuned on the labelled cells."""

    def run(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
        model = BASELINES[name](seed).fit(each.features[rows], each.sensitive[rows].astype(str))
        return np.asarray(model.predict_proba(each.features)[:, list(model.classes_).index("True")])

    return run


def forest(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
    """Random forest of 300 trees on the genes, classes balanced."""
    model = RandomForestClassifier(300, class_weight="balanced", random_state=seed)
    model.fit(each.features[rows], each.sensitive[rows])
    return np.asarray(model.predict_proba(each.features)[:, 1])


def self_training(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
    """Self-training without an encoder, as published notebooks do it: equal fractions of both kinds.

    Ten components of all cells of length 1; logistic regression; eight rounds in which the top and the bottom .10 to
    .40 of the unlabelled cells get labels (weight .5, labelled cells 2).
    """
    genes = np.arange(each.features.shape[1])
    points = Components.of(each.features, genes, COMPONENTS, seed)(each.features, genes)
    rest = np.setdiff1d(np.arange(len(points)), rows)
    model = LogisticRegression(max_iter=2000).fit(points[rows], each.sensitive[rows])
    for share in SHARES:
        order = rest[np.argsort(-model.decision_function(points[rest]))]
        number = max(1, round(share * len(rest)))
        learned = np.concatenate([rows, order[:number], order[::-1][:number]])
        called = np.concatenate([each.sensitive[rows], np.ones(number, bool), np.zeros(number, bool)])
        weights = np.where(np.arange(len(learned)) < len(rows), 2.0, 0.5)
        model = LogisticRegression(max_iter=2000).fit(points[learned], called, sample_weight=weights)
    return np.asarray(model.predict_proba(points)[:, 1])


def ours(model: CellLM | None = None, **params: object) -> Method:
    """Return the classifier with these parameters."""

    def run(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
        classifier = DrugSensitivityClassifier(model, seed=seed, **params)  # type: ignore[arg-type]
        cells = each.labelled(rows)
        return classifier.fit(cells, LABEL).table(cells)["probability"].to_numpy()

    return run


def adapted(model: CellLM) -> Method:
    """Return the classifier with an encoder that was adapted to all cells of the set, without their labels."""

    def run(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
        cells = for_encoder(CellView.of(each.cells)).read(slice(None))
        return ours(adapt(model, [cells], device="cpu"))(each, rows, seed)

    return run


def scbert(encoder: CellLM) -> Method:
    """Return scBERT's recipe, fine-tuned on the labelled cells alone (:mod:`benchmarks.parts.annotation_scbert`).

    Epochs are chosen on a fifth of the labelled cells where at least 25 of each kind have a label; with fewer there is
    nothing to choose on, and their number is fixed: 192 steps for five cells.
    """

    def run(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
        cells, codes = for_encoder(CellView.of(each.cells)).read(slice(None)), each.sensitive.astype(np.int64)
        fold = None
        if np.bincount(codes[rows], minlength=2).min() >= ENOUGH:
            rest, out = next(training_folds(codes[rows], None, seed))
            fold = rows[rest], rows[out]
        tuned, _, temperature = trained(encoder, cells, codes, rows, fold, seed)
        logits = tuned.logits(cells, np.arange(len(codes))) / temperature
        return np.exp(log_softmax(logits))[:, 1]

    return run


METHODS: dict[str, Method] = {
    "genes_lr": rival("genes_lr"),
    "pca_lr": rival("pca_lr"),
    "forest": forest,
    "selftrain": self_training,
    "ours_no_adaptation": ours(self_training=False),
    "ours": ours(),
}
"""Those without an encoder."""


def with_encoder(model: CellLM, of_scbert: CellLM, cells: int) -> dict[str, Method]:
    """Return the methods with an encoder for a set of so many cells; adaptation takes at least 200."""
    methods = {
        "ours_frozen": ours(model),
        "ours_frozen_alone": ours(model, parts="encoder"),
        "ours_frozen_no_adaptation": ours(model, self_training=False),
        "ours_adapted": adapted(model),
        "ours_fine_tuned": ours(model, fine_tune="refinement"),
        "scbert": scbert(of_scbert),
    }
    return methods if cells >= LEAST_CELLS else {name: methods[name] for name in methods if name != "ours_adapted"}
