"""What everything that annotates cells has in common: fit on labelled cells, predict, score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.cells import CellData
from cell_lm.errors import GeneError, ModelError
from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores
from cell_lm.tasks.labels import read_groups, read_labels

Progress: TypeAlias = "Callable[[int], None] | None"
"""Told the number of cells that are done, a chunk at a time."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What an annotator was fitted on.

    Attributes
    ----------
    name : str
        Of the file.
    label : str
        Column of ``obs`` that held the labels.
    groups : str or None
        Column of ``obs`` that held the donors.
    cells_per_class : dict
        Class to labelled cells, sorted by class.
    unlabelled : int
        Cells that were left out for having no label.
    genes : ndarray
        int64: genes of the vocabulary that the file had, as indices, sorted.
    vocabulary : str
        Hash of the vocabulary.
    """

    name: str
    label: str
    groups: str | None
    cells_per_class: dict[str, int]
    unlabelled: int
    genes: NDArray[np.int64]
    vocabulary: str

    @property
    def cells(self) -> int:
        """Labelled cells."""
        return sum(self.cells_per_class.values())


@dataclass(frozen=True)
class Coverage:
    """How many of the genes of the reference a query has.

    Attributes
    ----------
    reference : int
        Genes of the vocabulary in the reference.
    shared : int
        Those of them that the query has, too.
    """

    reference: int
    shared: int

    @property
    def share(self) -> float:
        """Share of the genes of the reference, 0 to 1."""
        return self.shared / self.reference if self.reference else 0.0

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.shared:,} of {self.reference:,} genes of the reference ({100 * self.share:.0f} %)"


class Annotator(ABC):
    """Learns labels from cells and gives them to other cells. All take the same cells, so that they can be compared.

    Parameters
    ----------
    seed
        Of whatever is random in the fit.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self._reference: Reference | None = None

    @abstractmethod
    def _learn(
        self, cells: CellData, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        """Learn from labelled cells: one class (at least two different ones) and perhaps one donor a cell."""

    @abstractmethod
    def _probabilities(self, cells: CellData, progress: Progress) -> NDArray[np.float64]:
        """Return the probabilities [cells, classes], the classes in the order of :attr:`classes_`."""

    def fit(self, data: CellData, label: str, *, groups: str | None = None, progress: Progress = None) -> Self:
        """Learn the labels of cells.

        Parameters
        ----------
        data
            Cells, some of which may have no label: they are left out.
        label
            Column of ``obs`` with the labels: text, categories, whole numbers or truth values. They become text.
        groups
            Column of ``obs`` with the donors or samples. What is chosen in the fit is then chosen by leaving out whole
            donors.
        progress
            Told the number of cells that are done, a chunk at a time.

        Raises
        ------
        InputError
            No such column, no label at all, or a single one; a labelled cell without a donor, or one donor only.
        """
        labels, known = read_labels(data.obs, label, where=data.name, classes=2)
        donors = None if groups is None else read_groups(data.obs, groups, known, where=data.name)
        cells = data[known]
        self._learn(cells, labels[known], donors, progress)
        classes, sizes = np.unique(labels[known], return_counts=True)
        self._reference = Reference(
            name=data.name,
            label=label,
            groups=groups,
            cells_per_class={str(name): int(size) for name, size in zip(classes, sizes, strict=True)},
            unlabelled=int((~known).sum()),
            genes=data.audit.found,
            vocabulary=data.vocabulary.hash,
        )
        return self

    @property
    def reference_(self) -> Reference:
        """What it was fitted on; :class:`ModelError` if it was not."""
        if self._reference is None:
            raise self._unfitted()
        return self._reference

    @property
    def classes_(self) -> tuple[str, ...]:
        """The labels it can give, sorted."""
        return tuple(self.reference_.cells_per_class)

    @property
    def cells_per_class_(self) -> dict[str, int]:
        """Cells of each label that it was fitted on."""
        return dict(self.reference_.cells_per_class)

    @property
    def unlabelled_(self) -> int:
        """Cells that were left out of the fit for having no label."""
        return self.reference_.unlabelled

    def coverage(self, cells: CellData) -> Coverage:
        """Return how many of the genes of the reference these cells were measured for."""
        genes = self.reference_.genes
        return Coverage(len(genes), len(np.intersect1d(genes, cells.audit.found, assume_unique=True)))

    def predict_proba(self, data: CellData, *, progress: Progress = None) -> pd.DataFrame:
        """Return the probability of each label.

        Returns
        -------
        DataFrame
            float64, cells x labels; the index is that of ``obs``.

        Raises
        ------
        GeneError
            The cells are aligned to another vocabulary than those of the fit.
        """
        if data.vocabulary.hash != self.reference_.vocabulary:
            found = "the cells are aligned to another vocabulary than those of the fit"
            raise GeneError(found, where=data.name, fix="Read both with the same vocabulary")
        return pd.DataFrame(self._probabilities(data, progress), index=data.obs.index, columns=list(self.classes_))

    def predict(self, data: CellData) -> pd.Series:
        """Return the most probable label of each cell: categorical with all labels, the index is that of ``obs``."""
        return self._labels(self.predict_proba(data))

    def score(self, data: CellData, label: str) -> AnnotationScores:
        """Compare predictions with the labels of cells that took no part in the fit; unlabelled cells are left out.

        Raises
        ------
        InputError
            No such column, or no label at all.
        """
        labels, known = read_labels(data.obs, label, where=data.name)
        return annotation_scores(labels[known], self._labels(self.predict_proba(data[known])))

    def _unfitted(self) -> ModelError:
        return ModelError("it has not been fitted", where=type(self).__name__, fix="Call fit(data, label) first")

    def _labels(self, probabilities: pd.DataFrame) -> pd.Series:
        codes = np.asarray(probabilities).argmax(axis=1)
        values = pd.Categorical.from_codes(codes, categories=pd.Index(self.classes_, dtype=object))
        return pd.Series(values, index=probabilities.index, name=self.reference_.label)
