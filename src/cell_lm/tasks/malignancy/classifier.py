"""Tumour or normal cell, learned from the user's labels."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.obs.cell_types import LabelRules
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN, MalignancyColumn
from cell_lm.data.opening import Data
from cell_lm.data.read_options import ReadKeywords
from cell_lm.data.view import CellView
from cell_lm.errors import InputError
from cell_lm.evaluation.sensitivity_metrics import SensitivityScores, sensitivity_scores
from cell_lm.genes import Vocabulary
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.column_estimator import Target
from cell_lm.tasks.estimator import Arrays, Fitted, Progress, checked
from cell_lm.tasks.features import CACHE, Device, embed_cells
from cell_lm.tasks.given_model import GivenModel, WithModel
from cell_lm.tasks.malignancy.calls import CALLS, call_table, check_fraction
from cell_lm.tasks.malignancy.likeness import Likeness, encoder_of_likeness, learn_likeness, warn_if_unlike

_WORDS = {NORMAL: "normal", TUMOUR: "tumour", UNKNOWN: ""}
_POINTS, _PART = "likeness.points", "annotator."
_FEWEST = 2


class MalignancyClassifier(WithModel, Classifier):
    """Separates tumour from normal cells, with a probability that left-out donors calibrate.

    It is a :class:`~cell_lm.tasks.annotation.CellTypeClassifier` of two types, which also measures how far cells are
    from those of the fit (:mod:`cell_lm.tasks.malignancy.likeness`). It does not look at copy numbers. What it
    learns is how the tumour cells of the fit differ from its normal cells; in other tissues and tumours that is
    often something else (docs/malignancy.md).

    Parameters
    ----------
    model
        The encoder, or its name or path (``"small"``, a model or run folder), which is read when it is first needed.
        Its weights are not changed; it is moved to the device, and stays there.
    values
        Meaning of values of the column of labels that are not recognised: ``{"Epithelial": "tumour"}``; see
        :class:`cell_lm.data.MalignancyColumn`.
    certainty
        A call is uncertain if its probability is lower, or if the cell is unlike those of the fit.
    unlike_rate
        Fraction of the cells of left-out donors that may be called unlike the others.
    seed, device, precision, cache
        As of :class:`~cell_lm.tasks.annotation.CellTypeClassifier`.

    Attributes
    ----------
    annotator_ : CellTypeClassifier
        The classifier of the two kinds of cells.
    likeness_ : Likeness
        Cells of the fit to compare with, and the threshold.

    Examples
    --------
    >>> classifier = MalignancyClassifier(model, values={"putative": "tumour"}).fit(adata, "malignant", groups="donor")
    >>> table = classifier.table(other)  # probability, call, uncertain, unlike, distance
    """

    annotator_: CellTypeClassifier
    likeness_: Likeness
    unsaved: ClassVar[tuple[str, ...]] = ("model", "device")

    def __init__(
        self,
        model: GivenModel,
        *,
        values: Mapping[str, str] | None = None,
        certainty: float = 0.9,
        unlike_rate: float = 0.05,
        seed: int = 0,
        device: Device = None,
        precision: Precision = "float32",
        cache: bool = True,
    ) -> None:
        self.model = model
        self.values = values
        self.certainty = certainty
        self.unlike_rate = unlike_rate
        self.seed = seed
        self.device = device
        self.precision = precision
        self.cache = cache

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the model."""
        return self.resolved_model.vocabulary

    def placed(self, device: Device = None, precision: Precision | None = None) -> Self:
        """Return the same fitted classifier for another device or precision; None: unchanged."""
        other = copy(self)
        other.device, other.precision = device or self.device, precision or self.precision
        other.annotator_ = self.annotator_.placed(device, precision)
        return other

    def table(self, data: Data, *, progress: Progress = None, **how: Unpack[ReadKeywords]) -> pd.DataFrame:
        """Return probability, call and doubt for each cell.

        Parameters and errors are those of :meth:`predict_proba`.

        Returns
        -------
        DataFrame
            With the index of ``obs``: ``probability`` (float64, of being a tumour cell), ``call`` (categorical,
            ``"normal"`` or ``"tumour"``), ``uncertain`` (bool: the probability of the call is below ``certainty``, or
            the cell is unlike those of the fit), ``unlike`` (bool), ``distance`` (float64, from the cells of the fit).

        Warns
        -----
        DissimilarCellsWarning
            More than a quarter of the cells are unlike those of the fit.
        """
        cells = self._open(data, how)
        probability = self._probabilities(cells, progress)[:, CALLS.index("tumour")]
        distance = self.likeness_.distances(self._compared(cells))
        unlike = distance > self.likeness_.threshold
        warn_if_unlike(unlike, cells.name, stacklevel=3)
        return call_table(probability, distance, unlike, certainty=self.certainty, index=cells.index)

    def malignancy_scores(
        self, data: Data, label: str, *, progress: Progress = None, **how: Unpack[ReadKeywords]
    ) -> SensitivityScores:
        """Compare the probabilities with known labels; tumour cells are the positive ones. Unknown ones are left out.

        Score only cells of donors that were not in the fit.

        Raises
        ------
        InputError
            No such column, values that are not recognised, or cells of one kind only; or the cells cannot be read.
        """
        _ = self.reference_
        cells, (labels, known) = self.labelled(data, label, **how)
        probability = self._probabilities(cells[known], progress)[:, CALLS.index("tumour")]
        return binary_scores(labels[known] == "tumour", probability, where=cells.name)

    def _read_target(
        self,
        obs: pd.DataFrame,
        label: str,
        *,
        where: str,
        training: bool,
        rules: LabelRules | None = None,  # noqa: ARG002
    ) -> Target:
        return read_kinds(obs, MalignancyColumn(label, self.values or {}), where=where, both=training)

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        where = type(self).__name__
        check_fraction("certainty", self.certainty, 0.5, where)
        check_fraction("unlike_rate", self.unlike_rate, 0.001, where)
        annotator = self._new_annotator()
        annotator._learn(cells, labels, groups, progress)
        codes = (labels == "tumour").astype(np.int64)
        embedding, (_, digest) = self._compared(cells), encoder_of_likeness(self.resolved_model)
        how: dict[str, Any] = {"rate": self.unlike_rate, "seed": self.seed, "encoder": digest}
        self.likeness_ = learn_likeness(embedding, codes, groups, **how)
        self.annotator_ = annotator

    def _compared(self, cells: CellView) -> NDArray[np.float32]:
        """Return the embedding in which cells are compared with those of the fit, float32 [cells, width]."""
        encoder, _ = encoder_of_likeness(self.resolved_model)
        store = CACHE if self.cache else None
        return embed_cells(encoder, cells, device=self.device, precision=self.precision, cache=store)

    def _new_annotator(self) -> CellTypeClassifier:
        how: dict[str, Any] = {"device": self.device, "precision": self.precision, "cache": self.cache}
        return CellTypeClassifier(self.resolved_model, unknown=None, seed=self.seed, **how)

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        return self.annotator_._probabilities(cells, progress)

    def _learned(self) -> Fitted:
        annotator, likeness = self.annotator_._learned(), self.likeness_
        values = {name: getattr(likeness, name) for name in ("threshold", "rate", "unit", "encoder")}
        arrays = {_PART + name: array for name, array in annotator.arrays.items()} | {_POINTS: likeness.points}
        return Fitted({"annotator": dict(annotator.values), "likeness": dict(values)}, arrays)

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        if list(self.classes_) != list(CALLS):
            raise ValueError("its labels are not normal and tumour")
        likeness = values["likeness"]
        if likeness["unit"] not in ("donor", "cell"):
            raise ValueError("what was left out is neither donors nor cells")
        encoder, digest = encoder_of_likeness(self.resolved_model)
        if likeness["encoder"] != digest:
            raise ValueError("its cells were compared by the packaged model of another version")
        points = checked(arrays, _POINTS, (-1, encoder.config.width))
        numbers = float(likeness["threshold"]), float(likeness["rate"])
        self.likeness_ = Likeness(points, *numbers, likeness["unit"], digest)
        own = {name.removeprefix(_PART): array for name, array in arrays.items() if name.startswith(_PART)}
        self.annotator_ = self._new_annotator()
        self.annotator_.classes_ = self.classes_
        self.annotator_._restore_learned(values["annotator"], own)


def read_kinds(obs: pd.DataFrame, column: MalignancyColumn, *, where: str, both: bool) -> Target:
    """Read a column as ``"tumour"``, ``"normal"`` and, not known, ``""``.

    Raises
    ------
    InputError
        No such column, values that are not recognised, no cell of known kind; or, with ``both``, fewer than two cells
        of a kind.
    """
    malignancy = column.read(obs, where=where)
    tumour, normal = int((malignancy == TUMOUR).sum()), int((malignancy == NORMAL).sum())
    if not tumour + normal or (both and min(tumour, normal) < _FEWEST):
        found = f"obs column '{column.column}' names {tumour:,} tumour and {normal:,} normal cells"
        fix = f"Give at least {_FEWEST} of each kind" if both else "Choose a column that separates tumour from normal"
        raise InputError(found, where=where, fix=fix)
    words = np.array([_WORDS[int(value)] for value in malignancy], object)
    return Target(words, np.asarray(malignancy != UNKNOWN, bool))


def binary_scores(tumour: NDArray[np.bool_], probability: NDArray[np.float64], *, where: str) -> SensitivityScores:
    """Compare the probability of being a tumour cell with the truth; the scores are those of two classes.

    Raises
    ------
    InputError
        All cells are of one kind.
    """
    if tumour.all() or not tumour.any():
        found = f"all {len(tumour):,} cells of known kind are {'tumour' if tumour.all() else 'normal'} cells"
        raise InputError(found, where=where, fix="Score cells of both kinds")
    return sensitivity_scores(tumour, probability)
