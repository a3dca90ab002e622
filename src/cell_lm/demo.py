"""The main job, once, on the packaged cells: pretrain, embed, annotate, report, as a user would.

One donor of each data set takes no part in pretraining and in the fitting of the classifiers; all scores are theirs.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from rich.console import Console

from cell_lm import tl
from cell_lm._version import __version__
from cell_lm.config import PretrainConfig, resolve_config
from cell_lm.data.cells import CellData, from_anndata
from cell_lm.data.demo import HELD_OUT, demo_cells
from cell_lm.data.h5ad_writer import write_h5ad
from cell_lm.data.obs.malignancy import MalignancyColumn
from cell_lm.engine.distributed import Ranks
from cell_lm.evaluation.annotation_metrics import AnnotationScores
from cell_lm.evaluation.geometry import geometry
from cell_lm.files import refuse_to_overwrite, refuse_to_replace
from cell_lm.model import CellLM
from cell_lm.objectives.masked import frequent_bin_accuracy
from cell_lm.pretraining import RunResult, pretrain
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.run import initial_model
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
    read_history,
    umap_coordinates,
    write_report,
)
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.baselines import GeneLogisticBaseline
from cell_lm.tasks.classifier import Classifier

LABEL, DONOR, MALIGNANCY, KEY = "cell_type", "donor", "malignancy", "X_cell_lm"
MARK = ".cell-lm-demo"
LEFT = {MARK, "config.json", "data.json", "log.jsonl", "checkpoints", "tensorboard", "model", "classifier"} | {
    "cells.h5ad",
    "report.html",
}
"""All that a demo leaves in its folder; ``MARK`` says that it is one."""
SETTINGS = {
    "batch_size": 128,
    "steps": 100,
    "validate_every": 20,
    "checkpoint_every": 50,
    "token_budget": 32_768,
    "retain_graphs": 2,
    "learning_rate": 1e-3,
}

LIMITS = (
    "Two data sets and six donors: enough to see every part work, far too few for claims about cells in general.",
    "A few minutes of training. The figures tell what this run reached, not what the model can reach.",
    "The head's degree of whitening and the baseline's components were settled with scores on these donors in view.",
    "Tumour cells come from one data set only, so what tells them from normal cells here is partly their origin.",
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo found, on cells of donors that the model never saw."""

    run: RunResult
    scores: AnnotationScores
    rivals: dict[str, AnnotationScores]
    report: Path


def run_demo(out: Path, *, steps: int | None = None, seed: int = 0, force: bool = False) -> DemoResult:
    """Run the demo into a folder.

    Parameters
    ----------
    out
        Gets ``report.html``, ``cells.h5ad`` and ``model/``, beside the files of a pretraining run and the classifier.
    steps
        Optimiser steps; default: as many as take a few minutes on two cores.
    seed
        Of everything random.
    force
        Replace a folder that is there.
    """
    began, say = time.monotonic(), Console(stderr=True, highlight=False).print
    _make_room(out, force=force)
    config = resolve_config(
        "small", overrides={"training": SETTINGS | {"seed": seed} | ({"steps": steps} if steps else {})}
    )

    packaged = demo_cells(harmonise=True)
    datasets = [
        from_anndata(adata, name=name, malignancy=MalignancyColumn(MALIGNANCY)) for name, adata in packaged.items()
    ]
    seen = [cells[(cells.obs[DONOR] != HELD_OUT[cells.name]).to_numpy()] for cells in datasets]
    say(f"[bold]1/4 pretraining[/bold] on {sum(map(len, seen)):,} normal and tumour cells")

    def mark() -> bool:
        (out / MARK).touch()  # after the first step, so that a demo cut off later can be replaced
        return False

    run = pretrain(seen, config, out, stop=mark)
    if run.interrupted:
        raise KeyboardInterrupt
    model = CellLM.from_pretrained(out)

    cells = _join(packaged)
    known = (cells.obs["role"] == "pretraining").to_numpy()
    say(f"[bold]2/4 embedding[/bold] {len(known):,} cells, {np.sum(~known):,} of them from donors the model never saw")
    tl.embed(cells, model)
    say("[bold]3/4 annotation[/bold] by the embedding and, for comparison, by logistic regression on the genes")
    classifier = CellTypeClassifier(model, seed=seed).fit(cells[known], LABEL, groups=DONOR)
    classifier.save(out / "classifier")
    tl.annotate(cells, classifier)
    rivals = _rivals(cells, known, seen, config)

    say("[bold]4/4 report[/bold]")
    annotation = _annotation(cells, known, rivals)
    data = ReportData(
        title="cell-lm demo",
        summary="A small cell language model, pretrained from nothing on real normal and tumour cells, then judged on "
        "cells of donors it never saw.",
        parameters=model.parameter_count(),
        model=f"small: {model.config.attention} attention, {model.config.layers} layers of width {model.config.width}",
        vocabulary=len(model.vocabulary),
        seconds=time.monotonic() - began,
        datasets=tuple(_describe(one, packaged[one.name]) for one in datasets),
        training=Training(read_history(out), {"masked_accuracy": _naive(seen, config)}, run.seconds),
        embedding=_map(cells, known, seed),
        annotation=annotation,
        reproduction=_reproduction(config, steps),
        limits=LIMITS,
    )
    write_h5ad(cells, out / "cells.h5ad", compression="gzip")
    write_report(data, out / "report.html")
    return DemoResult(run, annotation.scores, rivals, out / "report.html")


def _make_room(out: Path, *, force: bool) -> None:
    """Remove what an earlier demo left, and nothing else."""
    refuse_to_overwrite(out, force=force)
    refuse_to_replace(out, kind="a demo", mark=MARK, names=LEFT)
    if out.exists():
        shutil.rmtree(out)


def _join(packaged: dict[str, AnnData]) -> AnnData:
    """Join the data sets over the genes of both; ``obs["role"]`` says what each cell is for."""
    cells = anndata.concat(packaged, join="outer", label="dataset", index_unique="-", fill_value=0)
    held_out = cells.obs[DONOR].to_numpy() == cells.obs["dataset"].map(HELD_OUT).to_numpy()
    cells.obs["role"] = pd.Categorical(np.where(held_out, "held out", "pretraining"))
    return cells


def _rivals(
    cells: AnnData, known: NDArray[np.bool_], seen: list[CellData], config: PretrainConfig
) -> dict[str, AnnotationScores]:
    """Score on the same cells what the pretrained model has to beat, with the same care."""
    seed = config.training.seed
    everything = from_anndata(cells, name="the demo's cells")
    rivals: dict[str, Classifier] = {
        "logistic regression on the genes": GeneLogisticBaseline(seed=seed),
        "the same encoder before pretraining": CellTypeClassifier(initial_model(seen, config), seed=seed),
    }
    return {
        name: rival.fit(everything[known], LABEL, groups=DONOR).evaluate(everything[~known], LABEL)
        for name, rival in rivals.items()
    }


def _describe(cells: CellData, adata: AnnData) -> Dataset:
    source = f"{adata.uns['source']} ({adata.uns['accession']}); {adata.uns['licence']}"
    return Dataset.from_cells(
        cells, donor=DONOR, tissue="tissue", role=f"donor {HELD_OUT[cells.name]} held out", source=source
    )


def _naive(seen: list[CellData], config: PretrainConfig) -> Baseline:
    batches = Batches(seen, config, Ranks())
    training, held_out = map(batches.pool.tokenise, (batches.train_cells, batches.validation_cells))
    accuracy = frequent_bin_accuracy(training, held_out, config.encoder.bins)
    return Baseline(accuracy, "always the gene's most frequent bin")


def _map(cells: AnnData, known: NDArray[np.bool_], seed: int) -> Embedding:
    embedding = np.asarray(cells.obsm[KEY])
    coordinates = umap_coordinates(embedding, seed)
    cells.obsm[f"{KEY}_umap"] = coordinates
    donor = cells.obs[DONOR].astype(str) + np.where(known, "", " (held out)")
    panels = (
        Panel("Cell type", cells.obs[LABEL], "Do cells of one type lie together, whatever their donor?", on_map=True),
        Panel("Tumour or normal", cells.obs[MALIGNANCY], "Tumour cells are the epithelial cells of the tumours."),
        Panel("Donor", donor, "Donors that were held out should fall among the others."),
    )
    labels = cells.obs[LABEL].astype(str)[~known]
    return Embedding(
        coordinates,
        panels,
        {f"{KEY}, held-out cells": geometry(embedding[~known], labels=labels)},
        "all packaged cells",
    )


def _annotation(cells: AnnData, known: NDArray[np.bool_], rivals: dict[str, AnnotationScores]) -> Annotation:
    test = cells.obs[~known]
    return Annotation(
        truth=test[LABEL].astype(str),
        predicted=test["cell_lm_label"].astype(str),
        baselines=rivals,
        trained_on=f"{known.sum():,} cells of {cells.obs[DONOR][known].nunique()} donors",
        tested_on=f"{len(test):,} cells of {test[DONOR].nunique()} donors seen by neither encoder nor classifier",
        known=frozenset(cells.obs[LABEL][known].astype(str)),
        confidence=test["cell_lm_confidence"].to_numpy(),
    )


def _reproduction(config: PretrainConfig, steps: int | None) -> Reproduction:
    seed = config.training.seed
    words = ["cell-lm demo", *([f"--steps {steps}"] if steps else []), *([f"--seed {seed}"] if seed else [])]
    files = {
        "cells with embedding and labels": "cells.h5ad",
        "the model": "model",
        "the classifier": "classifier",
        "every step of the training": "log.jsonl",
    }
    return Reproduction(" ".join(words), __version__, seed, config.model_dump(mode="json"), environment(), files)
