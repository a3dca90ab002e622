"""Base class of all tasks: reads cells in any format, and is saved as a folder.

It follows the conventions of scikit-learn: the constructor only stores its parameters, so that ``get_params``,
``set_params`` and ``clone`` work; ``fit`` sets attributes that end in ``_``. The subclass depends on what is learned:
:class:`~cell_lm.tasks.column_estimator.ColumnEstimator` for a column of ``obs``, with
:class:`~cell_lm.tasks.classifier.Classifier` for labels; :class:`~cell_lm.tasks.response.DrugResponseRegressor` for
responses of pairs of line and drug.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError as SklearnNotFittedError

from cell_lm.data.opening import Data, Opened, open_data
from cell_lm.data.protocol import refuse_z_scores
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.errors import GeneError, ModelError
from cell_lm.files import JSON
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks import folder, ready
from cell_lm.tasks.reference import Coverage, Reference, mean_expression
from cell_lm.terminal import refuse_uncallable

Progress: TypeAlias = "Callable[[int], None] | None"
"""Called with the number of cells completed since the last call."""
Arrays: TypeAlias = Mapping[str, NDArray[Any]]

LEAST_EXPRESSION, LEAST_COVERAGE = 0.7, 0.5
"""Fraction of the log expression of the reference, or of its genes where that is unknown, below which
:class:`CoverageWarning` is issued.

Below it accuracy falls, but confidence hardly does (``benchmarks/panels.py``, docs/annotation.md).
"""
LEAST_SHARE = 0.2
"""Fraction of the log expression of the reference below which a classifier refuses cells.

Measured on real cells (``benchmarks/panels.py``): at a random fifth of the genes accuracy is .42, .85 and .31 instead
of .85, .99 and .91, at median confidences of .77, .91 and .96.
"""
FEWEST_GENES = 50
"""Fewest shared genes for which cells are not refused, unless the reference has no more."""
GENES_OF = "fit(..., genes_of=CELLS) (cell-lm annotate fit --genes-of CELLS)"


class CoverageWarning(UserWarning):
    """The cells lack many genes of the reference: predictions for them may be unreliable."""


class NotFittedError(ModelError, SklearnNotFittedError):  # type: ignore[misc]
    """The estimator has to be fitted first."""


class Fitted(NamedTuple):
    """Result of a fit as it is saved: plain values and arrays."""

    values: Mapping[str, JSON]
    arrays: Arrays


class Estimator(BaseEstimator, ABC):  # type: ignore[misc]
    """Learns from cells, and predicts for others.

    ``data`` of every method may be an AnnData, the path of a file of cells or of a store, or cells that have been read
    (:func:`cell_lm.data.read_cells`, :func:`cell_lm.data.backed.open_backed`, :class:`cell_lm.data.Store`). It is only
    read; files above 4 GB and stores are read a few thousand cells at a time.

    Attributes
    ----------
    reference_ : Reference
        Record of the cells it was fitted on.
    """

    reference_: Reference

    kinds: ClassVar[dict[str, type[Estimator]]] = {}
    """All estimators that can be saved and loaded, by the name stored in their folder."""
    unsaved: ClassVar[tuple[str, ...]] = ()
    """Parameters that are not part of ``estimator.json``: the model, which is a folder, and those that depend on the
    machine."""
    refuses_gaps: ClassVar[bool] = False
    """Whether cells that lack too many genes of the reference are refused, rather than warned of."""
    reads_z_scores: ClassVar[bool] = False
    """Whether it can read cells that are z-scored by gene."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if not cls.__name__.startswith("_"):
            Estimator.kinds.setdefault(cls.__name__, cls)

    @abstractmethod
    def _fitted(self) -> Fitted:
        """Return the result of the fit, without the reference."""

    @abstractmethod
    def _restore(self, fitted: Fitted) -> None:
        """Restore what :meth:`_fitted` returned; ValueError, KeyError or TypeError if it is inconsistent."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary to align AnnData and files to; None: the human protein-coding genes."""
        return None

    def coverage(self, data: Data, **how: Unpack[ReadKeywords]) -> Coverage:
        """Return how many genes of the reference these cells have."""
        return Coverage.of(self.reference_, open_data(data, self.vocabulary, read_options(**how)).genes)

    def save(self, path: str | Path, *, packaged_model: str | None = None) -> None:
        """Write a folder with ``estimator.json``, ``arrays.safetensors`` and, with an encoder, ``model/``.

        The write is atomic, and nothing in the folder can execute.

        Parameters
        ----------
        path
            The folder. An existing estimator is replaced; anything else is not.
        packaged_model
            Name of the packaged model that the encoder is (``"small"``): it is recorded by name and hash, and not
            copied. Such a folder works only where the package has the same model.

        Raises
        ------
        ModelError
            The encoder is not that packaged model.
        NotFittedError
            It has not been fitted.
        InputError
            There is something other than an estimator at ``path``.
        OutputError
            It could not be written; the previous content is intact.
        """
        reference, fitted = self.reference_, self._fitted()
        folder.write(
            Path(path),
            folder.Content(
                estimator=type(self).__name__,
                params=self._saved_params(),
                reference=reference,
                values=fitted.values,
                arrays=fitted.arrays,
                model=self._saved_model(),
                packaged=packaged_model,
            ),
        )

    def _saved_params(self) -> dict[str, JSON]:
        """Return the parameters of the constructor that are saved."""
        return {name: value for name, value in self.get_params(deep=False).items() if name not in self.unsaved}

    def _saved_model(self) -> CellLM | None:
        """Return the encoder that is saved."""
        return getattr(self, "model", None)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote. ``Estimator.load`` reads every kind, a subclass only its own.

        Parameters
        ----------
        path
            The folder; or the name of an annotator of the package, such as ``"blood"``
            (:func:`cell_lm.tasks.ready.ready_annotators`).

        Raises
        ------
        ModelError
            There is no estimator, or one of another kind; a part is missing, damaged or from another estimator; or it
            was written by a newer version.
        """
        path = ready.find(path)
        manifest = folder.read_manifest(path)
        kind = cls.kinds.get(manifest.estimator)
        if kind is None:
            fix = "Upgrade cell-lm, or import the module that defines it first"
            raise ModelError(f"it holds a {manifest.estimator}, which is unknown here", where=str(path), fix=fix)
        if not issubclass(kind, cls):
            fix = f"Load it with {kind.__name__}.load, or name the folder of a {cls.__name__}"
            raise ModelError(f"it holds a {kind.__name__}, not a {cls.__name__}", where=str(path), fix=fix)
        content = folder.read_content(path, manifest)
        with folder.refusing(path):
            estimator = kind(**content.params, **({} if content.model is None else {"model": content.model}))
            estimator._restore(Fitted(content.values, content.arrays))
        estimator.reference_ = content.reference
        return estimator

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the parameters in one line, without addresses of objects."""
        values = self.get_params(deep=False).items()
        return f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in values)})"

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_") and not name.startswith("_"):
            fix = "Call fit first"
            raise NotFittedError("it has not been fitted", where=type(self).__name__, fix=fix)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy that shares the model, which a fit does not change."""
        return type(self)(**self.get_params(deep=False))

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the estimator is fitted."""
        return "reference_" in vars(self)

    def _open(self, data: Data, how: ReadKeywords, progress: Progress = None) -> CellView:
        """Read cells to predict; they must be aligned to the vocabulary of the fit."""
        refuse_uncallable(progress)
        _ = self.reference_
        return self._ready(Opened(data, read_options(**how)))

    def _ready(self, opened: Opened) -> CellView:
        cells = self._usable(opened.cells(self.vocabulary))
        if cells.vocabulary.hash != self.reference_.vocabulary:
            found = "the cells are aligned to another vocabulary than those of the fit"
            raise GeneError(found, where=cells.name, fix="Read both with the same vocabulary")
        coverage = self.coverage(cells)
        least = LEAST_COVERAGE if self.reference_.expression is None else LEAST_EXPRESSION
        if coverage.expression < least:
            if self.refuses_gaps:
                refuse_gap(coverage, cells.name)
            advice = f"Give all measured genes, or fit on the genes that both have: {GENES_OF}"
            warnings.warn(f"{cells.name}: it has {coverage}. {advice}.", CoverageWarning, stacklevel=4)
        return self.cut_like_fit(cells)

    def cut_like_fit(self, cells: CellView) -> CellView:
        """Return cells cut to the genes of the fit, if the fit was made on genes that it shared with cells to predict.

        Raises
        ------
        GeneError
            Some of the cells express none of these genes.
        """
        if not self.reference_.cut:
            return cells
        cut = cells.cut(self.reference_.genes)
        empty = int((~cut.expressing()).sum())
        if empty:
            found = f"{empty:,} of {len(cells):,} cells express none of the {len(cut.genes):,} genes of the fit"
            raise GeneError(found, where=cells.name, fix="Leave these cells out; nothing can be said about them")
        return cut

    def _usable(self, cells: CellView) -> CellView:
        if not self.reads_z_scores:
            refuse_z_scores(cells.dataset, where=cells.name)
        return cells

    def _refuse_other_vocabulary(self, cells: CellView, vocabulary: Vocabulary | None) -> None:
        if vocabulary is not None and cells.vocabulary.hash != vocabulary.hash:
            found = f"the cells are aligned to a vocabulary of {len(cells.vocabulary):,} genes that is not the model's"
            raise GeneError(found, where=cells.name, fix="Read them with vocabulary=model.vocabulary")


def refuse_other_genes(reference: CellView, genes: NDArray[np.int64], where: str) -> None:
    """Raise :class:`GeneError`, or warn, where cells to learn from beside a reference lack many of its genes."""
    record = Reference(reference.name, "", None, len(reference), 0, reference.genes, reference.vocabulary.hash)
    coverage = Coverage.of(replace(record, expression=mean_expression(reference)), genes)
    refuse_gap(coverage, where)
    if coverage.expression < LEAST_EXPRESSION:
        advice = f"Give all measured genes, or fit on the genes that both have: {GENES_OF}"
        warnings.warn(f"{where}: it has {coverage}. {advice}.", CoverageWarning, stacklevel=5)


def refuse_gap(coverage: Coverage, where: str) -> None:
    """Raise :class:`GeneError` for cells with too few of the genes of the reference to be classified."""
    if coverage.expression < LEAST_SHARE or coverage.shared < FEWEST_GENES:
        found = f"it has {coverage}, too few: labels would be wrong, and look certain"
        raise GeneError(
            found, where=where, fix=f"Give all measured genes, or fit on the genes that both have: {GENES_OF}"
        )


def _short(value: object) -> str:
    if not isinstance(value, CellLM):
        return repr(value)
    config = value.config
    return f"<{config.attention} model, {config.layers} layers of width {config.width}>"


def checked(arrays: Arrays, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return an array of a folder; ValueError if it is not finite float64 of this shape (-1: any length)."""
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(w in (-1, n) for n, w in zip(array.shape, shape, strict=True))
    if not fits or array.dtype != np.float64 or not np.isfinite(array).all():
        raise ValueError(f"'{name}' is {array.dtype} {array.shape}, not finite float64 {shape}")
    return array
