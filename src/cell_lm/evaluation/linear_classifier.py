"""The linear head as a classifier of scikit-learn, for arrays, pipelines and its model selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from cell_lm.errors import InputError
from cell_lm.evaluation.linear_head import WHITENING, Selection, fit_head


class LinearHeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Softmax regression on features, such as ``adata.obsm["X_cell_lm"]``, that tunes and calibrates itself.

    Strength of the regularisation and temperature are chosen on left-out cells, or left-out donors
    (:mod:`cell_lm.evaluation.linear_head`). It is the head of :class:`cell_lm.CellTypeClassifier` on one view.

    Parameters
    ----------
    whitening
        The variance v of every direction becomes v^(1 - whitening), from 0 (as it is) to 1 (the same for all).
    grid
        Inverse strengths of regularisation to try, ascending; None: .001 to 10.
    seed
        Seed of the folds without ``groups``.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    coef_, intercept_ : ndarray
        float64 [classes, features] and [classes].
    selection_ : Selection
        The chosen hyperparameters, with the scores of all that were tried.
    n_features_in_ : int
        Number of features.

    Examples
    --------
    >>> head = LinearHeadClassifier().fit(reference.obsm["X_cell_lm"], reference.obs["cell_type"])
    >>> head.predict_proba(adata.obsm["X_cell_lm"])
    """

    classes_: NDArray[Any]
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]
    selection_: Selection
    n_features_in_: int

    def __init__(self, *, whitening: float = WHITENING, grid: Sequence[float] | None = None, seed: int = 0) -> None:
        self.whitening = whitening
        self.grid = grid
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from labelled cells.

        Parameters
        ----------
        X
            [cells, features], finite.
        y
            One label per cell, of two or more.
        groups
            One donor (or sample) per cell: whole donors are then left out to tune.

        Raises
        ------
        InputError
            All cells have one label or the same features; or no donor shares two labels with the others.
        ValueError
            The arrays do not fit together or hold missing values.
        """
        x, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            found = f"all {len(labels):,} cells have the same label: there is one class"
            raise InputError(found, where=type(self).__name__, fix="Give cells of at least two classes")
        donors = None if groups is None else column_or_1d(groups).astype(object)
        check_consistent_length(x, donors)
        head = fit_head(
            x, codes.astype(object), groups=donors, whitening=self.whitening, grid=self.grid, seed=self.seed
        )
        self.classes_, self.selection_ = classes, head.selection
        self.coef_, self.intercept_ = head.coefficients, head.intercept - head.coefficients @ head.mean
        self._head = head
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class, float64 [cells, classes]."""
        check_is_fitted(self)
        return self._head.probabilities(validate_data(self, X, dtype=np.float64, reset=False))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return logits, float64 [cells, classes]; of two classes their difference, float64 [cells]."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        logits = (x - self._head.mean) @ self.coef_.T + self._head.intercept
        return np.asarray(logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable label of each cell."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])
