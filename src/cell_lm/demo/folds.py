"""Leave-donors-out folds: each of three holds out one donor of the pancreas and one of the ovarian cancer.

In a fold, encoder and classifiers are trained on the other four donors only, and label the two held-out donors once.
The strength of the regularisation is tuned on the four donors.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm.config import AdaptConfig, PretrainConfig
from cell_lm.data.cells import CellData
from cell_lm.evaluation.saved_splits import Splits, cells_hash
from cell_lm.evaluation.splits import Split, leave_one_group_out, refuse_leakage
from cell_lm.model import CellLM
from cell_lm.model_folder import packaged_models
from cell_lm.pretraining import RunResult, pretrain
from cell_lm.pretraining.adapt import adapt
from cell_lm.pretraining.run import initial_model
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.baselines import (
    CentroidBaseline,
    GeneLogisticBaseline,
    MajorityBaseline,
    NeighboursBaseline,
    PCALogisticBaseline,
)
from cell_lm.tasks.classifier import Classifier

LABEL, DONOR, DATASET = "cell_type", "donor", "dataset"
MARK = ".cell-lm-demo"
"""An empty file that marks the folder of a demo."""
METHOD = "cell-lm: genes and encoder, pooled"
UNTRAINED = "the same encoder before these steps"
_FEW_METHODS = 3
"""Methods of the quick demo, the first of all."""
FEW = 20
"""A type with fewer training cells in a fold is listed as rare."""


@dataclass(frozen=True, eq=False)
class Fold:
    """The predictions of one fold."""

    split: Split
    run: RunResult
    classifier: CellTypeClassifier
    predicted: dict[str, NDArray[np.object_]]
    """Labels of the held-out cells, by method."""
    confidence: NDArray[np.float64]
    """Probability of the label that :data:`METHOD` predicted."""


def leave_donors_out(cells: AnnData) -> Splits:
    """Return the folds: the first holds out the first donor of each data set, the second the second, and so on."""
    donors, dataset = cells.obs[DONOR].astype(str), cells.obs[DATASET].astype(str)
    by_dataset = [sorted(donors[dataset == name].unique()) for name in dataset.unique()]
    together = {donor: " + ".join(group) for group in zip(*by_dataset, strict=True) for donor in group}
    types = cells.obs[LABEL].astype(str).to_numpy()
    splits = []
    for split in leave_one_group_out(donors.map(together)):
        refuse_leakage(split, donor=donors)
        splits.append(replace(split, rare=tuple(few_cells(types, split))))
    return Splits(tuple(splits), cells_hash(cells.obs_names, cells.X))


def few_cells(types: NDArray[np.object_], split: Split) -> dict[str, int]:
    """Return the tested types with fewer than :data:`FEW` training cells, and how many they have."""
    sizes = {str(name): int((types[split.train] == name).sum()) for name in np.unique(types[split.test])}
    return {name: size for name, size in sizes.items() if size < FEW}


def donors_left_out(split: Split, cells: AnnData) -> list[str]:
    """Return the held-out donors."""
    return sorted(cells.obs[DONOR].astype(str).iloc[split.test].unique())


def run_fold(
    split: Split,
    cells: CellData,
    datasets: Sequence[CellData],
    config: PretrainConfig,
    out: Path,
    *,
    mark: Path,
    few: bool = False,
) -> Fold:
    """Pretrain on the training cells of a fold, fit all methods to them, and label the held-out cells.

    Parameters
    ----------
    split
        Rows of ``cells``.
    cells
        All cells.
    datasets
        The same cells by data set.
    config
        Configuration of the pretraining.
    out
        The run folder.
    mark
        File to create after the first step, so that an interrupted demo can be replaced.
    few
        Compare with two baselines only.

    Raises
    ------
    KeyboardInterrupt
        The pretraining was interrupted.
    """
    left_out = cells.obs[DONOR].iloc[split.test].unique()
    seen = [one[~one.obs[DONOR].isin(left_out).to_numpy()] for one in datasets]

    def after_step() -> bool:
        mark.touch()
        return False

    start = start_of(seen, config)
    config = config.model_copy(update={"encoder": start.config})
    run = pretrain(seen, config, out, initial=start, stop=after_step)
    if run.interrupted:
        raise KeyboardInterrupt
    seed = config.training.seed
    ours = CellTypeClassifier(CellLM.from_pretrained(out), seed=seed)
    predicted = {}
    for name, method in islice(_methods(ours, start, seed), _FEW_METHODS if few else None):
        method.fit(cells[split.train], LABEL, groups=DONOR, min_cells=1)
        probabilities = method.predict_proba(cells[split.test])
        predicted[name] = method.classes_[probabilities.to_numpy().argmax(axis=1)]
        if method is ours:
            confidence = probabilities.to_numpy().max(axis=1)
    return Fold(split, run, ours, predicted, confidence)


def start_of(cells: Sequence[CellData], config: PretrainConfig) -> CellLM:
    """Return the model that a fold begins from: the packaged one of the preset, its linear path adapted to the cells.

    A preset without a packaged model begins from the components of the cells alone.
    """
    if config.preset not in packaged_models():
        return initial_model(cells, config)
    return adapt(CellLM.from_pretrained(config.preset), cells, AdaptConfig(seed=config.training.seed))


def _methods(ours: CellTypeClassifier, untrained: CellLM, seed: int) -> Iterator[tuple[str, Classifier]]:
    yield METHOD, ours
    yield "logistic regression on the genes", GeneLogisticBaseline(seed=seed)
    yield "logistic regression on principal components", PCALogisticBaseline(seed=seed)
    yield "nearest centroid", CentroidBaseline(seed=seed)
    yield "15 nearest neighbours", NeighboursBaseline(seed=seed)
    yield UNTRAINED, CellTypeClassifier(untrained, seed=seed)
    yield "always the most frequent type", MajorityBaseline()


def forget(out: Path) -> None:
    """Remove checkpoints, model and TensorBoard files of a fold; settings, data description and log stay."""
    for name in ("checkpoints", "model", "tensorboard"):
        shutil.rmtree(out / name, ignore_errors=True)


def pool(folds: Sequence[Fold], cells: int) -> tuple[dict[str, NDArray[np.object_]], pd.DataFrame]:
    """Combine the folds: the labels of every cell by each method; and fold and confidence of each cell."""
    predicted = {name: np.empty(cells, object) for name in folds[0].predicted}
    number, confidence = np.zeros(cells, np.int64), np.full(cells, np.nan)
    for position, fold in enumerate(folds, 1):
        rows = fold.split.test
        number[rows], confidence[rows] = position, fold.confidence
        for name, labels in fold.predicted.items():
            predicted[name][rows] = labels
    return predicted, pd.DataFrame({"fold": number, "confidence": confidence})
