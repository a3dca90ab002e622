"""Novelty: whether cells of types absent from the reference score higher than cells of the reference's types."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from cell_lm.errors import InputError


def novelty_auroc(known: ArrayLike, novel: ArrayLike) -> float:
    """Return the area under the ROC curve of a novelty score: how often a novel cell scores above a known one.

    0.5 is chance level; ties count half (scikit-learn's ``roc_auc_score``).

    Parameters
    ----------
    known, novel
        Scores, one per cell, higher for more novel: of cells of types in the reference, and of the others.

    Raises
    ------
    InputError
        One of the groups has no cells, or scores are missing.
    """
    sides = {"known": np.asarray(known, np.float64), "novel": np.asarray(novel, np.float64)}
    for side, scores in sides.items():
        if scores.ndim != 1 or not len(scores):
            found = f"scores of {side} cells have shape {scores.shape}"
            raise InputError(found, where="novelty", fix=f"Pass one score for each of at least one {side} cell")
        bad = int(np.isnan(scores).sum())
        if bad:
            found = f"{bad} of {len(scores)} scores of {side} cells are missing"
            raise InputError(found, where="novelty", fix="Leave these cells out")
    truth = np.repeat([0, 1], [len(sides["known"]), len(sides["novel"])])
    return float(roc_auc_score(truth, np.concatenate([sides["known"], sides["novel"]])))
