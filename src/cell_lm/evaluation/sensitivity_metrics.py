"""Scores of a two-class prediction with probabilities: sensitive against resistant cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef, roc_auc_score

from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import BINS, calibration_error


@dataclass(frozen=True)
class SensitivityScores:
    """Scores of cells whose response is known.

    Attributes
    ----------
    f1 : float
        F1 of the sensitive cells, called where the probability is at least .5; 0 where none is called.
    auroc, auprc : float
        Areas under the ROC and the precision-recall curve of the probability (auprc: average precision).
    mcc : float
        Matthews correlation of call and truth.
    ece : float
        Expected calibration error (:func:`~cell_lm.evaluation.calibration.calibration_error`).
    cells, sensitive : int
        Number of cells, and of sensitive ones.
    """

    f1: float
    auroc: float
    auprc: float
    mcc: float
    ece: float
    cells: int
    sensitive: int

    def to_json(self) -> dict[str, float]:
        """Return the scores by name."""
        return {"f1": self.f1, "auroc": self.auroc, "auprc": self.auprc, "mcc": self.mcc, "ece": self.ece}


def sensitivity_scores(
    sensitive: ArrayLike, probability: ArrayLike, *, score: ArrayLike | None = None
) -> SensitivityScores:
    """Compare probabilities of being sensitive with the truth.

    Parameters
    ----------
    sensitive
        Whether each cell is sensitive, bool [cells].
    probability
        Probability of being sensitive [cells], 0 to 1.
    score
        Ranks the cells for the two areas; the probability by default. A logit keeps apart what rounds to 1.

    Raises
    ------
    InputError
        Lengths differ, a value is not a probability, or all cells are of one kind.
    """
    truth, p = np.asarray(sensitive, bool), np.asarray(probability, np.float64)
    ranked = p if score is None else np.asarray(score, np.float64)
    if truth.shape != p.shape or truth.ndim != 1 or ranked.shape != p.shape:
        found = f"{truth.shape} truths, but {p.shape} probabilities"
        raise InputError(found, where="sensitivity scores", fix="Pass one of each per cell")
    if not ((p >= 0) & (p <= 1)).all():
        raise InputError("values that are no probabilities", where="sensitivity scores", fix="Pass numbers from 0 to 1")
    if truth.all() or not truth.any():
        kind = "sensitive" if truth.all() else "resistant"
        found = f"all {len(truth):,} cells are {kind}"
        raise InputError(found, where="sensitivity scores", fix="Score cells of both kinds")
    call = p >= 0.5
    return SensitivityScores(
        f1=float(f1_score(truth, call, zero_division=0.0)),
        auroc=float(roc_auc_score(truth, ranked)),
        auprc=float(average_precision_score(truth, ranked)),
        mcc=float(matthews_corrcoef(truth, call)),
        ece=calibration_error(truth.astype(str), np.stack([1 - p, p], axis=1), ["False", "True"]),
        cells=len(truth),
        sensitive=int(truth.sum()),
    )


def reliability(
    sensitive: ArrayLike, probability: ArrayLike, bins: int = BINS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return, for each bin of the probability that holds cells, its mean, the fraction sensitive, and the cells."""
    truth, p = np.asarray(sensitive, np.float64), np.asarray(probability, np.float64)
    number = np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)
    sizes = np.bincount(number, minlength=bins)
    has = sizes > 0
    mean = np.bincount(number, p, minlength=bins)[has] / sizes[has]
    share = np.bincount(number, truth, minlength=bins)[has] / sizes[has]
    return mean, share, sizes[has].astype(np.int64)
