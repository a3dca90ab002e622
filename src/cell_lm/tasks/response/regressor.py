"""Drug response of cell lines: which drug for which line, and how sure.

A fit reads a table of responses and the expression of the lines. A prediction is for any line and any drug: lines of
the fit with what was measured in them, other lines by their expression, other lines of which a few drugs were measured,
and drugs that were never measured by their structure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.opening import Data, Opened
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.response.table import ResponseTable
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, InputError
from cell_lm.files import JSON
from cell_lm.genes import Vocabulary
from cell_lm.remedies import option
from cell_lm.tasks.estimator import Fitted, Progress
from cell_lm.tasks.features import Device
from cell_lm.tasks.given_model import GivenModel, WithOptionalModel
from cell_lm.tasks.reference import Reference
from cell_lm.tasks.response import cells as vectors
from cell_lm.tasks.response.core import LEAST_LINES, fit_response_model
from cell_lm.tasks.response.drugs import LEAST_DRUGS
from cell_lm.tasks.response.names import line_rows, refuse_unknown_drugs
from cell_lm.tasks.response.predicting import Asked, predict_lines
from cell_lm.tasks.response.saved import pack, unpack
from cell_lm.tasks.response.scoring import ScoredRegressor
from cell_lm.tasks.response.tables import refuse_few, refuse_other_unit, refuse_strangers, structures_of
from cell_lm.tasks.response.unfinished import begun_with, discard, keep_parts, refuse_unfinished

Floats = NDArray[np.float64]


class DrugResponseRegressor(WithOptionalModel, ScoredRegressor):
    """Predicts the response of cell lines to drugs.

    Parameters
    ----------
    model
        The encoder, for ``cells="cell_lm"`` and ``"both"``, or its name or path (``"small"``, a model or run folder),
        which is read when it is first needed; it is not changed.
    cells
        Vector of a line: ``"genes"`` (log2 expression), ``"cell_lm"`` (embedding) or ``"both"``
        (:mod:`cell_lm.tasks.response.cells`).
    expression
        What the expression matrix holds: ``"rma"`` (log2 intensities), ``"log2_tpm"`` (log2 of 1 + TPM) or
        ``"counts"``; it is checked.
    members
        Networks in the ensemble of the neural part; 0: closed forms only.
    folds
        Folds in which lines are left out, for residuals and intervals.
    confidence
        Probability that an interval holds the response of a pair of a new line.
    trees
        Trees in each forest of the part that predicts new drugs.
    graphs
        Train the graph encoder of molecules, which corrects the predicted mean of a new drug. On GDSC2 it does not help
        (docs/drug_response.md).
    seed
        Seed of folds, networks and forests.
    device, precision
        Of the encoder, as for :class:`~cell_lm.tasks.annotation.CellTypeClassifier`.

    Attributes
    ----------
    lines_, drugs_ : ndarray
        str objects: names of the lines and drugs of the fit, sorted.
    smiles_ : dict
        SMILES by drug.
    unit_ : {"ln_ic50", "auc"}
        Unit of the responses.
    model_ : ResponseModel
        The fitted model, on arrays.
    reference_ : Reference
        Record of the lines of the fit.

    Examples
    --------
    >>> table = read_response("GDSC2_fitted_dose_response.csv")
    >>> regressor = DrugResponseRegressor(expression="rma").fit("lines.h5ad", table)
    >>> regressor.predict("biopsies.h5ad")  # line, drug, response, low, high, known
    """

    unsaved: ClassVar[tuple[str, ...]] = ("model", "device")
    smiles_: dict[str, str]
    _unfinished: Path | None = None
    """Folder of the parts of a fit that has not been saved."""

    def __init__(
        self,
        model: GivenModel | None = None,
        *,
        cells: vectors.Vectors = "genes",
        expression: vectors.Expression = "rma",
        members: int = 4,
        folds: int = 5,
        confidence: float = 0.9,
        trees: int = 300,
        graphs: bool = False,
        seed: int = 0,
        device: Device = None,
        precision: Precision = "float32",
    ) -> None:
        self.model = model
        self.cells = cells
        self.expression = expression
        self.members = members
        self.folds = folds
        self.confidence = confidence
        self.trees = trees
        self.graphs = graphs
        self.seed = seed
        self.device = device
        self.precision = precision

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary of the model; without one, the human protein-coding genes."""
        model = self.resolved_model
        return None if model is None else model.vocabulary

    def fit(
        self,
        data: Data,
        responses: ResponseTable,
        *,
        line_column: str | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> Self:
        """Learn from measured responses and the expression of the lines.

        An interrupted fit with a ``checkpoint`` goes on with ``resume``, and gives the same bits.

        Parameters
        ----------
        data
            Lines by genes.
        responses
            Of :func:`cell_lm.data.response.read_response`.
        line_column
            Column of ``obs`` with the names that the table uses; default: ``obs_names``.
        checkpoint
            Folder for the parts of the fit that are done; :meth:`save` removes it. None: nothing is kept.
        resume
            Go on with the parts that are in ``checkpoint``; if there are none, the fit is begun.
        progress
            Called with the number of parts completed since the last call; there are :attr:`parts`.
        **how
            How the expression is read: ``layer``, ``gene_column``, ``min_overlap``; the scale follows ``expression``.

        Raises
        ------
        InputError
            Fewer than ten lines have both, there is one drug only, a name is twice in ``obs``, SMILES cannot be read;
            or the expression cannot be read; or ``checkpoint`` holds a fit that was begun with something else, or
            ``resume`` is not set for it.
        ModelError
            ``checkpoint`` is damaged.
        OutputError
            ``checkpoint`` cannot be written.
        """
        self._check_parameters()
        folder = _checkpoint_folder(checkpoint, resume=resume)
        opened = self._opened(data, how)
        with vectors.explained():
            cells = opened.cells(self.vocabulary)
        self._refuse_other_vocabulary(cells, self.vocabulary)
        matrix = responses.matrix()
        rows, found = line_rows(cells, line_column, matrix.index, where=cells.name)
        if len(found) < LEAST_LINES or matrix.shape[1] < 2:
            refuse_few(len(found), len(matrix), matrix.shape[1], responses.name, cells)
        matrix = matrix.loc[found]
        matrix = matrix.loc[:, matrix.notna().any(axis=0)]
        smiles = {drug: text for drug, text in responses.smiles().items() if drug in matrix.columns}
        structures, with_structure = structures_of(smiles, list(matrix.columns), responses.name)
        chosen = cells[rows]
        features = self._features(chosen, chosen.genes)
        names, values = {"lines": found, "drugs": list(map(str, matrix.columns))}, matrix.to_numpy()
        begun = {} if folder is None else begun_with(self._saved_params(), names, features, values, structures)
        with nullcontext() if folder is None else keep_parts(folder, begun, resume=resume) as done:
            fitted = fit_response_model(
                features,
                values,
                structures=structures,
                with_structure=with_structure,
                members=self.members,
                folds=min(self.folds, len(found)),
                confidence=self.confidence,
                trees=self.trees,
                graphs=self.graphs,
                seed=self.seed,
                progress=progress,
                done=done,
            )
        self._unfinished = folder
        self.lines_, self.drugs_ = np.array(found, object), matrix.columns.to_numpy(object)
        self.smiles_, self.unit_, self.model_ = smiles, responses.unit, fitted
        self.reference_ = Reference(
            name=cells.name,
            label=responses.unit,
            groups=None,
            cells=len(found),
            unlabelled=len(cells) - len(found),
            genes=cells.genes,
            vocabulary=cells.vocabulary.hash,
        )
        return self

    def save(self, path: str | Path, *, packaged_model: str | None = None) -> None:
        """Write the folder, as :meth:`cell_lm.tasks.Estimator.save`, and remove the checkpoint of the fit."""
        super().save(path, packaged_model=packaged_model)
        if self._unfinished is not None:
            discard(self._unfinished)
            self._unfinished = None

    @property
    def parts(self) -> int:
        """Parts of a fit, for its progress."""
        return self.folds + 3

    def predict(
        self,
        data: Data | None = None,
        *,
        drugs: Sequence[str] | None = None,
        new_drugs: Mapping[str, str] | None = None,
        measured: ResponseTable | None = None,
        line_column: str | None = None,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> pd.DataFrame:
        """Return the response of every line to every drug.

        Parameters
        ----------
        data
            Lines by genes; None: the lines of the fit. A line that has the name of one of the fit is taken for it:
            what was measured in it is used.
        drugs
            Names of drugs of the fit; default: all.
        new_drugs
            SMILES of drugs that were never measured, by name.
        measured
            Responses that were measured in these lines, of drugs of the fit and in the unit of the fit.
        line_column
            Column of ``obs`` with the names of the lines; default: ``obs_names``.
        progress
            Called with the number of lines completed since the last call.
        **how
            As for :meth:`fit`.

        Returns
        -------
        DataFrame
            ``line``, ``drug``, ``response``, ``low``, ``high`` (bounds of the interval) and ``known``: ``"measured"``
            (response as measured; no bounds), ``"known line"``, ``"line with measured drugs"``, ``"new line"``,
            ``"new drug"`` (line of the fit) or ``"both new"``.

        Raises
        ------
        NotFittedError
            It has not been fitted.
        InputError
            A drug is unknown (close names are suggested), SMILES cannot be read, lines have the same name, or the
            expression cannot be read.
        """
        _ = self.reference_
        wanted = self._wanted(drugs, new_drugs)
        given = self._measured(measured)
        names, features = (list(self.lines_), None) if data is None else self._read(data, line_column, how)
        known = {str(name): row for row, name in enumerate(self.lines_)}
        if measured is not None:
            refuse_strangers(given, names, measured.name)
        parts = []
        is_known = np.array([name in known for name in names])
        for of_fit in (True, False):
            rows = np.flatnonzero(is_known == of_fit)
            if len(rows):
                some = [names[row] for row in rows]
                more = given.reindex(some).to_numpy(np.float64) if len(given) else None
                own = None if features is None else features[rows]
                asked = Asked(some, own, more, wanted, dict(new_drugs or {}))
                parts.append(predict_lines(self.model_, asked, self.lines_, self.drugs_, of_fit=of_fit))
            if progress is not None:
                progress(len(rows))
        table = pd.concat(parts)
        order = {name: place for place, name in enumerate(names)}
        return table.sort_values("line", key=lambda each: each.map(order), kind="stable").reset_index(drop=True)

    def _check_parameters(self) -> None:
        for name, value, known in (
            ("cells", self.cells, ("genes", "cell_lm", "both")),
            ("expression", self.expression, tuple(vectors.SCALES)),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} is unknown", fix=f"Choose one of: {', '.join(known)}")
        if not 0.5 <= self.confidence < 1 or self.folds < 2 or self.members < 0 or self.trees < 1:
            found = f"confidence={self.confidence}, folds={self.folds}, members={self.members}, trees={self.trees}"
            fix = "Give a confidence from .5 to below 1, at least 2 folds, at least a tree, and no negative number"
            raise ConfigError(found, fix=fix)

    def _opened(self, data: Data, how: ReadKeywords) -> Opened:
        read = read_options(**how)
        if isinstance(data, CellView) or read.scale not in ("counts", vectors.SCALES[self.expression]):
            fix = f"State what the matrix holds by {option('expression')} alone, and pass the AnnData or the file"
            raise InputError(f"scale={read.scale!r} for expression={self.expression!r}", where="lines", fix=fix)
        return Opened(data, vectors.reading(read, self.expression))

    def _read(self, data: Data, line_column: str | None, how: ReadKeywords) -> tuple[list[str], Floats]:
        with vectors.explained():
            cells = self._ready(self._opened(data, how))
        rows, names = line_rows(cells, line_column, None, where=cells.name)
        return names, self._features(cells[rows], self.reference_.genes)

    def _features(self, cells: CellView, genes: NDArray[np.int64]) -> Floats:
        parts = []
        if self.cells in ("genes", "both"):
            parts.append(vectors.gene_values(cells, genes, self.expression))
        if self.cells in ("cell_lm", "both"):
            parts.append(vectors.embeddings(cells, self.resolved_model, self.device, self.precision))
        return np.hstack(parts)

    def _wanted(self, drugs: Sequence[str] | None, new_drugs: Mapping[str, str] | None) -> list[str]:
        wanted = [str(drug) for drug in (self.drugs_ if drugs is None else drugs)]
        refuse_unknown_drugs(wanted, self.drugs_)
        both = sorted(set(new_drugs or ()) & set(map(str, self.drugs_)))
        if both:
            found = f"'{both[0]}' is a drug of the fit, and its SMILES was given as of a new one"
            raise InputError(found, where="new_drugs", fix="Leave it out, or give it another name")
        if new_drugs and self.model_.cold is None:
            found = f"the fit had fewer than {LEAST_DRUGS} drugs with a structure"
            fix = "Fit on a table with SMILES to predict drugs that were never measured"
            raise InputError(found, where="new_drugs", fix=fix)
        if not wanted and not new_drugs:
            raise InputError("there is no drug to predict", where="drugs", fix="Name at least one")
        return wanted

    def _measured(self, measured: ResponseTable | None) -> pd.DataFrame:
        if measured is None:
            return pd.DataFrame(columns=self.drugs_)
        refuse_other_unit(measured, self.unit_, "the measured responses")
        refuse_unknown_drugs(list(measured.drugs), self.drugs_, where=measured.name)
        return measured.matrix().reindex(columns=self.drugs_)

    def _fitted(self) -> Fitted:
        about: dict[str, JSON] = {
            "lines": list(self.lines_),
            "drugs": list(self.drugs_),
            "smiles": dict(self.smiles_),
            "unit": self.unit_,
        }
        values, arrays = pack(self.model_)
        return Fitted({**about, "model": values}, arrays)

    def _restore(self, fitted: Fitted) -> None:
        values = dict(fitted.values)
        lines, drugs, smiles = values["lines"], values["drugs"], values["smiles"]
        if not (isinstance(lines, list) and isinstance(drugs, list) and isinstance(smiles, dict)):
            raise ValueError("its lines, drugs or structures are no lists")
        self.lines_, self.drugs_ = np.array(lines, object), np.array(drugs, object)
        self.smiles_, self.unit_ = {str(k): str(v) for k, v in smiles.items()}, str(values["unit"])
        self.model_ = unpack(values["model"], fitted.arrays, len(lines), len(drugs), self.trees, self.seed)


def _checkpoint_folder(checkpoint: str | Path | None, *, resume: bool) -> Path | None:
    """Return the folder of an unfinished fit, after refusing one that cannot be used."""
    if checkpoint is None:
        if resume:
            raise ConfigError("resume=True without a checkpoint", fix="Name the folder of the fit by checkpoint=")
        return None
    refuse_unfinished(Path(checkpoint), resume=resume)
    return Path(checkpoint)
