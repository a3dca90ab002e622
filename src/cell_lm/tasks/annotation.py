"""Cell type annotation: a frozen encoder and a linear head on its CLS embedding."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm.data.cells import CellData
from cell_lm.data.scale.check import Scale
from cell_lm.evaluation.annotation_metrics import AnnotationScores
from cell_lm.evaluation.linear_head import LinearHead, fit_head
from cell_lm.model import CellLM
from cell_lm.tasks import classifier_folder
from cell_lm.tasks.annotator import Annotator, Progress
from cell_lm.tasks.labels import read_groups, read_labels
from cell_lm.tasks.reading import as_cells, embed_cells, name_of, refuse_other_kinds

LEAST_COVERAGE = 0.5
"""Share of the genes of the reference below which :class:`CoverageWarning` is given.

Below it accuracy falls, while confidence hardly does: confidence does not tell.
"""


class CoverageWarning(UserWarning):
    """The cells to be annotated lack many genes that those of the fit had: their labels may be worth little."""


class CellTypeClassifier(Annotator):
    """Annotates cells by a frozen encoder and a linear head (:mod:`cell_lm.evaluation.linear_head`).

    Every method takes an AnnData, which is only read, or cells from :func:`cell_lm.data.read_cells`.

    Parameters
    ----------
    model
        The encoder; it is not changed.
    seed
        Of the division of the training cells on which the regularisation is chosen.

    Attributes
    ----------
    reference_ : Reference
        What it was fitted on: cells per class, cells without label, genes.

    Examples
    --------
    >>> classifier = CellTypeClassifier(model).fit(reference, "cell_type", groups="donor")
    >>> labels = classifier.predict(adata)
    """

    def __init__(self, model: CellLM, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.model = model
        self._head: LinearHead | None = None
        self._progress: Progress = None

    @property
    def head_(self) -> LinearHead:
        """The linear head, with how its regularisation was chosen; :class:`ModelError` before the fit."""
        if self._head is None:
            raise self._unfitted()
        return self._head

    def fit(
        self,
        data: AnnData | CellData,
        label: str,
        *,
        groups: str | None = None,
        layer: str | None = None,
        input: Scale = "counts",  # noqa: A002
        gene_column: str | None = None,
        progress: Progress = None,
    ) -> Self:
        """Fit the head on labelled cells; the encoder stays as it is.

        Parameters
        ----------
        data
            The reference: raw counts of human genes.
        label
            Column of ``obs`` with the labels. Whole numbers, categories and truth values become text. Cells without a
            label (NaN, None, blank, or those words as text) are left out; ``unlabelled_`` is their number.
        groups
            Column of ``obs`` with the donors or samples. Name it wherever there is one: regularisation and confidence
            are then chosen by leaving out whole donors, as the cells to be annotated will come from another one.
        layer, input, gene_column
            How the AnnData is read: see :func:`cell_lm.data.from_anndata`.
        progress
            Told the number of cells embedded, a chunk at a time.

        Returns
        -------
        CellTypeClassifier
            Itself.

        Raises
        ------
        InputError
            No such column, no label at all, or a single one; a labelled cell without donor, or a single donor; or the
            cells cannot be read.
        """
        refuse_other_kinds(data)
        _, known = read_labels(data.obs, label, where=name_of(data), classes=2)  # before all that takes time
        if groups is not None:
            read_groups(data.obs, groups, known, where=name_of(data))
        cells = as_cells(data, self.model.vocabulary, layer=layer, input=input, gene_column=gene_column)
        return super().fit(cells, label, groups=groups, progress=progress)

    def predict_proba(
        self,
        data: AnnData | CellData,
        *,
        layer: str | None = None,
        input: Scale = "counts",  # noqa: A002
        gene_column: str | None = None,
        progress: Progress = None,
    ) -> pd.DataFrame:
        """Return the probability of each label for each cell.

        Parameters
        ----------
        data
            Cells to annotate.
        layer, input, gene_column
            How the AnnData is read: see :func:`cell_lm.data.from_anndata`.
        progress
            Told the number of cells embedded, a chunk at a time.

        Returns
        -------
        DataFrame
            float64, cells x labels, rows sum to 1; the index is that of ``obs``. A cell of a type that the reference
            lacks is given one of the others, at times with confidence.

        Raises
        ------
        ModelError
            It has not been fitted.
        InputError
            The cells cannot be read.

        Warns
        -----
        CoverageWarning
            The cells have less than half of the genes that the reference had (:meth:`coverage`).
        """
        _ = self.head_
        cells = as_cells(data, self.model.vocabulary, layer=layer, input=input, gene_column=gene_column)
        self._warn_of_missing_genes(cells)
        return super().predict_proba(cells, progress=progress)

    def predict(
        self,
        data: AnnData | CellData,
        *,
        layer: str | None = None,
        input: Scale = "counts",  # noqa: A002
        gene_column: str | None = None,
        progress: Progress = None,
    ) -> pd.Series:
        """Return the most probable label of each cell.

        Parameters and errors are those of :meth:`predict_proba`.

        Returns
        -------
        Series
            Categorical with all known labels; the index is that of ``obs``, the name that of the column of the fit.
        """
        return self._labels(
            self.predict_proba(data, layer=layer, input=input, gene_column=gene_column, progress=progress)
        )

    def score(
        self,
        data: AnnData | CellData,
        label: str,
        *,
        layer: str | None = None,
        input: Scale = "counts",  # noqa: A002
        gene_column: str | None = None,
    ) -> AnnotationScores:
        """Compare predictions with known labels; cells without a label are left out.

        Judge only cells of donors that took no part in the fit. A label that the reference lacks counts as wrong.

        Raises
        ------
        InputError
            No such column, no label at all, or the cells cannot be read.
        """
        _ = self.head_
        refuse_other_kinds(data)
        read_labels(data.obs, label, where=name_of(data))
        cells = as_cells(data, self.model.vocabulary, layer=layer, input=input, gene_column=gene_column)
        return super().score(cells, label)

    def save(self, path: str | Path) -> None:
        """Write a folder: ``classifier.json``, ``head.safetensors`` and ``model/``, whole or not at all.

        Parameters
        ----------
        path
            The folder. A classifier that is there is replaced; anything else is not.

        Raises
        ------
        ModelError
            It has not been fitted.
        InputError
            There is something else at ``path``.
        """
        classifier_folder.write(Path(path), self.model, self.head_, self.reference_, seed=self.seed)

    @classmethod
    def load(cls, path: str | Path) -> CellTypeClassifier:
        """Read what :meth:`save` wrote; probabilities are the same.

        Raises
        ------
        ModelError
            There is no classifier, a part of it is missing or damaged, its parts are not of one another, or it was
            written by a newer version.
        """
        saved = classifier_folder.read(Path(path))
        classifier = cls(saved.model, seed=saved.seed)
        classifier._head, classifier._reference = saved.head, saved.reference
        return classifier

    def _learn(
        self, cells: CellData, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        self._head = fit_head(embed_cells(self.model, cells, progress=progress), labels, groups=groups, seed=self.seed)

    def _probabilities(self, cells: CellData, progress: Progress) -> NDArray[np.float64]:
        return self.head_.probabilities(embed_cells(self.model, cells, progress=progress))

    def _warn_of_missing_genes(self, cells: CellData) -> None:
        coverage = self.coverage(cells)
        if coverage.share < LEAST_COVERAGE:
            advice = "Give all measured genes, or fit on a reference cut to the genes of these cells"
            warnings.warn(f"{cells.name}: it has {coverage}. {advice}.", CoverageWarning, stacklevel=3)
