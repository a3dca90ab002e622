"""Drug sensitivity of single cells, learned from few or many labelled cells, and from those without a label."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.obs.cell_types import LabelRules, as_words
from cell_lm.data.opening import Data, Opened, open_each
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, CountsError, InputError
from cell_lm.evaluation.sensitivity_metrics import SensitivityScores, sensitivity_scores
from cell_lm.files import JSON
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.remedies import option
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.column_estimator import FitOptions, Target
from cell_lm.tasks.estimator import Arrays, Fitted, Progress
from cell_lm.tasks.features import CACHE, Device, embed_cells
from cell_lm.tasks.finetuning import FineTuning
from cell_lm.tasks.finetuning.tunable import WithFineTuning
from cell_lm.tasks.given_model import GivenModel
from cell_lm.tasks.sensitivity.calls import call_table
from cell_lm.tasks.sensitivity.checks import check_certainty, check_labels, check_prior, common_genes
from cell_lm.tasks.sensitivity.components import Components
from cell_lm.tasks.sensitivity.fitting import Fit
from cell_lm.tasks.sensitivity.learning import Learned, learn
from cell_lm.tasks.sensitivity.saved import pack, unpack
from cell_lm.tasks.sensitivity.values import for_encoder

SEPARATED = 2.0
"""Distance of the two groups, in standard deviations of the score, below which :class:`SeparationWarning` is issued."""
Parts = Literal["both", "genes", "encoder"]


class SeparationWarning(UserWarning):
    """The scores of the cells do not form two groups: prevalence and probabilities may be wrong."""


class DrugSensitivityClassifier(WithFineTuning, Classifier):
    """Separates sensitive from resistant cells, with calibrated probabilities.

    Cells without a label are learned from, too (:mod:`cell_lm.tasks.sensitivity.self_training`): blank rows of the
    column of labels, and the cells given as ``unlabelled``.

    Parameters
    ----------
    model
        The encoder, or its name or path (``"small"``, a model or run folder), which is read when it is first needed;
        None: the genes alone. Its weights are not changed; it is moved to the device, and stays there.
    fine_tune
        None: the encoder is frozen. ``"refinement"``, ``"last"``, ``"lora"`` or ``"all"``, or settings by name
        (:class:`cell_lm.config.FineTuneConfig`): this part of it is trained on the labelled cells first, and kept where
        that predicts left-out donors (without ``groups``: left-out cells) better; they have to be of both kinds. The
        components of all cells are then those of the trained encoder. It shows labelled cells as better separated than
        new ones, so they do not calibrate it: a second fit does, on the labelled cells that an encoder was trained
        without, or the cells without a label (:mod:`cell_lm.tasks.sensitivity.fitting`).
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
    encoder_ : CellLM or None
        The encoder of ``model``, fine-tuned where that helped; None without a model.
    fine_tuned_ : str
        What fine-tuning did; empty if it was not asked for.

    Examples
    --------
    >>> classifier = DrugSensitivityClassifier(prior=0.1).fit(adata, "response")
    >>> table = classifier.table(adata)  # score, probability, call, uncertain
    """

    fit_: Fit
    genes_: Components | None
    embedding_: Components | None
    spreads_: NDArray[np.float64]
    z_scored_: bool
    learned_from_: int
    unsaved: ClassVar[tuple[str, ...]] = ("model", "device")
    reads_z_scores: ClassVar[bool] = True

    def __init__(
        self,
        model: GivenModel | None = None,
        *,
        sensitive: str = "sensitive",
        prior: float | None = None,
        components: int | None = None,
        parts: Parts = "both",
        self_training: bool = True,
        fine_tune: FineTuning = None,
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
        self.fine_tune = fine_tune
        self.certainty = certainty
        self.seed = seed
        self.device = device
        self.precision = precision
        self.cache = cache

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary of the model; None without one."""
        model = self.resolved_model
        return None if model is None else model.vocabulary

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
        missing_labels: Sequence[str] = (),
        min_cells: int | None = 1,
        genes_of: Data | Opened | None = None,
        unlabelled: Data | Sequence[Data] | None = None,
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
        missing_labels, min_cells, genes_of
            As :meth:`~cell_lm.tasks.classifier.Classifier.fit`.
        unlabelled
            Further cells without labels, best those to be predicted; read by the same options. One source of cells, or
            several in a list.
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
        extra = open_each(unlabelled, self.vocabulary, read_options(**how))
        options = FitOptions(LabelRules(as_words(missing_labels), min_cells), genes_of)
        return self._fit(data, label, groups, how, partial(self._learn_all, extra=extra, run=progress), options)

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
        call = self._most_probable(probabilities).to_numpy()
        return call_table(score, sensitive, call, certainty=self.certainty, index=probabilities.index)

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
        cells, (labels, known) = self.labelled(data, label, **how)
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
        check_prior(self.prior, where)
        check_certainty(self.certainty, where)
        if self.components is not None and self.components < 1:
            raise ConfigError(f"components is {self.components}", where=where, fix="Give a number from 1 on, or None")
        if self.parts not in ("both", "genes", "encoder"):
            raise ConfigError(f"parts is {self.parts!r}", where=where, fix="Choose both, genes or encoder")
        if self.parts == "encoder" and self.model is None:
            raise ConfigError("parts is 'encoder', but there is no model", where=where, fix="Give a model")
        if self._fine_tuning() is not None and not self._with_encoder:
            why = "there is no model" if self.model is None else "parts is 'genes'"
            fix = f"Give a model: {option('model')}" if self.model is None else "Choose parts='both' or 'encoder'"
            raise ConfigError(f"fine_tune is {self.fine_tune!r}, but {why}", where=where, fix=fix)

    @property
    def _with_encoder(self) -> bool:
        return self.model is not None and self.parts != "genes"

    def _read_target(
        self, obs: pd.DataFrame, label: str, *, where: str, training: bool, rules: LabelRules | None = None
    ) -> Target:
        target = super()._read_target(obs, label, where=where, training=training, rules=rules)
        if training:
            check_labels(target.values[target.known], label, self.sensitive, where)
        return target

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        self._learn_all(cells, Target(labels, np.ones(len(labels), bool)), groups, extra=(), run=progress)

    def _learn_all(
        self,
        cells: CellView,
        target: Target,
        groups: NDArray[np.object_] | None,
        *,
        extra: Sequence[CellView],
        run: Progress,
    ) -> None:
        """Learn from the labelled cells, the others of the same data, and further ones."""
        others = [view.cut_like(cells) for view in extra] if self.self_training else []
        kept = cells if self.self_training else cells[target.known]
        labelled = np.flatnonzero(target.known) if self.self_training else np.arange(len(kept))
        parts = [kept, *others]
        genes, labels = common_genes(parts), target.values[target.known]
        tuned = self._fine_tuned(for_encoder(cells[target.known]), labels, groups, every_label=True)
        trial = None if tuned is None else tuned.trial
        encoder = self.resolved_model if tuned is None else tuned.model
        learned = learn(
            parts,
            labelled,
            (labels == self.sensitive).astype(np.int64),
            genes=genes if self.parts != "encoder" else None,
            embed=partial(self._embed, encoder, progress=run) if self._with_encoder else None,
            trial=(partial(self._embed, trial), tuned.left_out) if tuned is not None and trial is not None else None,
            groups=groups,
            prior=self.prior,
            components=self.components,
            self_training=self.self_training,
            seed=self.seed,
        )
        if not self._with_encoder and run is not None:
            run(sum(map(len, parts)))
        self.fit_, self.genes_, self.embedding_, self.spreads_ = learned
        self._use(tuned)
        self.z_scored_ = cells.z_scored
        self.learned_from_ = sum(map(len, parts)) - len(labelled)
        self._set_classes(labels)
        if self.fit_.calibrated != "regression" and self.separation_ < SEPARATED:
            advice = "Give more labels, or state the prior; believe the ranking more than the calls"
            warnings.warn(
                f"{cells.name}: the scores do not form two groups ({self.separation_:.1f} standard deviations apart). "
                f"{advice}.",
                SeparationWarning,
                stacklevel=5,
            )

    def _embed(self, model: CellLM | None, cells: CellView, *, progress: Progress = None) -> NDArray[np.float32]:
        assert model is not None
        cache = CACHE if self.cache else None
        how: dict[str, Any] = {"device": self.device, "precision": self.precision, "cache": cache}
        return embed_cells(model, for_encoder(cells), **how, progress=progress)

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        if cells.z_scored != self.z_scored_:
            kinds = {True: "z-scores", False: "expression"}
            found = f"it was read as {kinds[cells.z_scored]}, but the classifier learned {kinds[self.z_scored_]}"
            raise CountsError(found, where=cells.name, fix="Read both on the same kind of scale")
        learned, embed = self._all_learned, partial(self._embed, self.encoder_, progress=progress)
        measured, found_here = cells.genes, np.empty(len(cells))
        for start in range(0, len(cells), 2048):
            places = slice(start, start + 2048)
            some = cells[places]
            found_here[places] = learned.probabilities(some, measured, embed, z_scored=self.z_scored_)
            if self.embedding_ is None and progress is not None:
                progress(len(some))
        sensitive = list(self.classes_).index(self.sensitive)
        columns = [1 - found_here, found_here] if sensitive else [found_here, 1 - found_here]
        return np.stack(columns, axis=1)

    def _learned(self) -> Fitted:
        values, arrays = pack(self._all_learned)
        own: dict[str, JSON] = {
            "z_scored": self.z_scored_,
            "learned_from": self.learned_from_,
            "fine_tuned": self.fine_tuned_,
        }
        return Fitted({**values, **own}, arrays)

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        if len(self.classes_) != 2 or self.sensitive not in self.classes_:
            raise ValueError("its labels are not those of a sensitivity classifier")
        self.fit_, self.genes_, self.embedding_, self.spreads_ = unpack(values, arrays)
        self.encoder_, self.fine_tuned_ = self.resolved_model, str(values.get("fine_tuned", ""))
        self.z_scored_, self.learned_from_ = bool(values["z_scored"]), int(values["learned_from"])

    @property
    def _all_learned(self) -> Learned:
        return Learned(self.fit_, self.genes_, self.embedding_, self.spreads_)
