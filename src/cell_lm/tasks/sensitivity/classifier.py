"""Drug sensitivity of single cells, learned from few or many labelled cells, and from those without a label."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.config import Precision
from cell_lm.data.opening import Data, Opened, open_data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, CountsError, InputError
from cell_lm.evaluation.sensitivity_metrics import SensitivityScores, sensitivity_scores
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.column_estimator import Target
from cell_lm.tasks.estimator import Arrays, Fitted, Progress, checked
from cell_lm.tasks.features import CACHE, Device, embed_cells
from cell_lm.tasks.sensitivity.checks import check_labels, common_genes, restored, spreads_of
from cell_lm.tasks.sensitivity.components import Components
from cell_lm.tasks.sensitivity.fitting import TRIED, Fit, fit
from cell_lm.tasks.sensitivity.self_training import Line
from cell_lm.tasks.sensitivity.values import for_encoder, gene_values

ENCODER_COMPONENTS = 10
SEPARATED = 2.0
"""Distance of the two groups, in standard deviations of the score, below which :class:`SeparationWarning` is issued."""
Parts = Literal["both", "genes", "encoder"]


class SeparationWarning(UserWarning):
    """The scores of the cells do not form two groups: prevalence and probabilities may be wrong."""


class DrugSensitivityClassifier(Classifier):
    """Tells sensitive from resistant cells, with calibrated probabilities.

    Cells without a label are learned from, too (:mod:`cell_lm.tasks.sensitivity.self_training`): blank rows of the
    column of labels, and the cells given as ``unlabelled``.

    Parameters
    ----------
    model
        The encoder; None: the genes alone. Its weights are not changed; it is moved to the device, and stays there.
    sensitive
        The label of sensitive cells; the other label is that of resistant ones.
    prior
        Fraction of sensitive cells among all cells, 0 to 1; None: it is estimated. State it if it is known: with a
        handful of labels the estimate can be far off.
    components
        Number of principal components of the genes; None: chosen where there are labels enough, else 10.
    parts
        ``"both"`` genes and encoder (the genes alone if there is no model), or one of them.
    self_training
        Learn from the unlabelled cells. Without it, they are not used at all.
    certainty
        A cell is flagged as uncertain if the probability of its call is lower.
    seed
        Seed of the folds of the labelled cells.
    device, precision, cache
        Of the encoder; see :class:`~cell_lm.tasks.annotation.CellTypeClassifier`.

    Attributes
    ----------
    fit_ : Fit
        The calibrated score.
    prevalence_ : float
        Fraction of sensitive cells, stated or estimated.
    separation_ : float
        Distance of the two groups of cells, in standard deviations of the score.
    learned_from_ : int
        Number of unlabelled cells that were learned from.

    Examples
    --------
    >>> classifier = DrugSensitivityClassifier(prior=0.1).fit(adata, "response")
    >>> table = classifier.table(adata)  # score, probability, call, uncertain
    """

    fit_: Fit
    genes_: Components | None
    encoder_: Components | None
    spreads_: NDArray[np.float64]
    z_scored_: bool
    learned_from_: int
    unsaved: ClassVar[tuple[str, ...]] = ("model", "device")
    reads_z_scores: ClassVar[bool] = True

    def __init__(
        self,
        model: CellLM | None = None,
        *,
        sensitive: str = "sensitive",
        prior: float | None = None,
        components: int | None = None,
        parts: Parts = "both",
        self_training: bool = True,
        certainty: float = 0.9,
        seed: int = 0,
        device: Device = None,
        precision: Precision = "float32",
        cache: bool = True,
    ) -> None:
        self.model = model
        self.sensitive = sensitive
        self.prior = prior
        self.components = components
        self.parts = parts
        self.self_training = self_training
        self.certainty = certainty
        self.seed = seed
        self.device = device
        self.precision = precision
        self.cache = cache

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary of the model; None without one."""
        return None if self.model is None else self.model.vocabulary

    @property
    def prevalence_(self) -> float:
        """Fraction of sensitive cells, stated or estimated."""
        return self.fit_.prevalence

    @property
    def separation_(self) -> float:
        """Distance of the two groups, in standard deviations of the score."""
        return self.fit_.separation

    def fit(
        self,
        data: Data,
        label: str,
        *,
        groups: str | None = None,
        unlabelled: Data | None = None,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> Self:
        """Learn from labelled and unlabelled cells.

        Parameters
        ----------
        data
            Cells, of which at least two of each kind have a label.
        label
            Column of ``obs`` with two labels. Cells without one are learned from as unlabelled.
        groups
            Column of ``obs`` with the donors or samples; with labels enough, whole donors are then left out to choose
            components and calibration.
        unlabelled
            Further cells without labels, best those to be predicted; read by the same options.
        progress
            Called with the number of cells completed since the last call.
        **how
            How cells are read; see :meth:`Estimator.fit`. ``scale="scaled"`` for z-scores.

        Raises
        ------
        InputError
            No such column, one label only or more than two, fewer than two cells of a label, no label called
            ``sensitive``; labelled and unlabelled cells have too few genes in common or differ in scale; or the cells
            cannot be read.
        ConfigError
            A parameter cannot be used.

        Warns
        -----
        SeparationWarning
            The scores do not form two groups.
        """
        self._check_parameters()
        extra = None if unlabelled is None else open_data(unlabelled, self.vocabulary, read_options(**how))
        return self._fit(data, label, groups, how, partial(self._learn_all, extra=extra, run=progress))

    def table(self, data: Data, *, progress: Progress = None, **how: Unpack[ReadKeywords]) -> pd.DataFrame:
        """Return score, probability, call and doubt for each cell.

        Parameters and errors are those of :meth:`predict_proba`.

        Returns
        -------
        DataFrame
            With the index of ``obs``: ``score`` (float64, a logit; above 0 for sensitive), ``probability`` (float64, of
            being sensitive), ``call`` (categorical), ``uncertain`` (bool: the probability of the call is below
            ``certainty``).
        """
        cells = self._open(data, how)
        probabilities = self._frame(cells, progress)
        sensitive = probabilities[self.sensitive].to_numpy()
        edge = np.finfo(np.float64).tiny
        score = np.log(np.maximum(sensitive, edge)) - np.log(np.maximum(1 - sensitive, edge))
        columns = {
            "score": score,
            "probability": sensitive,
            "call": self._most_probable(probabilities).to_numpy(),
            "uncertain": np.maximum(sensitive, 1 - sensitive) < self.certainty,
        }
        return pd.DataFrame(columns, index=probabilities.index)

    def sensitivity_scores(
        self, data: Data, label: str, *, progress: Progress = None, **how: Unpack[ReadKeywords]
    ) -> SensitivityScores:
        """Compare the probabilities with the known response; cells without a label are left out.

        Score only cells whose label was not in the fit.

        Raises
        ------
        InputError
            No such column, labels other than those of the fit, or cells of one kind only; or the cells cannot be read.
        """
        _ = self.reference_
        opened = Opened(data, read_options(**how))
        self._read_target(opened.obs([label]), label, where=opened.name, training=False)
        cells = self._ready(opened)
        labels, known = self._read_target(cells.obs([label]), label, where=cells.name, training=False)
        strange = sorted(set(labels[known]) - set(self.classes_))
        if strange:
            found = f"obs column '{label}' holds '{strange[0]}', which is no label of the fit"
            raise InputError(found, where=cells.name, fix=f"Its labels are {' and '.join(map(repr, self.classes_))}")
        probability = self._frame(cells[known], progress)[self.sensitive].to_numpy()
        return sensitivity_scores(labels[known] == self.sensitive, probability)

    def gene_weights(self) -> pd.DataFrame:
        """Return how much each gene adds to the score, the most important first.

        Returns
        -------
        DataFrame
            ``gene`` (symbol) and ``weight`` (float64): by how much the logit changes when the gene rises by one
            standard deviation over the cells of the fit; positive for genes that are higher in sensitive cells. The
            part of the encoder is not in it.

        Raises
        ------
        NotFittedError
            It has not been fitted.
        ConfigError
            The encoder was used alone.
        """
        genes = self.genes_
        if genes is None:
            fix = "Fit with parts='both' or 'genes'"
            raise ConfigError("the encoder alone has no weights of genes", where=type(self).__name__, fix=fix)
        own = self.fit_.line.coefficients[: len(genes.directions)]
        weights = genes.weights(own * self.fit_.slope) * self.spreads_
        order = np.argsort(-np.abs(weights), kind="stable")
        vocabulary = self.vocabulary or Vocabulary.human()
        symbols = np.asarray(vocabulary.symbols, object)[genes.genes[order]]
        return pd.DataFrame({"gene": symbols, "weight": weights[order]})

    def _check_parameters(self) -> None:
        where = type(self).__name__
        if self.prior is not None and not 0 < self.prior < 1:
            raise ConfigError(f"prior is {self.prior}", where=where, fix="Give a fraction above 0 and below 1")
        if not 0.5 <= self.certainty <= 1:
            raise ConfigError(f"certainty is {self.certainty}", where=where, fix="Give a probability from .5 to 1")
        if self.components is not None and self.components < 1:
            raise ConfigError(f"components is {self.components}", where=where, fix="Give a number from 1 on, or None")
        if self.parts not in ("both", "genes", "encoder"):
            raise ConfigError(f"parts is {self.parts!r}", where=where, fix="Choose both, genes or encoder")
        if self.parts == "encoder" and self.model is None:
            raise ConfigError("parts is 'encoder', but there is no model", where=where, fix="Give a model")

    def _read_target(self, obs: pd.DataFrame, label: str, *, where: str, training: bool) -> Target:
        target = super()._read_target(obs, label, where=where, training=training)
        if training:
            check_labels(target.values[target.known], label, self.sensitive, where)
        return target

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        self._learn_all(cells, Target(labels, np.ones(len(labels), bool)), groups, extra=None, run=progress)

    def _learn_all(
        self,
        cells: CellView,
        target: Target,
        groups: NDArray[np.object_] | None,
        *,
        extra: CellView | None,
        run: Progress,
    ) -> None:
        """Learn from the labelled cells, the others of the same data, and further ones."""
        check_labels(target.values[target.known], "labels", self.sensitive, cells.name)
        others = [] if extra is None or not self.self_training else [extra]
        kept = cells if self.self_training else cells[target.known]
        labelled = np.flatnonzero(target.known) if self.self_training else np.arange(len(kept))
        genes = common_genes([kept, *others])
        codes = (target.values[target.known] == self.sensitive).astype(np.int64)
        parts, points = [kept, *others], list[NDArray[np.float64]]()
        own, deep, spreads = None, None, np.empty(0)
        if self.parts != "encoder" or self.model is None:
            values = sparse.csr_matrix(sparse.vstack([gene_values(part, z_scored=part.z_scored) for part in parts]))
            own = Components.of(values, genes, self.components or max(TRIED), self.seed)
            points.append(own(values, genes))
            spreads = spreads_of(values[:, genes])
        if self.model is not None and self.parts != "genes":
            embedding = np.concatenate([self._embed(part, run) for part in parts])
            everything = np.arange(embedding.shape[1])
            deep = Components.of(sparse.csr_matrix(embedding), everything, ENCODER_COMPONENTS, self.seed)
            points.append(deep(sparse.csr_matrix(embedding), everything))
        elif run is not None:
            run(sum(map(len, parts)))
        found = fit(
            np.concatenate(points, axis=1),
            points[-1].shape[1] if deep is not None and own is not None else 0,
            labelled,
            codes,
            groups=groups,
            prior=self.prior,
            components=self.components,
            self_training=self.self_training,
            seed=self.seed,
        )
        if own is not None:  # those that are not used need not be saved
            used = own.directions[: len(found.columns) - (0 if deep is None else len(deep.directions))]
            own, found = replace(own, directions=used), replace(found, columns=np.arange(len(found.columns)))
        self.fit_, self.genes_, self.encoder_, self.spreads_ = found, own, deep, spreads
        self.z_scored_ = cells.z_scored
        self.learned_from_ = sum(map(len, parts)) - len(labelled)
        self._set_classes(target.values[target.known])
        if found.calibrated != "regression" and found.separation < SEPARATED:
            advice = "Give more labels, or state the prior; believe the ranking more than the calls"
            warnings.warn(
                f"{cells.name}: the scores do not form two groups ({found.separation:.1f} standard deviations apart). "
                f"{advice}.",
                SeparationWarning,
                stacklevel=5,
            )

    def _embed(self, cells: CellView, progress: Progress) -> NDArray[np.float32]:
        assert self.model is not None
        cache = CACHE if self.cache else None
        how: dict[str, Any] = {"device": self.device, "precision": self.precision, "cache": cache}
        return embed_cells(self.model, for_encoder(cells), **how, progress=progress)

    def _points(self, cells: CellView, measured: NDArray[np.int64], run: Progress) -> NDArray[np.float64]:
        parts = list[NDArray[np.float64]]()
        if self.genes_ is not None:
            parts.append(self.genes_(gene_values(cells, z_scored=self.z_scored_), measured))
        if self.encoder_ is not None:
            embedding = self._embed(cells, run)
            parts.append(self.encoder_(sparse.csr_matrix(embedding), np.arange(embedding.shape[1])))
        elif run is not None:
            run(len(cells))
        return np.concatenate(parts, axis=1)

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        if cells.z_scored != self.z_scored_:
            kinds = {True: "z-scores", False: "expression"}
            found = f"it was read as {kinds[cells.z_scored]}, but the classifier learned {kinds[self.z_scored_]}"
            raise CountsError(found, where=cells.name, fix="Read both on the same kind of scale")
        measured, found_here = cells.genes, np.empty(len(cells))
        for start in range(0, len(cells), 2048):
            places = slice(start, start + 2048)
            found_here[places] = self.fit_.probabilities(self._points(cells[places], measured, progress))
        sensitive = list(self.classes_).index(self.sensitive)
        columns = [1 - found_here, found_here] if sensitive else [found_here, 1 - found_here]
        return np.stack(columns, axis=1)

    def _learned(self) -> Fitted:
        found = self.fit_
        arrays: dict[str, NDArray[Any]] = {
            "coefficients": found.line.coefficients,
            "spreads": self.spreads_,
        }
        for name, space in (("genes", self.genes_), ("encoder", self.encoder_)):
            if space is not None:
                arrays |= {
                    f"{name}.genes": space.genes,
                    f"{name}.mean": space.mean,
                    f"{name}.directions": space.directions,
                }
        return Fitted(
            {
                "intercept": found.line.intercept,
                "slope": found.slope,
                "shift": found.intercept,
                "prevalence": found.prevalence,
                "separation": found.separation,
                "calibrated": found.calibrated,
                "losses": [list(each) for each in found.losses],
                "z_scored": self.z_scored_,
                "learned_from": self.learned_from_,
            },
            arrays,
        )

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        if len(self.classes_) != 2 or self.sensitive not in self.classes_:
            raise ValueError("its labels are not those of a sensitivity classifier")
        self.genes_, self.encoder_ = (restored(arrays, name) for name in ("genes", "encoder"))
        widths = [len(space.directions) for space in (self.genes_, self.encoder_) if space is not None]
        if not widths:
            raise ValueError("it has no components")
        line = Line(checked(arrays, "coefficients", (sum(widths),)), float(values["intercept"]))
        genes = 0 if self.genes_ is None else len(self.genes_.genes)
        self.spreads_ = checked(arrays, "spreads", (genes,))
        slope, shift, prevalence, separation = (
            float(values[name]) for name in ("slope", "shift", "prevalence", "separation")
        )
        losses = tuple((int(number), bool(kind), float(loss)) for number, kind, loss in values["losses"])
        self.fit_ = Fit(
            np.arange(sum(widths)), line, slope, shift, prevalence, separation, values["calibrated"], losses
        )
        self.z_scored_, self.learned_from_ = bool(values["z_scored"]), int(values["learned_from"])
