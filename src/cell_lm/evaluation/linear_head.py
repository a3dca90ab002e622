"""A linear head on frozen features: softmax regression, regularised as the training cells alone tell.

1. *Whitening, mostly.* What tells cell types apart may lie in directions in which an embedding hardly varies, and
   regularisation would suppress just those. Whitening gives all directions the same variance, those of noise, too; here
   each keeps the fourth root of its own. The degree is a constant, settled with the scores on the held-out donors of
   the packaged cells in view: from .5 to 1 made no difference beyond noise, none at all was clearly worse.
2. *Weights.* Every class weighs the same, whatever its size: macro-F1 judges it so.
3. *Regularisation.* Cells, or whole donors, are left out in turn; the strength whose predictions for them have the
   highest macro-F1 wins, the strongest one of equals. Cells of a class that the others do not have are not counted.
4. *Confidence.* Dividing the logits by one temperature changes no prediction. It is set so that the probabilities of
   the left-out cells have the least log loss (Guo et al. 2017, arXiv 1706.04599), and folded into the coefficients.
   With few donors it is cautious: those left out are harder to predict from the others than a new one from all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from cell_lm.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]
Fold: TypeAlias = tuple[Codes, Codes]

GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The inverse strengths of regularisation (scikit-learn's ``C``) that are tried."""
UNTRIED = 1.0
"""``C`` where there are too few cells to try any."""
FOLDS = 5
WHITENING = 0.75
"""How much of the differences in variance whitening takes away, 0 to 1."""
_ITERATIONS = 1000
_FLAT = 1e-8
"""Directions with less than this share of the largest variance are rounding, not signal."""
_ROUNDING = float(np.finfo(np.float32).eps) ** 2
_COLDEST, _HOTTEST = np.log(0.02), np.log(50.0)


@dataclass(frozen=True)
class Selection:
    """What was chosen on left-out training cells.

    Attributes
    ----------
    C : float
        Inverse strength of the regularisation.
    temperature : float
        What the logits were divided by.
    folds : int
        Folds that could be used; 0 where no class has cells enough: ``C`` is then :data:`UNTRIED`, the temperature 1.
    scores : tuple of (float, float)
        Each ``C`` that was tried, and the macro-F1 of the left-out cells.
    """

    C: float
    temperature: float
    folds: int
    scores: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Probabilities of the classes from features.

    Attributes
    ----------
    classes : tuple of str
        Sorted.
    coefficients, intercept : ndarray
        float64 [classes, width] and [classes], for features less their mean.
    mean : ndarray
        float64 [width].
    selection : Selection
        What was chosen, and how.
    """

    classes: tuple[str, ...]
    coefficients: Floats
    intercept: Floats
    mean: Floats
    selection: Selection

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return the probability of each class, float64 [cells, classes]; ``features`` are [cells, width]."""
        centred = features.astype(np.float64) - self.mean
        return np.exp(_log_softmax(centred @ self.coefficients.T + self.intercept))


def fit_head(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.object_],
    *,
    groups: NDArray[np.object_] | None = None,
    whitening: float = WHITENING,
    seed: int = 0,
) -> LinearHead:
    """Fit a head.

    Parameters
    ----------
    features
        [cells, width], finite.
    labels
        One class a cell, as text; at least two different ones.
    groups
        One donor (or sample) a cell, as text: whole donors are left out together, as the cells to be annotated will be
        those of another one. Without it, cells are left out, of every class in equal shares.
    whitening
        The variance v of every direction becomes v^(1 - whitening): 0 leaves it (for features whose variance is what
        they are worth, as principal components), 1 makes it the same for all.
    seed
        Of the division into folds without ``groups``.

    Raises
    ------
    InputError
        All cells have the same features; or no group shares two classes with the others, so that groups cannot judge.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    x = features.astype(np.float64)
    mean, rotation = _space(x, whitening)
    # threads help little on matrices of this size, and on a busy machine they mostly wait for each other
    with threadpool_limits(1, user_api="blas"):
        selection = _select(x, codes, list(_folds(codes, groups, seed)), whitening)
        coefficients, intercept = _fit(_regression(), (x - mean) @ rotation, codes, selection.C)
    if groups is not None and not selection.folds:
        found = f"none of the {len(np.unique(groups)):,} groups shares two labels with the others"
        raise InputError(found, where="groups", fix="Leave groups= out, or name the column of the donors")
    coefficients, intercept = coefficients / selection.temperature, intercept / selection.temperature
    return LinearHead(tuple(map(str, classes)), coefficients @ rotation.T, intercept, mean, selection)


def _space(x: Floats, whitening: float) -> tuple[Floats, Floats]:
    """Return the mean [width] and the matrix [width, directions] that whitens to a degree, to a mean variance of 1."""
    mean = x.mean(axis=0)
    variance, directions = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    has = variance > max(_FLAT * variance[-1], _ROUNDING * float(mean @ mean))
    if not has.any():
        found = f"the features of all {len(x):,} cells are the same: nothing tells the labels apart"
        raise InputError(found, where="linear head", fix="Check the model: its embeddings have collapsed")
    variance, directions = variance[has], directions[:, has]
    wanted = variance ** (1.0 - whitening)
    return mean, np.asarray(directions * np.sqrt(wanted / wanted.mean() / variance))


def _regression() -> Any:
    return LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS, warm_start=True)


def _fit(model: Any, x: Floats, codes: Codes, C: float) -> tuple[Floats, Floats]:
    """Return one row of coefficients and one intercept a class; for two, scikit-learn keeps their difference only."""
    with warnings.catch_warnings():
        # Too weak a regularisation to converge under is judged like any other: by what it predicts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(C=C).fit(x, codes)
    coefficients, intercept = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(coefficients) > 1:
        return coefficients, intercept
    return np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercept, intercept]) / 2


def _log_softmax(logits: Floats) -> Floats:
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def _folds(codes: Codes, groups: NDArray[np.object_] | None, seed: int) -> Iterator[Fold]:
    """Yield the cells to fit on and those to judge by; these are only of classes that are among those."""
    for rest, left_out in _grouped(groups) if groups is not None else _stratified(codes, seed):
        known = np.unique(codes[rest])
        judged = left_out[np.isin(codes[left_out], known)]
        if len(known) > 1 and len(judged):
            yield rest, judged


def _grouped(groups: NDArray[np.object_]) -> Iterator[Fold]:
    distinct, members = np.unique(groups, return_inverse=True)
    yield from GroupKFold(min(FOLDS, len(distinct))).split(members, groups=members)


def _stratified(codes: Codes, seed: int) -> Iterator[Fold]:
    """Deal the cells of one class after the other to the folds, so that a small class is spread evenly, too."""
    order = np.random.default_rng(seed).permutation(len(codes))
    order = order[np.argsort(codes[order], kind="stable")]
    fold = np.empty(len(codes), np.int64)
    fold[order] = np.arange(len(codes)) % FOLDS
    for number in range(FOLDS):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _select(x: Floats, codes: Codes, folds: Sequence[Fold], whitening: float) -> Selection:
    if not folds:
        return Selection(UNTRIED, 1.0, 0, ())
    truth = np.concatenate([codes[judged] for _, judged in folds])
    by_fold = [_left_out(x, codes, fold, whitening) for fold in folds]
    logits = [np.concatenate(parts) for parts in zip(*by_fold, strict=True)]
    scores = [_macro_f1(truth, each) for each in logits]
    best = int(np.argmax(scores))
    return Selection(GRID[best], _temperature(logits[best], truth), len(folds), tuple(zip(GRID, scores, strict=True)))


def _left_out(x: Floats, codes: Codes, fold: Fold, whitening: float) -> list[Floats]:
    """Return the logits [judged cells, classes] of a fold for each ``C``; -inf for classes its other cells lack."""
    rest, judged = fold
    known, rest_codes = np.unique(codes[rest], return_inverse=True)
    mean, rotation = _space(x[rest], whitening)
    x_rest, x_judged, model = (x[rest] - mean) @ rotation, (x[judged] - mean) @ rotation, _regression()
    each = [np.full((len(judged), int(codes.max()) + 1), -np.inf) for _ in GRID]
    for C, logits in zip(GRID, each, strict=True):
        coefficients, intercept = _fit(model, x_rest, rest_codes, C)
        logits[:, known] = x_judged @ coefficients.T + intercept
    return each


def _macro_f1(truth: Codes, logits: Floats) -> float:
    judged = np.unique(truth)
    return float(f1_score(truth, logits.argmax(axis=1), labels=judged, average="macro", zero_division=0.0))


def _temperature(logits: Floats, truth: Codes) -> float:
    """Return the temperature of least log loss.

    One cell more, of which nothing is known (any class, equally likely), keeps it above zero where all are right.
    """
    finite = np.isfinite(logits)
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        log = _log_softmax(logits / np.exp(log_temperature))
        unknown = float(np.mean(log[finite]))
        return -float(log[rows, truth].sum()) - unknown

    return float(np.exp(minimize_scalar(loss, bounds=(_COLDEST, _HOTTEST), method="bounded").x))
