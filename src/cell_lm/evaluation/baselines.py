"""Baselines: simple methods to compare a model with, tuned as carefully as the model's own head.

They follow scikit-learn's estimator interface. The intended features are log1p of counts per 10,000, cells x genes
(:func:`cell_lm.data.loading.expression.log_expression`), sparse or dense. Nothing is fitted on the cells to predict.

============================  =====================================================================================
:class:`GeneLogisticRegression`  softmax regression on all genes
:class:`PCALogisticRegression`   the same on the leading components of the *centred* genes
:class:`NearestCentroid`         the mean cell of each class, by cosine
:class:`NearestNeighbours`       15 neighbours among the training cells, in the space of the components
:class:`MajorityClass`           the most frequent class
============================  =====================================================================================

Both regressions are :func:`~cell_lm.evaluation.linear_head.fit_head` without whitening: strength and temperature are
chosen on left-out training cells, or whole donors if ``groups`` is given. The components are computed from all training
cells, since they do not use labels.

The constants here were chosen on the packaged cells, in favour of the baselines. Genes are centred and not divided by
their standard deviation: with one cell per class, scaling cost the regression and the centroids a fifth of their
macro-F1, and with five it was still worse, since a gene that occurs in one training cell then has the same weight as a
marker. Centroids and neighbours are compared by the cosine of centred cells of length 1: Euclidean distance is
dominated by sequencing depth (fifteen neighbours, 20 cells per class of the pancreas: macro-F1 .51 by distance, .89 by
cosine).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from cell_lm.errors import InputError, ModelError
from cell_lm.evaluation.calibration import best_temperature, log_softmax
from cell_lm.evaluation.folds import Codes, training_folds
from cell_lm.evaluation.labels import Labels, as_labels
from cell_lm.evaluation.linear_head import LeftOut, LinearHead, fit_head_and_left_out
from cell_lm.evaluation.span import Matrix, Span, leading_components

Floats: TypeAlias = NDArray[np.float64]

COMPONENTS = 60
GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The inverse strengths of regularisation to try: stronger than for embeddings, since there are many genes."""
UNTRIED = 0.01
"""``C`` with one cell per class. The regularisation is strong, since the direction between two cells is mostly noise:
macro-F1 .72 against .43 (pancreas) and .72 against .62 (ovarian cancer) at 1."""
NEIGHBOURS = 15
_UNTRIED_TEMPERATURE = 0.1
_ROUNDING = 1e-12


class BaselineClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the baselines.

    Attributes
    ----------
    classes_ : ndarray
        str objects, sorted; after the fit.
    n_features_in_ : int
        Genes; after the fit.
    """

    classes_: NDArray[np.object_]
    n_features_in_: int

    def fit(self, X: Matrix, y: Labels, groups: Labels | None = None) -> Self:
        """Learn from labelled cells.

        Parameters
        ----------
        X
            [cells, genes], sparse or dense, finite.
        y
            One class per cell; at least two different ones.
        groups
            One donor per cell: hyperparameters are then selected by leaving out whole donors.

        Raises
        ------
        InputError
            Numbers of labels and cells differ, labels are missing, there is only one class, values are not finite, all
            cells are identical, or no group shares two classes with the others.
        """
        x, where = _matrix(X), type(self).__name__
        names = as_labels(y, where=f"{where}: labels")
        donors = None if groups is None else as_labels(groups, where=f"{where}: groups").astype(object)
        for what, given in (("labels", names), ("groups", donors)):
            if given is not None and len(given) != x.shape[0]:
                found = f"{len(given):,} {what} for {x.shape[0]:,} cells"
                raise InputError(found, where=where, fix=f"Pass one of the {what} for each cell, in the same order")
        classes, codes = np.unique(names, return_inverse=True)
        if len(classes) < 2:
            found = f"all {len(names):,} cells have the label '{classes[0]}'"
            raise InputError(found, where=where, fix="Pass cells of at least 2 labels")
        self.classes_, self.n_features_in_ = classes.astype(object), x.shape[1]
        # threads help little on matrices of this size, and slow each other down on a busy machine
        with threadpool_limits(1, user_api="blas"):
            self._learn(x, codes, donors)
        return self

    def predict_proba(self, X: Matrix) -> Floats:
        """Return the probability of each class, float64 [cells, classes].

        Raises
        ------
        ModelError
            It has not been fitted.
        InputError
            The number of genes differs from the fit, or values are not finite.
        """
        if not hasattr(self, "classes_"):
            raise ModelError("it has not been fitted", where=type(self).__name__, fix="Call fit(X, y) first")
        x = _matrix(X)
        if x.shape[1] != self.n_features_in_:
            found = f"{x.shape[1]:,} genes, but it was fitted on {self.n_features_in_:,}"
            raise InputError(found, where=type(self).__name__, fix="Pass the genes of the fit, in the same order")
        return self._probabilities(x)

    def predict(self, X: Matrix) -> NDArray[np.object_]:
        """Return the most probable class of each cell, str objects [cells]; errors as :meth:`predict_proba`."""
        codes = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[codes], object)

    @abstractmethod
    def _learn(self, x: Matrix, codes: Codes, groups: NDArray[np.object_] | None) -> None:
        """Fit; ``codes`` are the indices of the labels in ``classes_``."""

    @abstractmethod
    def _probabilities(self, x: Matrix) -> Floats:
        """Return the probabilities, [cells, classes], in the order of ``classes_``."""


class GeneLogisticRegression(BaselineClassifier):
    """Logistic regression on all genes.

    It is solved in the span of the training cells (:mod:`cell_lm.evaluation.span`), with one unknown per cell instead
    of one per gene; with an L2 penalty the solution is the same. 800 cells of 15,000 genes take about 3 seconds on one
    core, twice as many cells about six times as long.

    Parameters
    ----------
    seed
        Seed of the split of the training cells that selects the regularisation.

    Attributes
    ----------
    head_ : LinearHead
        The regression in the span, with the selection of its regularisation.
    left_out_ : LeftOut or None
        Predictions for the training cells that were left out; None where none could be.
    coef_, intercept_ : ndarray
        float64 [classes, genes] and [classes].
    """

    head_: LinearHead
    left_out_: LeftOut | None
    coef_: Floats
    intercept_: Floats

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _learn(self, x: Matrix, codes: Codes, groups: NDArray[np.object_] | None) -> None:
        span = Span(x)
        self.head_, self.left_out_ = _fit(span.coordinates, self.classes_[codes], groups, self.seed)
        self.coef_ = span.coefficients(self.head_.coefficients)
        self.intercept_ = self.head_.intercept - self.head_.coefficients @ self.head_.mean - self.coef_ @ span.mean

    def _probabilities(self, x: Matrix) -> Floats:
        return np.exp(log_softmax(np.asarray(x @ self.coef_.T) + self.intercept_))


class PCALogisticRegression(BaselineClassifier):
    """Logistic regression on the leading principal components of the centred genes, which keep their variance.

    Parameters
    ----------
    components
        Most components; n cells have at most n - 1.
    seed
        Seed of the decomposition and of the split of the training cells.

    Attributes
    ----------
    head_ : LinearHead
        The regression on the components, with the selection of its regularisation.
    left_out_ : LeftOut or None
        Predictions for the training cells that were left out; None where none could be.
    coef_, intercept_ : ndarray
        float64 [classes, genes] and [classes]: the same in terms of genes.
    """

    head_: LinearHead
    left_out_: LeftOut | None
    coef_: Floats
    intercept_: Floats

    def __init__(self, *, components: int = COMPONENTS, seed: int = 0) -> None:
        self.components = components
        self.seed = seed

    def _learn(self, x: Matrix, codes: Codes, groups: NDArray[np.object_] | None) -> None:
        pca = leading_components(x, self.components, self.seed)
        features = pca(x)
        self.head_, self.left_out_ = _fit(features, self.classes_[codes], groups, self.seed)
        self.coef_ = self.head_.coefficients @ pca.directions
        self.intercept_ = self.head_.intercept - self.head_.coefficients @ self.head_.mean - self.coef_ @ pca.mean

    def _probabilities(self, x: Matrix) -> Floats:
        return np.exp(log_softmax(np.asarray(x @ self.coef_.T) + self.intercept_))


class NearestCentroid(BaselineClassifier):
    """The class whose centroid has the highest cosine with the cell.

    Cells are scaled to length 1, which removes the sequencing depth, and centred on the mean of the training cells,
    which removes their common component; the similarity is the cosine. Probabilities are a softmax of the cosines whose
    temperature is chosen on left-out training cells.

    Parameters
    ----------
    seed
        Seed of the split of the training cells.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _learn(self, x: Matrix, codes: Codes, groups: NDArray[np.object_] | None) -> None:
        unit, n = _unit(x), len(self.classes_)
        self.mean_, self.centroids_ = _centroids(unit, codes, n)
        logits, truth = [], []
        for rest, validation in training_folds(codes, groups, self.seed):
            likeness = _likeness(unit[validation], *_centroids(unit[rest], codes[rest], n))
            logits.append(np.where(np.isin(np.arange(n), codes[rest]), likeness, -np.inf))
            truth.append(codes[validation])
        if truth:
            self.temperature_ = best_temperature(np.concatenate(logits), np.concatenate(truth))
        else:
            self.temperature_ = _UNTRIED_TEMPERATURE

    def _probabilities(self, x: Matrix) -> Floats:
        return np.exp(log_softmax(_likeness(_unit(x), self.mean_, self.centroids_) / self.temperature_))


class NearestNeighbours(BaselineClassifier):
    """The vote of the nearest training cells, by cosine in the space of the leading components of cells of length 1.

    A neighbour is weighted by the inverse of its distance, 1 - cosine. There are at most as many neighbours as a class
    has cells on average: with one cell per class, fifteen neighbours could be all cells.

    Parameters
    ----------
    neighbours
        Most neighbours.
    components
        Most components.
    seed
        Seed of the decomposition.
    """

    def __init__(self, *, neighbours: int = NEIGHBOURS, components: int = COMPONENTS, seed: int = 0) -> None:
        self.neighbours = neighbours
        self.components = components
        self.seed = seed

    def _learn(self, x: Matrix, codes: Codes, groups: NDArray[np.object_] | None) -> None:  # noqa: ARG002
        unit = _unit(x)
        space = leading_components(unit, self.components, self.seed)
        self.mean_, self.directions_, self.points_, self.codes_ = space.mean, space.directions, space(unit), codes
        most = min(self.neighbours, max(1, len(codes) // len(self.classes_)))
        votes = KNeighborsClassifier(most, weights="distance", metric="cosine")
        self.votes_ = votes.fit(self.points_, codes)

    def _probabilities(self, x: Matrix) -> Floats:
        return np.asarray(self.votes_.predict_proba(self._coordinates(_unit(x))), np.float64)

    def _coordinates(self, unit: Matrix) -> Floats:
        return np.asarray(unit @ self.directions_.T) - self.mean_ @ self.directions_.T


class MajorityClass(BaselineClassifier):
    """Gives every cell the most frequent class; probabilities are the class frequencies."""

    def _learn(self, x: Matrix, codes: Codes, groups: NDArray[np.object_] | None) -> None:  # noqa: ARG002
        self.shares_ = np.bincount(codes) / len(codes)

    def _probabilities(self, x: Matrix) -> Floats:
        return np.tile(self.shares_, (x.shape[0], 1))


BASELINES: dict[str, Callable[[int], BaselineClassifier]] = {
    "genes_lr": lambda seed: GeneLogisticRegression(seed=seed),
    "pca_lr": lambda seed: PCALogisticRegression(seed=seed),
    "centroid": lambda seed: NearestCentroid(seed=seed),
    "neighbours": lambda seed: NearestNeighbours(seed=seed),
    "majority": lambda seed: MajorityClass(),  # noqa: ARG005
}
"""Short name and factory (by seed) of each baseline."""


def _matrix(X: Matrix) -> Matrix:
    """Return CSR, or a dense array, of floats."""
    x = sparse.csr_matrix(X) if sparse.issparse(X) else np.asarray(X)
    x = x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
    values = x.data if sparse.issparse(x) else x
    if x.ndim != 2 or not np.isfinite(values).all():
        found = f"expected finite numbers [cells, genes], found shape {x.shape}"
        raise InputError(found, where="features", fix="Pass log1p of counts per 10,000, without missing values")
    return x


def _fit(
    features: Floats, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, seed: int
) -> tuple[LinearHead, LeftOut | None]:
    return fit_head_and_left_out(features, labels, groups=groups, whitening=0.0, grid=GRID, untried=UNTRIED, seed=seed)


def _unit(x: Matrix) -> Matrix:
    """Return the cells scaled to length 1; a cell without counts is unchanged."""
    unit: Matrix = normalize(x)
    return unit


def _centroids(unit: Matrix, codes: Codes, classes: int) -> tuple[Floats, Floats]:
    """Return the mean [genes], and the centred directions of the classes, of length 1 [classes, genes]."""
    mean = np.asarray(unit.mean(axis=0), np.float64).ravel()
    members = sparse.csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(classes, len(codes)))
    sizes = np.maximum(np.asarray(members.sum(axis=1)).ravel(), 1)
    sums = members @ unit
    centroids = (sums.toarray() if sparse.issparse(sums) else np.asarray(sums)) / sizes[:, None] - mean
    return mean, normalize(centroids)


def _likeness(unit: Matrix, mean: Floats, centroids: Floats) -> Floats:
    """Return the cosine of each centred cell with each centroid, [cells, classes]."""
    dots = np.asarray(unit @ centroids.T) - mean @ centroids.T
    squares = unit.multiply(unit) if sparse.issparse(unit) else unit**2
    lengths = np.asarray(squares.sum(axis=1)).ravel() - 2 * np.asarray(unit @ mean).ravel() + mean @ mean
    return np.asarray(dots / np.sqrt(np.maximum(lengths, _ROUNDING))[:, None])
