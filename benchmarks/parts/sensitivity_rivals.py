"""Peers of the sensitivity classifier. Each returns the probability of being sensitive for all cells of a set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from benchmarks.parts.sensitivity_sets import LABEL, SensitivitySet
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.view import CellView
from cell_lm.evaluation import BASELINES
from cell_lm.model import CellLM
from cell_lm.tasks import DrugSensitivityClassifier
from cell_lm.tasks.sensitivity.components import Components
from cell_lm.tasks.sensitivity.values import for_encoder

Rows = NDArray[np.int64]
Chances = NDArray[np.float64]
Method = Callable[[SensitivitySet, Rows, int], Chances]

COMPONENTS, SHARES = 10, np.linspace(0.10, 0.40, 8)
EPOCHS, RATE, BATCH = 40, 1e-3, 16


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


def fine_tuned(model: CellLM) -> Method:
    """Return an encoder that is trained further, with a linear head, on the labelled cells alone (scBERT's recipe).

    Forty epochs of AdamW at 1e-3 in batches of 16, classes balanced, for every encoder alike. With five labels there is
    nothing to choose epochs or rate on, so both are fixed.
    """

    def run(each: SensitivitySet, rows: Rows, seed: int) -> Chances:
        cells = for_encoder(CellView.of(each.cells)).dataset
        tokenise = Tokeniser(model.config.bins, model.config.max_genes)
        copied = CellLM(model.config, model.vocabulary, model.objectives)
        copied.load_state_dict(model.state_dict())
        encoder = copied.eval().encoder
        torch.manual_seed(seed)
        head = torch.nn.Linear(model.config.width, 1)
        truth = torch.from_numpy(each.sensitive[rows].astype(np.float32))
        balance = (len(truth) - truth.sum()) / truth.sum()
        loss = torch.nn.BCEWithLogitsLoss(pos_weight=balance)
        optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=RATE)
        rng = np.random.default_rng(seed)
        for _ in range(EPOCHS):
            order = rng.permutation(len(rows))
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                logits = head(encoder(tokenise(cells, rows[chosen]), hidden=None, counter=None, only_cls=True).cls)
                optimiser.zero_grad()
                loss(logits[:, 0], truth[chosen]).backward()
                optimiser.step()
        chances = []
        with torch.inference_mode():
            for start in range(0, len(cells), BATCH):
                batch = tokenise(cells, np.arange(start, min(start + BATCH, len(cells))))
                logits = head(encoder(batch, hidden=None, counter=None, only_cls=True).cls)[:, 0]
                chances.append(torch.sigmoid(logits).double().numpy())
        return np.concatenate(chances)

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


def with_encoder(model: CellLM, scbert: CellLM) -> dict[str, Method]:
    """Return the methods with an encoder; the fine-tuned ones take long."""
    return {
        "ours_frozen": ours(model),
        "ours_frozen_alone": ours(model, parts="encoder"),
        "ours_frozen_no_adaptation": ours(model, self_training=False),
        "ours_fine_tuned": fine_tuned(model),
        "scbert": fine_tuned(scbert),
    }
