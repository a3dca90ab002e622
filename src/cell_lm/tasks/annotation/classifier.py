"""Cell type annotation: several views of a cell, pooled with weights from cells that were left out of the fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, ClassVar, Self, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.config import Precision
from cell_lm.data.loading.expression import log_expression
from cell_lm.data.loading.sampler import random_subset
from cell_lm.data.obs.cell_types import LabelRules, as_words
from cell_lm.data.obs.labels import LabelWarning
from cell_lm.data.opening import Data, Opened, open_data, open_each
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import BLOCK, CellView
from cell_lm.errors import ConfigError
from cell_lm.evaluation.folds import Fold, training_folds
from cell_lm.evaluation.span import Matrix
from cell_lm.files import JSON
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.pretraining.adapt import LEAST_CELLS, adapt, with_reference
from cell_lm.tasks.annotation.calls import Caller
from cell_lm.tasks.annotation.cross_validation import CrossValidation
from cell_lm.tasks.annotation.evidence import LEAST, Evidence
from cell_lm.tasks.annotation.saved import pool_arrays, read_pool, read_reference, reference_arrays
from cell_lm.tasks.annotation.seen import ARRAY, hashes_of, read_hashes
from cell_lm.tasks.annotation.tissue import LEAST as COVERED
from cell_lm.tasks.annotation.tissue import covered_variance
from cell_lm.tasks.annotation.unknown import RATE
from cell_lm.tasks.annotation.views import VIEWS, Pool, TrainingCells, fit_pool, replace_head
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.column_estimator import FitOptions, Target
from cell_lm.tasks.estimator import Arrays, Fitted, Progress, refuse_other_genes
from cell_lm.tasks.features import CACHE, Device, embed_cells
from cell_lm.tasks.finetuning import FineTuning
from cell_lm.tasks.finetuning.tunable import WithFineTuning
from cell_lm.tasks.given_model import GivenModel, WithModel
from cell_lm.terminal import refuse_uncallable

MOST_UNLABELLED = 20_000
"""Unlabelled cells that a fit learns from; of more, so many are drawn at random."""
LEAST_UNLABELLED = 50
"""Labels are not spread over fewer unlabelled cells."""


class CellTypeClassifier(WithModel, WithFineTuning, Classifier):
    """Annotates cells by logistic regression on genes and on CLS of an encoder, and by trees, pooled.

    The views of a cell, their weights and their pool are described in :mod:`cell_lm.tasks.annotation.views` and
    :mod:`cell_lm.evaluation.stacking`.

    Parameters
    ----------
    model
        The encoder, or its name or path (``"small"``, a model or run folder), which is read when it is first needed.
        Its weights are not changed; it is moved to the device, and stays there.
    views
        Names of the views to use. ``adapted`` is left out if the encoder has no linear path or there are fewer than 200
        cells in the fit, or in one of its folds; ``graph`` if there are fewer than 50 unlabelled cells; ``trees`` if no
        cell can be left out.
    unknown
        Fraction of the cells of known types that may be called ``unknown`` (:mod:`cell_lm.tasks.annotation.unknown`);
        None: novelty is not computed.
    fine_tune
        None: the encoder is frozen. ``"refinement"``, ``"last"``, ``"lora"`` or ``"all"``, or settings by name
        (:class:`cell_lm.config.FineTuneConfig`): this part of it is trained first. Where that predicts left-out donors
        better, the views are then ``genes``, ``components``, ``trees`` and ``model``, there is no novelty and there are
        no label sets, since every cell has trained the encoder; where not, nothing is changed.
    seed
        Seed of the folds of the training cells, of the decomposition and of the choice of unlabelled cells.
    device
        Device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None: CUDA where there is a device, else the CPU.
    precision
        Arithmetic of the encoder: ``"float32"``, or ``"bfloat16"``, which is faster and differs by its rounding.
    cache
        Cache embeddings in memory (:mod:`cell_lm.tasks.features`), so that several fits and predictions embed the same
        cells once.

    Attributes
    ----------
    pool_ : Pool
        The fitted views.
    weights_ : dict
        The weight of each view; 0 or more.
    cross_validation_ : CrossValidation or None
        Scores of the training cells by fits without them; None where too few cells have a label (one of each type).
    adapted_ : CellLM or None
        The encoder adapted to the cells of the fit.
    evidence_ : Evidence or None
        Rules for cells of no known type and for label sets; None where no cell was left out.
    encoder_ : CellLM
        The encoder of ``model``, fine-tuned where that helped.
    fine_tuned_ : str
        What fine-tuning did; empty if it was not asked for.
    learned_from_ : str
        The cells that the fit has seen, labelled and unlabelled.
    fitted_cells_ : ndarray
        uint64: a hash of each cell whose label the fit has seen (:meth:`was_fitted_on`).

    Examples
    --------
    >>> classifier = CellTypeClassifier("small").fit(reference, "cell_type", groups="donor")
    >>> labels = classifier.predict(adata)
    """

    pool_: Pool
    cross_validation_: CrossValidation | None
    evidence_: Evidence | None
    adapted_: CellLM | None
    encoder_: CellLM
    learned_from_: str
    fitted_cells_: NDArray[np.uint64]
    unsaved: ClassVar[tuple[str, ...]] = ("model", "device")

    def __init__(
        self,
        model: GivenModel,
        *,
        views: Sequence[str] = VIEWS,
        unknown: float | None = RATE,
        fine_tune: FineTuning = None,
        seed: int = 0,
        device: Device = None,
        precision: Precision = "float32",
        cache: bool = True,
    ) -> None:
        self.model = model
        self.views = views
        self.unknown = unknown
        self.fine_tune = fine_tune
        self.seed = seed
        self.device = device
        self.precision = precision
        self.cache = cache

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the model."""
        return self.resolved_model.vocabulary

    @property
    def encoder(self) -> CellLM:
        """The encoder in use: :attr:`encoder_` after a fit, ``model`` before."""
        fitted: CellLM | None = vars(self).get("encoder_")
        return self.resolved_model if fitted is None else fitted

    @property
    def weights_(self) -> dict[str, float]:
        """Weight of each view."""
        return dict(self.pool_.weights)

    def fit(
        self,
        data: Data,
        label: str,
        *,
        groups: str | None = None,
        missing_labels: Sequence[str] = (),
        min_cells: int | None = None,
        genes_of: Data | Opened | None = None,
        unlabelled: Data | Sequence[Data] | None = None,
        progress: Progress = None,
        **how: Unpack[ReadKeywords],
    ) -> Self:
        """Learn from labelled cells, and from unlabelled ones if there are any.

        Parameters
        ----------
        data
            The reference. Its cells without a label are learned from as unlabelled.
        label
            Column of ``obs`` with the cell types.
        groups
            Column of ``obs`` with the donors or samples. Give it if there is one: whole donors are then left out to
            choose regularisation and weights, since the cells to predict will come from other donors.
        missing_labels, min_cells, genes_of
            As :meth:`~cell_lm.tasks.classifier.Classifier.fit`.
        unlabelled
            Further cells, whose labels are not read: best those to be predicted. They take part in the adaptation, the
            principal components and the graph. It helps most where few cells have a label. Leave it out where the
            classifier must not have seen the cells that it will be scored on. Read by the same options. One source of
            cells, or several in a list.
        progress
            Called with the number of labelled cells completed since the last call.
        **how
            How cells are read; see :meth:`~cell_lm.tasks.classifier.Classifier.fit`.

        Raises
        ------
        InputError, GeneError, ConfigError
            As :meth:`~cell_lm.tasks.classifier.Classifier.fit`; or there is no such view, or none.

        Warns
        -----
        LabelWarning
            Labels were changed or left out, or look as if they meant that there is none.
        """
        refuse_uncallable(progress)
        self._check_views()
        extra = open_each(unlabelled, self.vocabulary, read_options(**how))
        options = FitOptions(LabelRules(as_words(missing_labels), min_cells), genes_of)
        return self._fit(data, label, groups, how, partial(self._learn_all, extra=extra, run=progress), options)

    def placed(self, device: Device = None, precision: Precision | None = None) -> Self:
        """Return the same fitted classifier for another device or precision; None: unchanged."""
        other = copy(self)
        other.device, other.precision = device or self.device, precision or self.precision
        return other

    def embed(self, cells: CellView, progress: Progress = None) -> NDArray[np.float32]:
        """Return CLS of the encoder, float32 [cells, width]."""
        return self._embed(self.encoder, cells, progress)

    def table(
        self, data: Data, *, unknown: float | None = None, progress: Progress = None, **how: Unpack[ReadKeywords]
    ) -> pd.DataFrame:
        """Return label, confidence, novelty and label set of each cell.

        Parameters
        ----------
        data, progress, **how
            As :meth:`predict_proba`.
        unknown
            Rate at which cells of known types may be called ``unknown``; 0: never. None: that of the fit if it had
            donors (``groups``), else never.

        Returns
        -------
        DataFrame
            With the index of ``obs``: ``label`` (categorical; ``unknown`` for a cell of no known type), ``confidence``
            (float64, the largest probability), ``novelty`` (float64, 0 to 1: the fraction of cells of known types that
            are less unlike the reference), ``label_set`` (the labels that cannot be excluded at 90 % coverage, joined
            by ``|``) and ``set_size``. The last three are missing where no cell could be left out of the fit.

        Raises
        ------
        InputError, NotFittedError
            As :meth:`predict_proba`.
        ConfigError
            The classifier has no novelty, or the rate is not from 0 to below 1.
        """
        self.caller_.rate(unknown)
        cells = self._open(data, how, progress)
        return self.caller_.table(cells, self._probabilities(cells, progress), unknown)

    def was_fitted_on(self, data: Data, **how: Unpack[ReadKeywords]) -> NDArray[np.bool_]:
        """Return for which cells the fit has seen the label, bool [cells]: scores on them are not those on new cells.

        A cell is known by its genes and counts, wherever it comes from. All False for a classifier whose folder holds
        no hashes.

        Parameters
        ----------
        data, **how
            As :meth:`predict_proba`.

        Raises
        ------
        InputError, NotFittedError
            As :meth:`predict_proba`.
        """
        cells = open_data(data, self.vocabulary, read_options(**how))
        return np.isin(hashes_of(self.cut_like_fit(cells)), self.fitted_cells_)

    @property
    def caller_(self) -> Caller:
        """Makes the table of calls."""
        scores = self.cross_validation_
        by_donor = scores is not None and scores.donors is not None
        return Caller(self.classes_, self.evidence_, by_donor, self.embed)

    def _check_views(self) -> None:
        strange = [name for name in self.views if name not in VIEWS]
        if strange or not self.views or isinstance(self.views, str):
            raise ConfigError(f"views is {self.views!r}", where=type(self).__name__, fix=f"Name some of {list(VIEWS)}")

    def _learn_all(
        self,
        cells: CellView,
        target: Target,
        groups: NDArray[np.object_] | None,
        *,
        extra: Sequence[CellView],
        run: Progress,
    ) -> None:
        extra = [view.cut_like(cells) for view in extra]
        labelled, without = cells[target.known], cells[~target.known]
        for view in extra:
            refuse_other_genes(labelled, view.genes, view.name)
        labels = target.values[target.known]
        classes, codes = np.unique(labels, return_inverse=True)
        codes = codes.astype(np.int64)
        groups = _enough(groups, codes, cells.name, self.seed)
        unlabelled = [part for part in (without, *extra) if len(part)]
        further = [view[random_subset(len(view), MOST_UNLABELLED // len(unlabelled), self.seed)] for view in unlabelled]
        tuned = self._fine_tuned(labelled, labels, groups)
        helped = tuned is not None and tuned.best_step > 0
        folds = list(training_folds(codes, groups, self.seed))
        adapted = None if helped else self._adapt([labelled, *further], [] if further else folds)
        views = self._usable_views(0 if helped else sum(map(len, further)), adapted)
        # Of the frozen encoder, even where another is used then: fine-tuning has seen the labels of all these cells.
        features = self._features([labelled, *further], views, (self.resolved_model, adapted), run)
        if next(training_folds(codes, None, self.seed), None) is None:
            views = self._without_foreign_encoder(views, features, len(labelled))
            views = [name for name in views if name != "trees"] or views
        by_fold = None if adapted is None or further else self._embed_by_fold(labelled, folds)
        pool = fit_pool(TrainingCells(features, codes, groups, self.seed, by_fold), views)
        evidence = None if helped else self._evidence(pool, codes, groups, labelled, features)
        self.pool_ = replace_head(pool, tuned.head) if tuned is not None and helped else pool
        self.adapted_, self.evidence_ = adapted, evidence
        self._use(tuned)
        seen = [f"{len(labelled):,} labelled cells of {cells.name}"]
        self.learned_from_ = ", ".join(seen + [f"{len(view):,} unlabelled of {view.name}" for view in further])
        self.cross_validation_ = CrossValidation.of(pool.left_out, codes, classes, groups)
        self.fitted_cells_ = hashes_of(labelled)
        self._set_classes(labels)

    def _evidence(
        self,
        pool: Pool,
        codes: NDArray[np.int64],
        groups: NDArray[np.object_] | None,
        cells: CellView,
        features: dict[str, Matrix],
    ) -> Evidence | None:
        embedding = None
        if self.unknown is not None and pool.left_out is not None:
            if "model" in features:
                embedding = np.asarray(features["model"])[: len(cells)]
            else:
                embedding = self._embed(self.resolved_model, cells)
        return Evidence.of(pool.left_out, codes, groups, cells, embedding, rate=self.unknown, seed=self.seed)

    def _adapt(self, views: Sequence[CellView], folds: Sequence[Fold]) -> CellLM | None:
        """Return the adapted encoder; None where too few cells are left to adapt to without those of a fold."""
        fewest = min([sum(map(len, views)), *(len(rest) for rest, _ in folds)])
        if "adapted" not in self.views or fewest < LEAST_CELLS or self.resolved_model.reference is None:
            return None
        return self._adapted_to(views)

    def _adapted_to(self, views: Sequence[CellView]) -> CellLM:
        return adapt(self.resolved_model, [view.read(slice(None)) for view in views], device="cpu")

    def _embed_by_fold(self, cells: CellView, folds: Sequence[Fold]) -> list[NDArray[np.float32]]:
        """Return, for each fold, CLS of all cells by an encoder adapted without its left-out cells."""
        how: Any = {"device": self.device, "precision": self.precision, "cache": None}  # used once: nothing to keep
        return [embed_cells(self._adapted_to([cells[rest]]), cells, **how) for rest, _ in folds]

    def _usable_views(self, unlabelled: int, adapted: CellLM | None) -> list[str]:
        missing = {"adapted"} if adapted is None else set()
        missing |= {"graph"} if unlabelled < LEAST_UNLABELLED else set()
        views: list[str] = [name for name in VIEWS if name in self.views and name not in missing]
        return views or ["model"]

    def _without_foreign_encoder(self, views: list[str], features: dict[str, Matrix], labelled: int) -> list[str]:
        """Leave CLS out where no left-out cell can show what it is worth and its linear path lacks the tissue."""
        reference, others = self.resolved_model.reference, [name for name in views if name != "model"]
        if reference is None or "genes" not in features or "model" not in views:
            return views
        covered = covered_variance(sparse.csr_matrix(features["genes"][:labelled]), reference.genes)
        if covered >= COVERED:
            return views
        del features["model"]
        found = f"{covered:.0%} of what varies among the labelled cells is in the reference genes of the encoder"
        why = "too little to trust CLS with one label a type: CLS is left out"
        warnings.warn(f"{found}, {why}. Unlabelled cells or more labels would help.", LabelWarning, stacklevel=4)
        return others

    def _features(
        self, parts: Sequence[CellView], views: Sequence[str], encoders: tuple[CellLM, CellLM | None], run: Progress
    ) -> dict[str, Matrix]:
        found: dict[str, Matrix] = {}
        encoder, adapted = encoders
        if {"genes", "components", "trees"} & set(views):
            each = [log_expression(part) for part in parts]
            found["genes"] = each[0] if len(each) == 1 else sparse.csr_matrix(sparse.vstack(each, format="csr"))
        if adapted is not None and ("adapted" in views or "graph" in views):
            found["adapted"] = np.concatenate([self._embed(adapted, part) for part in parts])
        if "model" in views or "graph" in views:
            runs = [run, *[None] * (len(parts) - 1)]
            embedded = [self._embed(encoder, part, each) for part, each in zip(parts, runs, strict=True)]
            found["model"] = np.concatenate(embedded)
        elif run is not None:
            run(len(parts[0]))
        return found

    def _embed(self, model: CellLM, cells: CellView, progress: Progress = None) -> NDArray[np.float32]:
        cache = CACHE if self.cache else None
        return embed_cells(model, cells, device=self.device, precision=self.precision, cache=cache, progress=progress)

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        target = Target(labels, np.ones(len(labels), bool))
        self._learn_all(cells, target, groups, extra=(), run=progress)

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        found = np.empty((len(cells), len(self.classes_)))
        views = [name.split()[0] for name in self.pool_.weights]
        encoders, pool = (self.encoder_, self.adapted_), self.pool_.measuring(cells.genes)
        for start in range(0, len(cells), BLOCK):
            features = self._features([cells[start : start + BLOCK]], views, encoders, progress)
            found[start : start + BLOCK] = np.exp(pool.log_probabilities(features))
        return found

    def _learned(self) -> Fitted:
        arrays = {**pool_arrays(self.pool_), **reference_arrays(self.adapted_), ARRAY: self.fitted_cells_}
        scores, evidence = self.cross_validation_, self.evidence_
        values: dict[str, JSON] = {
            "weights": dict[str, JSON](self.pool_.weights),
            "learned_from": self.learned_from_,
            "fine_tuned": self.fine_tuned_,
            "cross_validation": None if scores is None else scores.values(),
            "evidence": None if evidence is None else evidence.values(),
        }
        arrays |= {} if scores is None else scores.arrays()
        return Fitted(values, arrays | ({} if evidence is None else evidence.arrays()))

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        model = self.resolved_model
        classes, width, genes = len(self.classes_), model.config.width, len(model.vocabulary)
        reference = read_reference(arrays, width, genes)
        self.adapted_ = None if reference is None else with_reference(model, reference).eval()
        self.pool_ = read_pool(values["weights"], arrays, classes, width, genes)
        self.fitted_cells_ = read_hashes(arrays)
        self.learned_from_, self.fine_tuned_ = str(values["learned_from"]), str(values["fine_tuned"])
        self.encoder_ = model
        evidence = values["evidence"]
        self.evidence_ = None if evidence is None else Evidence.read(evidence, arrays, classes, width, genes)
        scores = values["cross_validation"]
        self.cross_validation_ = None if scores is None else CrossValidation.read(scores, arrays, self.classes_)


def _enough(
    groups: NDArray[np.object_] | None, codes: NDArray[np.int64], name: str, seed: int
) -> NDArray[np.object_] | None:
    """Return the donors, or None with a warning if too few cells can be predicted from those of other donors."""
    if groups is None:
        return None
    scored = sum(len(left_out) for _, left_out in training_folds(codes, groups, seed))
    if scored >= LEAST or not scored:  # if there are none, fitting the first view says so
        return groups
    found = f"{name}: only {scored:,} of {len(codes):,} labelled cells have a type that cells of other donors have, too"
    warnings.warn(f"{found}. Cells are left out one by one instead of whole donors.", LabelWarning, stacklevel=5)
    return None
