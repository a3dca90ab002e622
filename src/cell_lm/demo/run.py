"""Run the demo on the packaged cells and write its folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from rich.console import Console

from cell_lm import tl
from cell_lm.config import PretrainConfig, resolve_config
from cell_lm.data.cells import CellData, from_anndata
from cell_lm.data.demo import demo_cells
from cell_lm.data.h5ad_writer import write_h5ad
from cell_lm.data.obs.malignancy import MalignancyColumn
from cell_lm.demo import contents
from cell_lm.demo.folds import (
    DATASET,
    LABEL,
    MARK,
    METHOD,
    Fold,
    donors_left_out,
    forget,
    leave_donors_out,
    pool,
    run_fold,
)
from cell_lm.evaluation.saved_splits import Splits
from cell_lm.explorer import collect, write_explorer
from cell_lm.files import refuse_to_overwrite, refuse_to_replace, refuse_unwritable, write_json
from cell_lm.pretraining import RunResult
from cell_lm.report import Annotation, write_report

MALIGNANCY = "malignancy"
FOLDS = "folds"
LEFT = {MARK, "config.json", "data.json", "log.jsonl", "checkpoints", "tensorboard", "model", "classifier"} | {
    "cells.h5ad",
    contents.EXPLORER,
    "report.html",
    "splits.json",
    "scores.json",
    FOLDS,
}
"""All files of a demo folder; ``MARK`` marks it as one."""
SETTINGS = {
    "batch_size": 64,
    "steps": 18,
    "validate_every": 6,
    "checkpoint_every": 18,
    "token_budget": 32_768,
    "retain_graphs": 2,
    "learning_rate": 1e-3,
}


QUICK = {"batch_size": 16, "steps": 2, "validate_every": 2, "checkpoint_every": 2}
"""Settings of the quick demo, which also takes a fifth of the cells, one fold and two baselines."""


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo, on the cells of held-out donors.

    Attributes
    ----------
    runs : tuple of RunResult
        The pretraining of each fold.
    annotation : Annotation
        Labels of all methods, with scores and intervals.
    rare : str
        The types with few training cells in a fold, in words.
    report : Path
    """

    runs: tuple[RunResult, ...]
    annotation: Annotation
    rare: str
    report: Path


def run_demo(
    out: Path,
    *,
    steps: int | None = None,
    seed: int = 0,
    preset: str = "small",
    quick: bool = False,
    force: bool = False,
) -> DemoResult:
    """Run the demo into a folder.

    Parameters
    ----------
    out
        Receives ``report.html``, ``explore.html``, ``cells.h5ad``, ``scores.json``, ``splits.json`` and ``model/``, and
        the run files and classifier of the last fold. ``folds/`` has the logs of the others.
    steps
        Optimiser steps of each fold; default: as many as take a few minutes on two cores.
    seed
        Random seed.
    preset
        Size of the model.
    quick
        A fifth of the cells, and one fold with fewer methods: one to two minutes, to see that everything works.
    force
        Replace an existing folder.
    """
    began, say = time.monotonic(), Console(stderr=True, highlight=False).print
    _make_room(out, force=force)
    config = resolve_config(
        preset,
        overrides={
            "training": SETTINGS | (QUICK if quick else {}) | {"seed": seed} | ({"steps": steps} if steps else {})
        },
    )
    packaged = demo_cells(harmonise=True)
    if quick:
        packaged = {name: _a_fifth(adata) for name, adata in packaged.items()}
    datasets = [
        from_anndata(adata, name=name, malignancy=MalignancyColumn(MALIGNANCY)) for name, adata in packaged.items()
    ]
    cells = anndata.concat(packaged, join="outer", label=DATASET, index_unique="-", fill_value=0)
    splits = leave_donors_out(cells)
    if quick:
        splits = Splits(splits.splits[-1:], splits.cells)
    folds = _run_folds(out, splits, cells, datasets, config, say, few=quick)

    say("[bold]map and report[/bold]")
    last = folds[-1]
    last.classifier.save(out / "classifier")
    predicted = _write_into(cells, folds)
    annotation = contents.annotation(cells, predicted, splits)
    splits.save(out / "splits.json")
    write_json(out / "scores.json", contents.scores(annotation))
    data = contents.report_data(
        cells, datasets, packaged, last, annotation, config=config, steps=steps, out=out, folds=len(folds)
    )
    write_h5ad(cells, out / "cells.h5ad", compression="gzip")
    write_explorer(collect(cells, color=LABEL, title="cell-lm demo"), out / contents.EXPLORER)
    write_report(replace(data, seconds=time.monotonic() - began), out / "report.html")
    rare = contents.rare_types(cells, splits)
    return DemoResult(tuple(fold.run for fold in folds), annotation, rare, out / "report.html")


def _a_fifth(adata: AnnData) -> AnnData:
    """Return every fifth cell of each type of each donor."""
    number = adata.obs.groupby(["donor", "cell_type"], observed=True).cumcount()
    return adata[(number % 5 == 0).to_numpy()].copy()


def _make_room(out: Path, *, force: bool) -> None:
    """Remove what an earlier demo left, and nothing else."""
    refuse_unwritable(out)
    refuse_to_overwrite(out, force=force)
    refuse_to_replace(out, kind="a demo", mark=MARK, names=LEFT)
    if out.exists():
        shutil.rmtree(out)


def _run_folds(
    out: Path,
    splits: Splits,
    cells: AnnData,
    datasets: Sequence[CellData],
    config: PretrainConfig,
    say: contents.Say,
    *,
    few: bool,
) -> list[Fold]:
    """Run the last fold first, in the demo's folder, which must be empty for it; then the others in theirs."""
    everything, last = from_anndata(cells, name="the demo's cells"), len(splits.splits)
    found: dict[int, Fold] = {}
    for done, number in enumerate((last, *range(1, last)), 1):
        split, folder = splits.splits[number - 1], out if number == last else out / FOLDS / str(number)
        without = " and ".join(donors_left_out(split, cells))
        training = (
            f"pretraining on {len(split.train):,} cells of the other donors, then annotation of {len(split.test):,}"
        )
        say(f"[bold]{done}/{last}[/bold] {without} left out: {training}")
        found[number] = run_fold(split, everything, datasets, config, folder, mark=out / MARK, few=few)
        if number != last:
            forget(folder)
    return [found[number] for number in sorted(found)]


def _write_into(cells: AnnData, folds: Sequence[Fold]) -> dict[str, NDArray[np.object_]]:
    """Write embedding and labels by the model of the last fold, and the held-out predictions of each cell."""
    last = folds[-1]
    tl.embed(cells, last.classifier.resolved_model, key_added=contents.KEY)
    tl.annotate(cells, last.classifier)
    held_out = np.isin(np.arange(cells.n_obs), last.split.test)
    cells.obs["role"] = pd.Categorical(np.where(held_out, "held out", "pretraining"))
    predicted, each = pool(folds, cells.n_obs)
    ours = predicted[METHOD]
    cells.obs["fold"] = each["fold"].to_numpy()
    cells.obs["left_out_label"] = pd.Categorical(ours)
    cells.obs["left_out_confidence"] = each["confidence"].to_numpy()
    return predicted
