"""Contents of the demo's report: annotation with intervals, map, training, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm._version import __version__
from cell_lm.config import PretrainConfig
from cell_lm.data.cells import CellData
from cell_lm.demo.folds import DONOR, FEW, LABEL, METHOD, Fold, donors_left_out, few_cells
from cell_lm.engine.distributed import Ranks
from cell_lm.evaluation.geometry import geometry
from cell_lm.evaluation.intervals import CONFIDENCE, Interval
from cell_lm.evaluation.saved_splits import Splits
from cell_lm.files import JSON
from cell_lm.model import CellLM
from cell_lm.objectives.masked import frequent_bin_accuracy
from cell_lm.pretraining.batches import Batches
from cell_lm.report import (
    Annotation,
    Baseline,
    Dataset,
    Embedding,
    Panel,
    ReportData,
    Reproduction,
    Training,
    environment,
    project,
    read_history,
)

KEY = "X_cell_lm"
EXPLORER = "explore.html"

LIMITS = (
    "Two data sets and six donors: enough to see every part work, far too few for claims about cells in general.",
    "A few minutes of training on some two thousand cells. The figures say what this run reached, not what the model "
    "can reach.",
    "Each donor was left out by encoder and classifiers alike. Yet the settings of the linear heads, of "
    "their pool and of the baselines were chosen during development with scores on these six donors in view.",
    "Tumour cells come from one data set only, so what tells them from normal cells here is partly their origin.",
)


class Say(Protocol):
    """Prints a line."""

    def __call__(self, text: str, /) -> None:
        """Print it."""


def annotation(cells: AnnData, predicted: Mapping[str, NDArray[np.object_]], splits: Splits) -> Annotation:
    """Return the labels that all methods predicted for the cells of held-out donors."""
    rows = np.sort(np.concatenate([split.test for split in splits]))  # all cells, unless there is one fold
    tested = cells.obs.iloc[rows]
    donors = tested[DONOR].astype(str)
    return Annotation(
        truth=tested[LABEL].astype(str),
        predicted=predicted[METHOD][rows],
        method=METHOD,
        baselines={name: labels[rows] for name, labels in predicted.items() if name != METHOD},
        donors=donors,
        trained_on=f"the cells of the other four donors{', three times' if len(splits) > 1 else ''}",
        tested_on=f"{len(rows):,} cells of {donors.nunique()} donors, each left out once by encoder and classifiers",
        type_notes=_type_notes(cells, splits),
        confidence=tested["left_out_confidence"].to_numpy(),
    )


def _few(cells: AnnData, splits: Splits) -> dict[str, list[tuple[int, list[str]]]]:
    """Return, for each type with few training cells in a fold, their number and the donors held out."""
    types, found = cells.obs[LABEL].astype(str).to_numpy(), dict[str, list[tuple[int, list[str]]]]()
    for split in splits:
        for name, size in few_cells(types, split).items():
            having = cells.obs.iloc[split.test]
            having = having[having[LABEL].astype(str) == name]
            donors = [donor for donor in donors_left_out(split, cells) if donor in set(having[DONOR].astype(str))]
            found.setdefault(name, []).append((size, donors))
    return found


def _type_notes(cells: AnnData, splits: Splits) -> dict[str, str]:
    return {
        name: "; ".join(
            f"{size or 'no'} training cell{'' if size == 1 else 's'} with {' and '.join(donors)} left out"
            for size, donors in where
        )
        for name, where in sorted(_few(cells, splits).items())
    }


def rare_types(cells: AnnData, splits: Splits) -> str:
    """Return the types with few training cells in a fold in one line."""
    notes = "; ".join(f"{name} ({note})" for name, note in _type_notes(cells, splits).items())
    return f"types with fewer than {FEW} training cells: {notes}"


def scores(annotation: Annotation) -> dict[str, JSON]:
    """Return the scores of methods and donors as JSON values."""
    methods: dict[str, JSON] = {
        one.name: {
            "macro_f1": _json(one.macro_f1),
            "accuracy": round(one.accuracy, 4),
            "difference": None if one.difference is None else _json(one.difference),
        }
        for one in annotation.methods
    }
    donors: dict[str, JSON] = {
        one.name: {
            "cells": one.cells,
            "types": one.types,
            "macro_f1": _json(one.macro_f1),
            "strongest_baseline": round(one.rival, 4),
            "difference": None if one.difference is None else _json(one.difference),
        }
        for one in annotation.by_donor
    }
    strongest = annotation.strongest.name if annotation.strongest else None
    return {"confidence": CONFIDENCE, "strongest_baseline": strongest, "methods": methods, "donors": donors}


def _json(interval: Interval) -> JSON:
    return {"mean": round(interval.mean, 4), "interval": list(interval.bounds())}


def report_data(
    cells: AnnData,
    datasets: Sequence[CellData],
    packaged: Mapping[str, AnnData],
    last: Fold,
    annotation: Annotation,
    *,
    config: PretrainConfig,
    steps: int | None,
    out: Path,
    folds: int,
) -> ReportData:
    """Collect the data of the report; map, curves and model are those of the last fold."""
    model = last.classifier.resolved_model
    left_out = donors_left_out(last.split, cells)
    seen = [one[~one.obs[DONOR].isin(left_out).to_numpy()] for one in datasets]
    return ReportData(
        title="cell-lm demo",
        summary=_summary(folds, " and ".join(left_out)),
        parameters=model.parameter_count(),
        model=_describe_model(model, config.preset),
        vocabulary=len(model.vocabulary),
        datasets=tuple(_describe(one, packaged[one.name]) for one in datasets),
        training=Training(read_history(out), {"masked_accuracy": _naive(seen, config)}, last.run.seconds),
        embedding=_map(cells, last.split.test, config.training.seed),
        annotation=annotation,
        reproduction=_reproduction(config, steps, quick=folds == 1),
        limits=LIMITS,
    )


def _summary(folds: int, left_out: str) -> str:
    what = "A small cell language model, pretrained on real normal and tumour cells, then tested on cells of donors "
    if folds == 1:
        return f"{what}it never saw: {left_out}. The quick demo, on a fifth of the cells: its scores say little."
    return (
        f"{what}it never saw: {folds} times, so that each of the six donors is left out once. Curves, map and the "
        f"model in this folder are those of the last time, with {left_out} left out."
    )


def _describe_model(model: CellLM, preset: str) -> str:
    shape = model.config
    return f"{preset}: {shape.attention} attention, {shape.layers} layers of width {shape.width}"


def _describe(cells: CellData, adata: AnnData) -> Dataset:
    source = f"{adata.uns['source']} ({adata.uns['accession']}); {adata.uns['licence']}"
    return Dataset.from_cells(cells, donor=DONOR, tissue="tissue", role="each donor left out once", source=source)


def _naive(seen: Sequence[CellData], config: PretrainConfig) -> Baseline:
    batches = Batches(seen, config, Ranks())
    training, held_out = map(batches.pool.tokenise, (batches.train_cells, batches.validation_cells))
    accuracy = frequent_bin_accuracy(training, held_out, config.encoder.bins)
    return Baseline(accuracy, "always the gene's most frequent bin")


def _map(cells: AnnData, left_out: NDArray[np.int64], seed: int) -> Embedding:
    embedding = np.asarray(cells.obsm[KEY])
    drawn = project(embedding, seed)
    cells.obsm[f"{KEY}_{'umap' if drawn.method == 'UMAP' else 'tsne'}"] = drawn.coordinates
    donor = cells.obs[DONOR].astype(str) + np.where(cells.obs["role"] == "held out", " (left out)", "")
    panels = (
        Panel("Cell type", cells.obs[LABEL], "Do cells of one type lie together, whatever their donor?", on_map=True),
        Panel("Tumour or normal", cells.obs["malignancy"], "Tumour cells are the epithelial cells of the tumours."),
        Panel("Donor", donor, "Donors that were left out should fall among the others."),
    )
    labels = cells.obs[LABEL].astype(str).iloc[left_out]
    measured = geometry(embedding[left_out], labels=labels)
    named = {f"{KEY}, cells left out": measured}
    return Embedding(drawn.coordinates, panels, named, "All packaged cells", drawn.method, EXPLORER)


def _reproduction(config: PretrainConfig, steps: int | None, *, quick: bool) -> Reproduction:
    seed = config.training.seed
    words = [
        "cell-lm demo",
        *(["--quick"] if quick else []),
        *([f"--steps {steps}"] if steps else []),
        *([f"--seed {seed}"] if seed else []),
    ]
    files = {
        "cells with embedding and labels": "cells.h5ad",
        "the scores": "scores.json",
        "which cells each fold left out": "splits.json",
        "the model": "model",
        "the same cells on a map, to explore": EXPLORER,
        "the classifier": "classifier",
        "every step of the training": "log.jsonl",
    }
    return Reproduction(" ".join(words), __version__, seed, config.model_dump(mode="json"), environment(), files)
