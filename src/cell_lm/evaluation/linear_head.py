"""A linear head on frozen features: softmax regression, with regularisation selected on the training cells alone.

1. *Partial whitening.* Cell types may differ in directions in which an embedding hardly varies, and regularisation
   would suppress these. Full whitening gives all directions the same variance, those of noise, too; here each keeps the
   fourth root of its own. The degree is a constant, chosen by the scores on the held-out donors of the packaged cells:
   from .5 to 1 made no difference beyond noise, none at all was clearly worse.
2. *Weights.* Every class has the same weight, whatever its size, as in macro-F1.
3. *Regularisation.* Cells, or whole donors, are left out in turn; the strength whose predictions for them have the
   highest macro-F1 is used; on ties, the strongest. Cells of a class that the others do not have are not counted.
4. *Confidence.* Dividing the logits by one temperature changes no prediction. It is set so that the probabilities of
   the left-out cells have the least log loss (Guo et al. 2017, arXiv 1706.04599), and folded into the coefficients.
   With few donors the confidence tends to be too low: a left-out donor is harder to predict from the others than a new
   one from all.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import best_temperature, log_softmax
from cell_lm.evaluation.folds import Codes, Fold, training_folds
from cell_lm.remedies import option

Floats: TypeAlias = NDArray[np.float64]

GRID = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The inverse strengths of regularisation (scikit-learn's ``C``) that are tried."""
UNTRIED = 1.0
"""``C`` where there are too few cells to try any (one of each class); it is raised until the cells of the fit are
predicted correctly. With whitening it hardly matters: embeddings of an untrained encoder gave macro-F1 .31 to .32
(pancreas) and .45 (ovarian cancer) from one cell per type, at every ``C`` of the grid."""
WHITENING = 0.75
"""Degree of whitening, 0 (none) to 1 (equal variances)."""
LEAST = 1e-6
"""The smallest probability of a left-out cell's class that differs from 0."""
_ITERATIONS = 1000
_FLAT = 1e-8
"""Directions with less than this fraction of the largest variance are rounding errors."""
_ROUNDING = float(np.finfo(np.float32).eps) ** 2


@dataclass(frozen=True)
class Selection:
    """Hyperparameters selected on left-out training cells.

    Attributes
    ----------
    C : float
        Inverse strength of the regularisation.
    temperature : float
        Divisor of the logits.
    folds : int
        Folds that could be used; 0 where no class has enough cells: ``C`` is then ``untried``, or the smallest above it
        that predicts the cells of the fit correctly, and the temperature 1.
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
        float64 [classes, width] and [classes], for features minus their mean.
    mean : ndarray
        float64 [width].
    selection : Selection
        The selected hyperparameters.
    """

    classes: tuple[str, ...]
    coefficients: Floats
    intercept: Floats
    mean: Floats
    selection: Selection

    def probabilities(self, features: NDArray[np.floating[Any]]) -> Floats:
        """Return the probability of each class, float64 [cells, classes]; ``features`` are [cells, width]."""
        centred = features.astype(np.float64) - self.mean
        return np.exp(log_softmax(centred @ self.coefficients.T + self.intercept))


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictions for training cells by heads that were fitted without them, at the selected regularisation.

    Attributes
    ----------
    cells : ndarray
        int64 [n]: indices of the cells, each once at most.
    folds : ndarray
        int64 [n]: the fold that each was left out in.
    log_probabilities : ndarray
        float64 [n, classes], of the selected temperature; a class that the other cells of a fold lack has
        log(:data:`LEAST`).
    """

    cells: NDArray[np.int64]
    folds: NDArray[np.int64]
    log_probabilities: Floats

    @classmethod
    def of(cls, folds: Sequence[Fold], logits: Sequence[Floats], temperature: float) -> LeftOut:
        """Return the predictions of folds from the logits of their left-out cells; -inf is possible."""
        number = np.repeat(np.arange(len(folds)), [len(validation) for _, validation in folds])
        cells = np.concatenate([validation for _, validation in folds])
        return cls(cells, number, bounded(log_softmax(np.concatenate(logits) / temperature)))


def bounded(log_probabilities: Floats) -> Floats:
    """Return log-probabilities of at least log(:data:`LEAST`), so that one method cannot exclude a class."""
    return np.maximum(log_probabilities, np.log(LEAST))


def fit_head(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.object_],
    *,
    groups: NDArray[np.object_] | None = None,
    whitening: float = WHITENING,
    grid: Sequence[float] | None = None,
    untried: float = UNTRIED,
    seed: int = 0,
) -> LinearHead:
    """Fit a head; parameters and errors are those of :func:`fit_head_and_left_out`."""
    options: Any = {"groups": groups, "whitening": whitening, "grid": grid, "untried": untried, "seed": seed}
    return fit_head_and_left_out(features, labels, **options)[0]


def fit_head_and_left_out(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.object_],
    *,
    groups: NDArray[np.object_] | None = None,
    whitening: float = WHITENING,
    grid: Sequence[float] | None = None,
    untried: float = UNTRIED,
    seed: int = 0,
    by_fold: Sequence[NDArray[np.floating[Any]]] | None = None,
) -> tuple[LinearHead, LeftOut | None]:
    """Fit a head, and return its predictions for the left-out training cells; None where none could be left out.

    Parameters
    ----------
    features
        [cells, width], finite.
    labels
        One class per cell, as text; at least two different ones.
    groups
        One donor (or sample) per cell, as text: whole donors are left out, since the cells to annotate will come from
        another donor. Without it, cells are left out, stratified by class.
    whitening
        The variance v of every direction becomes v^(1 - whitening): 0 leaves it (for features whose variance is
        informative, as principal components), 1 makes it the same for all.
    grid
        The inverse strengths of regularisation to try, ascending; :data:`GRID` unless given.
    untried
        The first ``C`` to use where no cell can be left out; those of ``grid`` above it follow.
    seed
        Seed of the folds without ``groups``.
    by_fold
        Where the features themselves were learned from these cells (principal components): for each fold, in the order
        of :func:`~cell_lm.evaluation.folds.training_folds`, the features of all cells, [cells, any width], learned
        without its left-out cells. None: ``features`` for all folds.

    Raises
    ------
    InputError
        All cells have the same features; or no group shares two classes with the others, so that no fold can be scored.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    x, grid = features.astype(np.float64), GRID if grid is None else grid
    space = space_of(x, whitening)
    # threads help little on matrices of this size, and slow each other down on a busy machine
    with threadpool_limits(1, user_api="blas"):
        folds = list(training_folds(codes, groups, seed))
        each = [x] * len(folds) if by_fold is None else by_fold
        selection, left_out = _select(each, codes, folds, whitening, grid)
        inside, model = space(x), _regression()
        C = (
            selection.C
            if selection.folds
            else _separating(model, inside, codes, [untried, *(C for C in grid if untried < C)])
        )
        coefficients, intercept = _fit(model, inside, codes, C)
    if groups is not None and not selection.folds:
        found = f"none of the {len(np.unique(groups)):,} groups shares two labels with the others"
        raise InputError(found, where="groups", fix=f"Leave {option('groups')} out, or name the column of the donors")
    coefficients, intercept = coefficients / selection.temperature, intercept / selection.temperature
    selection = replace(selection, C=C)
    head = LinearHead(tuple(map(str, classes)), space.coefficients(coefficients), intercept, space.mean, selection)
    return head, left_out


@dataclass(frozen=True, eq=False)
class Space:
    """Features minus their mean, rotated (None: not rotated) and scaled to a mean variance of 1.

    Attributes
    ----------
    mean : ndarray
        float64 [width].
    rotation : ndarray or None
        float64 [width, directions].
    scale : float
        Factor before the rotation.
    """

    mean: Floats
    rotation: Floats | None
    scale: float

    def __call__(self, x: Floats) -> Floats:
        """Return transformed features, float64 [cells, directions]."""
        centred = (x - self.mean) * self.scale
        return centred if self.rotation is None else centred @ self.rotation

    def coefficients(self, inside: Floats) -> Floats:
        """Return coefficients for the original features from those for the transformed ones."""
        return self.scale * (inside if self.rotation is None else inside @ self.rotation.T)


def space_of(x: Floats, whitening: float) -> Space:
    """Return the transformation of features of this degree of whitening (see :func:`fit_head_and_left_out`)."""
    mean = x.mean(axis=0)
    least = _ROUNDING * float(mean @ mean)
    if whitening == 0:  # the penalty is the same in all directions, so no rotation is needed
        directions = max(1, min(x.shape[1], len(x) - 1))
        variance = float(((x - mean) ** 2).sum()) / len(x) / directions
        if variance <= least:
            raise _collapsed(len(x))
        return Space(mean, None, 1 / np.sqrt(variance))
    variances, rotation = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    has = variances > max(_FLAT * variances[-1], least)
    if not has.any():
        raise _collapsed(len(x))
    variances, rotation = variances[has], rotation[:, has]
    wanted = variances ** (1.0 - whitening)
    return Space(mean, np.asarray(rotation * np.sqrt(wanted / wanted.mean() / variances)), 1.0)


def _collapsed(cells: int) -> InputError:
    found = f"the features of all {cells:,} cells are the same: nothing separates the labels"
    return InputError(found, where="linear head", fix="Check the model: its embeddings have collapsed")


def _regression() -> Any:
    return LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS, warm_start=True)


def _fit(model: Any, x: Floats, codes: Codes, C: float) -> tuple[Floats, Floats]:
    """Return one row of coefficients and one intercept per class; for two, scikit-learn keeps only their difference."""
    with warnings.catch_warnings():
        # A regularisation too weak to converge is scored like any other, by its predictions.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(C=C).fit(x, codes)
    coefficients, intercept = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(coefficients) > 1:
        return coefficients, intercept
    return np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercept, intercept]) / 2


def _separating(model: Any, x: Floats, codes: Codes, tried: Sequence[float]) -> float:
    """Return the first ``C`` that predicts all cells of the fit correctly; if there is none, the last."""
    for C in tried:
        coefficients, intercept = _fit(model, x, codes, C)
        if np.array_equal((x @ coefficients.T + intercept).argmax(axis=1), codes):
            return C
    return tried[-1]


def _select(
    by_fold: Sequence[NDArray[np.floating[Any]]],
    codes: Codes,
    folds: Sequence[Fold],
    whitening: float,
    grid: Sequence[float],
) -> tuple[Selection, LeftOut | None]:
    if not folds:
        return Selection(UNTRIED, 1.0, 0, ()), None
    truth = np.concatenate([codes[validation] for _, validation in folds])
    pairs = zip(by_fold, folds, strict=True)
    found = [_left_out(x.astype(np.float64), codes, fold, whitening, grid) for x, fold in pairs]
    logits = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    scores = [_macro_f1(truth, each) for each in logits]
    best = int(np.argmax(scores))
    temperature = best_temperature(logits[best], truth)
    selection = Selection(grid[best], temperature, len(folds), tuple(zip(grid, scores, strict=True)))
    return selection, LeftOut.of(folds, [each[best] for each in found], temperature)


def _left_out(x: Floats, codes: Codes, fold: Fold, whitening: float, grid: Sequence[float]) -> list[Floats]:
    """Return the logits [left-out cells, classes] of a fold for each ``C``; -inf for classes its other cells lack."""
    rest, validation = fold
    known, rest_codes = np.unique(codes[rest], return_inverse=True)
    space, model = space_of(x[rest], whitening), _regression()
    x_rest, x_validation = space(x[rest]), space(x[validation])
    each = [np.full((len(validation), int(codes.max()) + 1), -np.inf) for _ in grid]
    for C, logits in zip(grid, each, strict=True):
        coefficients, intercept = _fit(model, x_rest, rest_codes, C)
        logits[:, known] = x_validation @ coefficients.T + intercept
    return each


def _macro_f1(truth: Codes, logits: Floats) -> float:
    present = np.unique(truth)
    return float(f1_score(truth, logits.argmax(axis=1), labels=present, average="macro", zero_division=0.0))
