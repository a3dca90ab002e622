"""Supervised fine-tuning: from a frozen encoder and labelled cells to an encoder that separates their labels.

1. A linear head is fitted on the frozen CLS, and training begins from it (Kumar et al. 2022, arXiv 2202.10054): step 0
   is the frozen classifier.
2. Whole donors (without donors: cells, stratified) are left out. Training stops where their log loss is least, among
   the steps whose macro-F1 is not below that of step 0; if none is better than step 0, the encoder stays as it was.
3. Training is repeated on all cells for as many steps, and a linear head is fitted on the new CLS of all cells. Its
   temperature is that of the cells left out, whose CLS the first encoder had never been trained on.

In a model whose transformer has no part in CLS yet (``small``), ``refinement`` trains what CLS passes through, and the
other parts train the correction that the transformer adds, which is 0 at the start: after some steps it takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from cell_lm.config import FineTuneConfig
from cell_lm.data.view import CellView
from cell_lm.engine.best_weights import BestWeights
from cell_lm.engine.log import Kind, SilentLog
from cell_lm.engine.loop import LoopSettings, Trainer
from cell_lm.engine.sharding import load_weights
from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import best_temperature
from cell_lm.evaluation.linear_head import LinearHead, fit_head
from cell_lm.model import CellLM
from cell_lm.tasks.features import CACHE, Device, EmbeddingCache, embed_cells, place
from cell_lm.tasks.finetuning.step import FineTuneStep, LabelledCells
from cell_lm.tasks.finetuning.trainable import merge, prepare

Labels: TypeAlias = "NDArray[np.object_]"
Told: TypeAlias = "Callable[[int, str], None] | None"


@dataclass(frozen=True)
class Look:
    """Scores of the left-out cells after a number of steps: mean log loss by class (nats), and macro-F1."""

    step: int
    loss: float
    macro_f1: float


@dataclass(frozen=True, eq=False)
class FineTuned:
    """Result of :func:`fine_tune`.

    Attributes
    ----------
    model : CellLM
        The fine-tuned model; the given one itself if ``best_step`` is 0.
    head : LinearHead
        Fitted on CLS of ``model`` for all cells; its temperature is that of the cells left out.
    best_step : int
        Steps after which the cells left out were predicted best; 0: no step was better than the frozen encoder.
    looks : tuple of Look
        Scores of the cells left out at step 0 and at every validation; empty if no cell could be left out.
    left_out : ndarray
        bool [cells]: which cells were left out to choose the number of steps.
    unit : {"donor", "cell"}
        What was left out.
    trial : CellLM or None
        The model that was trained without the cells left out: what it makes of them is what to expect of new cells.
        None if ``best_step`` is 0.
    """

    model: CellLM
    head: LinearHead
    best_step: int
    looks: tuple[Look, ...]
    left_out: NDArray[np.bool_]
    unit: str
    trial: CellLM | None = None

    def __str__(self) -> str:
        """Return a description in one line."""
        if not self.looks and self.left_out.any():
            return f"not fine-tuned: the left-out {self.unit}s lack cells of a label, and cannot tell what it brings"
        if not self.looks:
            return "not fine-tuned: there are too few cells to leave any out"
        first, best = (next(look for look in self.looks if look.step == step) for step in (0, self.best_step))
        cells = f"{int(self.left_out.sum()):,} cells of left-out {self.unit}s"
        if self.unit == "cell":
            cells = f"{int(self.left_out.sum()):,} left-out cells"
        if not self.best_step:
            return f"not fine-tuned: no step predicted the {cells} better than the frozen encoder"
        scores = f"log loss {first.loss:.3f} to {best.loss:.3f}, macro-F1 {first.macro_f1:.3f} to {best.macro_f1:.3f}"
        return f"fine-tuned for {self.best_step:,} steps: {scores} on {cells}"


def fine_tune(
    model: CellLM,
    cells: CellView,
    labels: Labels,
    groups: Labels | None = None,
    config: FineTuneConfig | None = None,
    *,
    every_label: bool = False,
    device: Device = None,
    cache: EmbeddingCache | None = CACHE,
    progress: Told = None,
) -> FineTuned:
    """Fine-tune an encoder on labelled cells.

    Parameters
    ----------
    model
        The encoder. Its weights are not changed; it is moved to the device, and stays there.
    cells
        The cells, aligned to the vocabulary of the model.
    labels
        str objects [cells]; two different ones at least.
    groups
        str objects [cells]: the donors. Whole donors are then left out.
    config
        Settings.
    every_label
        Train only where the cells left out are of every label.
    device
        Device; None: CUDA where there is a device, else the CPU.
    cache
        Cache of embeddings; None: none.
    progress
        Called after every step with the number of steps done, and a short description.

    Returns
    -------
    FineTuned

    Raises
    ------
    InputError
        The numbers of labels or donors are not that of the cells, or there is one label only.
    GeneError
        The cells are aligned to another vocabulary.
    ConfigError, ModelError
        The settings do not fit the model.
    """
    config = config or FineTuneConfig()
    classes, codes = np.unique(labels, return_inverse=True)
    if len(labels) != len(cells) or (groups is not None and len(groups) != len(cells)) or len(classes) < 2:
        found = f"{len(labels):,} labels of {len(classes):,} kinds for {len(cells):,} cells"
        raise InputError(found, where=cells.name, fix="Give one label a cell (and one donor), of two kinds at least")
    place(model, device)
    prepared(model, config)  # refuses settings that do not fit before the slow steps
    run = _Run(model, cells, np.asarray(labels, object), codes, groups, config, every_label, device, cache, progress)
    return run.tune()


def hold_out(codes: NDArray[np.int64], groups: Labels | None, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which cells to leave out, bool [cells]; none where no two classes would be left to train on.

    Parameters
    ----------
    codes
        The class of each cell.
    groups
        The donor of each cell; whole donors are left out, in random order, as many as come closest to the fraction, one
        at least and not all. None: of each class, the fraction of its cells, rounded down.
    fraction
        Fraction of the cells.
    seed
        Seed of the order.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        left_out = np.zeros(len(codes), bool)
        for one in np.unique(codes):
            members = rng.permutation(np.flatnonzero(codes == one))
            left_out[members[: int(fraction * len(members))]] = True
    else:
        donors, of_cell, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        order = rng.permutation(len(donors))
        off = np.abs(np.cumsum(sizes[order])[:-1] - fraction * len(codes))
        left_out = np.isin(of_cell, order[: int(np.argmin(off)) + 1] if len(off) else [])
    return left_out if len(np.unique(codes[~left_out])) > 1 else np.zeros(len(codes), bool)


@dataclass(frozen=True, eq=False)
class _Run:
    model: CellLM
    cells: CellView
    labels: Labels
    codes: NDArray[np.int64]
    groups: Labels | None
    config: FineTuneConfig
    every_label: bool
    device: Device
    cache: EmbeddingCache | None
    progress: Told

    def tune(self) -> FineTuned:
        config, unit = self.config, "cell" if self.groups is None else "donor"
        left_out = hold_out(self.codes, self.groups, config.left_out, config.seed)
        rest = ~left_out
        judged = left_out & np.isin(self.codes, np.unique(self.codes[rest]))
        frozen = self._embed(self.model)
        if not judged.any() or (self.every_label and len(np.unique(self.codes[judged])) <= self.codes.max()):
            return FineTuned(self.model, self._head(frozen), 0, (), left_out, unit)
        head, looks = self._head(frozen, rest), _Looks()
        tuned, best = self._train(head, rest, judged, looks)
        scores = tuple(looks.all)
        if not best:
            return FineTuned(self.model, self._head(frozen), 0, scores, left_out, unit)
        hotter, trial = self._temperature(tuned, rest, judged), tuned
        if config.repeat:
            tuned, _ = self._train(self._head(frozen), np.ones_like(rest), None, SilentLog(), stop=best)
        return FineTuned(tuned, _divided(self._head(self._embed(tuned)), hotter), best, scores, left_out, unit, trial)

    def _train(
        self,
        head: LinearHead,
        train: NDArray[np.bool_],
        judged: NDArray[np.bool_] | None,
        log: SilentLog,
        stop: int | None = None,
    ) -> tuple[CellLM, int]:
        """Train a copy; return it at its best step (without judged cells: after ``stop`` steps), and that step."""
        config, tuned = self.config, prepared(self.model, self.config).to(self.model.device)
        left_out = np.empty(0, np.int64) if judged is None else np.flatnonzero(judged)
        codes = np.searchsorted(head.classes, self.labels.astype(str))
        labelled = LabelledCells(self.cells, codes, np.flatnonzero(train), left_out)
        step = FineTuneStep(tuned, head, labelled, config)
        best = BestWeights(step.module, self.progress)
        trainer = Trainer(step, _loop(config, early=judged is not None), display=best, log=log, save=best.save)
        trainer.run(lambda: stop is not None and trainer.state.step >= stop)
        if judged is not None:
            load_weights(step.module, best.tensors)
        merge(tuned)
        return tuned.eval(), trainer.state.best_step or 0

    def _temperature(self, tuned: CellLM, rest: NDArray[np.bool_], judged: NDArray[np.bool_]) -> float:
        """Return by how much left-out cells need a higher temperature than a head fitted on the others has."""
        embedding = self._embed(tuned)
        head = self._head(embedding, rest)
        logits = np.log(np.maximum(head.probabilities(embedding[judged]), np.finfo(np.float64).tiny))
        return best_temperature(logits, np.searchsorted(head.classes, self.labels[judged].astype(str)))

    def _embed(self, model: CellLM) -> NDArray[np.float32]:
        return embed_cells(model, self.cells, device=self.device, cache=self.cache)

    def _head(self, embedding: NDArray[np.float32], cells: NDArray[np.bool_] | None = None) -> LinearHead:
        """Fit a linear head on some cells; on left-out donors where they share classes."""
        chosen = np.ones(len(embedding), bool) if cells is None else cells
        features, labels = embedding[chosen], self.labels[chosen]
        groups = None if self.groups is None else self.groups[chosen]
        if groups is not None and _share_classes(self.codes[chosen], groups):
            return fit_head(features, labels, groups=groups, seed=self.config.seed)
        return fit_head(features, labels, seed=self.config.seed)


class _Looks(SilentLog):
    """A log that keeps the validations."""

    def __init__(self) -> None:
        self.all: list[Look] = []

    def metrics(self, kind: Kind, step: int, metrics: object) -> None:
        if kind == "valid" and isinstance(metrics, dict):
            self.all.append(Look(step, float(metrics["loss"]), float(metrics["macro_f1"])))


def _loop(config: FineTuneConfig, *, early: bool) -> LoopSettings:
    return LoopSettings(
        steps=config.steps,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        final_rate=config.final_rate,
        clip=config.clip,
        checkpoint_every=config.steps + 1,
        validate_every=config.validate_every if early else config.steps + 1,
        patience=config.patience if early else None,
    )


def prepared(model: CellLM, config: FineTuneConfig) -> CellLM:
    """Return a copy of a model, on the CPU, in which the chosen parameters can be trained."""
    copied = CellLM(model.config, model.vocabulary, model.objectives)
    copied.load_state_dict(model.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        prepare(copied, config)
    return copied


def _divided(head: LinearHead, temperature: float) -> LinearHead:
    """Return a head whose logits are divided by a temperature."""
    selection = replace(head.selection, temperature=head.selection.temperature * temperature)
    coefficients, intercept = head.coefficients / temperature, head.intercept / temperature
    return replace(head, coefficients=coefficients, intercept=intercept, selection=selection)


def _share_classes(codes: NDArray[np.int64], groups: Labels) -> bool:
    """Return whether a donor has cells of two classes that the others have, too, so that it can be left out."""
    for donor in np.unique(groups):
        inside = groups == donor
        if not inside.all() and len(np.unique(codes[~inside])) > 1 and np.isin(codes[inside], codes[~inside]).any():
            return True
    return False
