"""Estimators that learn labels: classes, probabilities, scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from cell_lm.data.obs.columns import refuse_no_name
from cell_lm.data.obs.labels import read_labels
from cell_lm.data.opening import Data, Opened
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores
from cell_lm.files import JSON
from cell_lm.tasks.column_estimator import ColumnEstimator, Target
from cell_lm.tasks.estimator import Arrays, Fitted, Progress
from cell_lm.terminal import refuse_uncallable


class Classifier(ClassifierMixin, ColumnEstimator):  # type: ignore[misc]
    """Assigns each cell one of the labels of the fit.

    Labels may be text, categories, integers or booleans; they become text.

    Attributes
    ----------
    classes_ : ndarray
        str objects: the labels, sorted.
    cells_per_class_ : dict
        Number of cells of the fit by label, sorted by label.
    reference_ : Reference
        Record of the cells it was fitted on.
    """

    classes_: NDArray[np.object_]
    cells_per_class_: dict[str, int]

    @abstractmethod
    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        """Learn from cells of at least two labels, each with a donor if donors are given."""

    @abstractmethod
    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        """Return the probabilities [cells, classes], the classes in the order of :attr:`classes_`."""

    @abstractmethod
    def _learned(self) -> Fitted:
        """Return the fitted values, without the classes."""

    @abstractmethod
    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        """Restore what :meth:`_learned` returned; :attr:`classes_` is already set."""

    @property
    def unlabelled_(self) -> int:
        """Number of cells left out of the fit because they have no label."""
        return self.reference_.unlabelled

    def predict_proba(self, data: Data, *, progress: Progress = None, **how: Unpack[ReadKeywords]) -> pd.DataFrame:
        """Return the probability of each label for each cell.

        Parameters
        ----------
        data
            Cells to annotate.
        progress
            Called with the number of cells completed since the last call.
        **how
            How they are read; see :meth:`fit`.

        Returns
        -------
        DataFrame
            float64, cells x labels, rows sum to 1; the index is that of ``obs``. A cell of a type that is not in the
            reference gets another label, sometimes with high confidence.

        Raises
        ------
        NotFittedError
            It has not been fitted.
        InputError
            The cells cannot be read.

        Warns
        -----
        CoverageWarning
            The cells have less than half of the genes of the reference (:meth:`coverage`).
        """
        return self._frame(self._open(data, how, progress), progress)

    def predict(self, data: Data, *, progress: Progress = None, **how: Unpack[ReadKeywords]) -> pd.Series[Any]:
        """Return the most probable label of each cell.

        Parameters and errors are those of :meth:`predict_proba`.

        Returns
        -------
        Series
            Categorical with all known labels; with the index of ``obs`` and the name of the label column of the fit.
        """
        return self._most_probable(self._frame(self._open(data, how, progress), progress))

    def evaluate(
        self, data: Data, label: str, *, progress: Progress = None, **how: Unpack[ReadKeywords]
    ) -> AnnotationScores:
        """Compare predictions with known labels; cells without a label are left out.

        Score only cells of donors that were not in the fit. A label that is not in the reference counts as wrong.

        Raises
        ------
        InputError
            No such column, no label at all, or the cells cannot be read.
        """
        _ = self.reference_
        refuse_uncallable(progress)
        refuse_no_name(label, axis="obs", where="label")
        cells, (labels, known) = self._labelled(data, label, how)
        return annotation_scores(labels[known], self._most_probable(self._frame(cells[known], progress)))

    def score(self, data: Data, label: str, **how: Unpack[ReadKeywords]) -> float:
        """Return the macro-F1 of :meth:`evaluate`."""
        return self.evaluate(data, label, **how).macro_f1

    def _labelled(self, data: Data, label: str, how: ReadKeywords) -> tuple[CellView, Target]:
        """Read cells to score, and their labels, which are refused before the slow steps where they cannot be used."""
        opened = Opened(data, read_options(**how))
        self._read_target(opened.obs([label]), label, where=opened.name, training=False)
        cells = self._ready(opened)
        return cells, self._read_target(cells.obs([label]), label, where=cells.name, training=False)

    def _read_target(self, obs: pd.DataFrame, label: str, *, where: str, training: bool) -> Target:
        return Target(*read_labels(obs, label, where=where, classes=2 if training else 1))

    def _learn(self, cells: CellView, values: NDArray[Any], groups: NDArray[np.object_] | None, run: Progress) -> None:
        self._learn_labels(cells, values, groups, run)
        self._set_classes(values)

    def _set_classes(self, values: NDArray[Any]) -> None:
        classes, sizes = np.unique(values, return_counts=True)
        self.classes_ = classes.astype(object)
        self.cells_per_class_ = {str(name): int(size) for name, size in zip(classes, sizes, strict=True)}

    def _fitted(self) -> Fitted:
        learned, sizes = self._learned(), dict[str, JSON](self.cells_per_class_)
        return Fitted({"cells_per_class": sizes, "learned": dict(learned.values)}, learned.arrays)

    def _restore(self, fitted: Fitted) -> None:
        sizes, learned = fitted.values["cells_per_class"], fitted.values["learned"]
        if (
            not isinstance(sizes, dict)
            or not isinstance(learned, dict)
            or len(sizes) < 2
            or list(sizes) != sorted(sizes)
        ):
            raise ValueError("its labels are not two or more in order")
        self.cells_per_class_ = {str(name): int(str(size)) for name, size in sizes.items()}
        self.classes_ = np.array(list(sizes), object)
        self._restore_learned(learned, fitted.arrays)

    def _frame(self, cells: CellView, progress: Progress) -> pd.DataFrame:
        return pd.DataFrame(self._probabilities(cells, progress), index=cells.index, columns=list(self.classes_))

    def _most_probable(self, probabilities: pd.DataFrame) -> pd.Series[Any]:
        codes = np.asarray(probabilities).argmax(axis=1)
        values = pd.Categorical.from_codes(codes, categories=pd.Index(self.classes_, dtype=object))
        return pd.Series(values, index=probabilities.index, name=self.reference_.label)
