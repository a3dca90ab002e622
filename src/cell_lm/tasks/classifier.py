"""Estimators that learn labels: classes, probabilities, scores."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from cell_lm.data.obs.cell_types import LabelRules, as_words, read_cell_types, warn_of_no_shared_type
from cell_lm.data.obs.columns import refuse_no_name
from cell_lm.data.obs.labels import Labels, LabelWarning
from cell_lm.data.opening import Data, Opened
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores
from cell_lm.files import JSON
from cell_lm.tasks.column_estimator import ColumnEstimator, FitOptions, Target
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
    refuses_gaps: ClassVar[bool] = True

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

    def fit(
        self,
        data: Data,
        label: str,
        *,
        groups: str | None = None,
        missing_labels: Sequence[str] = (),
        min_cells: int | None = None,
        genes_of: Data | Opened | None = None,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> Self:
        """Learn from labelled cells.

        Parameters
        ----------
        data
            The reference.
        label
            Column of ``obs`` with the labels. Blanks around a label are removed; cells without one are left out.
        groups
            Column of ``obs`` with the donors or samples. Give it if there is one: hyperparameters are then tuned by
            leaving out whole donors, since the cells to predict will come from other donors.
        missing_labels
            Labels that mean that there is none, such as ``["Unassigned", "NA"]``, in upper or lower case.
        min_cells
            Leave out labels of fewer cells. None: a label of a single cell, which cannot be cross-validated, is
            refused; 1: it is kept.
        genes_of
            Cells to predict, such as those of a targeted panel: only genes that both have are learned from, and cells
            that are predicted are cut to the same genes. Only their genes are looked at, read by the same options.
        progress
            Called with the number of cells completed since the last call.
        **how
            How the cells are read: ``layer``, ``scale``, ``gene_column``, ``min_overlap``, ``min_genes``, or ``read=``
            with a :class:`cell_lm.data.ReadOptions`.

        Raises
        ------
        InputError
            No such column, no value at all, a single label, labels of one cell, as many labels as cells, or
            floating-point numbers; a labelled cell without donor, or a single donor; or the cells cannot be read.
        GeneError
            Fewer than ten genes are shared with ``genes_of``.
        ConfigError
            ``missing_labels`` or ``min_cells`` cannot be used.

        Warns
        -----
        LabelWarning
            Labels were changed or left out, or look as if they meant that there is none.
        """
        refuse_uncallable(progress)
        options = FitOptions(LabelRules(as_words(missing_labels), min_cells), genes_of)
        return self._fit(data, label, groups, how, partial(self._learn_known, run=progress), options)

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
        GeneError
            Their genes hold less than 20 % of the expression of the reference, or are fewer than 50: labels would be
            wrong, and look certain.

        Warns
        -----
        CoverageWarning
            The genes of the cells hold less than 70 % of the expression of the reference (:meth:`coverage`).
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
        self,
        data: Data,
        label: str,
        *,
        missing_labels: Sequence[str] = (),
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> AnnotationScores:
        """Compare predictions with known labels; cells without a label are left out.

        Score only cells of donors that were not in the fit. A label that is not in the reference counts as wrong.

        Raises
        ------
        InputError
            No such column, no label at all, or the cells cannot be read.

        Warns
        -----
        LabelWarning
            The classifier knows none of the labels; and as in :meth:`fit`.
        """
        cells, (labels, known) = self.labelled(data, label, missing_labels=missing_labels, **how)
        refuse_uncallable(progress)
        return annotation_scores(labels[known], self._most_probable(self._frame(cells[known], progress)))

    def score(self, data: Data, label: str, **how: Unpack[ReadKeywords]) -> float:
        """Return the macro-F1 of :meth:`evaluate`."""
        return self.evaluate(data, label, **how).macro_f1

    def labelled(
        self, data: Data, label: str, *, missing_labels: Sequence[str] = (), **how: Unpack[ReadKeywords]
    ) -> tuple[CellView, Labels]:
        """Read cells to score, and their labels, which are refused before the slow steps where they cannot be used.

        Parameters, errors and warnings are those of :meth:`evaluate`.
        """
        _ = self.reference_
        refuse_no_name(label, axis="obs", where="label")
        rules = LabelRules(as_words(missing_labels))
        opened = Opened(data, read_options(**how))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LabelWarning)  # issued below, for the cells that are read
            self._read_target(opened.obs([label]), label, where=opened.name, training=False, rules=rules)
        cells = self._ready(opened)
        read = self._read_target(cells.obs([label]), label, where=cells.name, training=False, rules=rules)
        labels = Labels(*read)
        warn_of_no_shared_type(labels, self.classes_, label, where=cells.name)
        return cells, labels

    def _read_target(
        self, obs: pd.DataFrame, label: str, *, where: str, training: bool, rules: LabelRules | None = None
    ) -> Target:
        return Target(*read_cell_types(obs, label, where=where, rules=rules, training=training))

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
