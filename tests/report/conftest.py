"""A small report with everything in it, made from synthetic cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_lm.evaluation.geometry import geometry
from cell_lm.genes.audit import STATUSES, AuditSummary
from cell_lm.report import Annotation, Baseline, Dataset, Embedding, Panel, ReportData, Reproduction, Training
from cell_lm.report.page import render

TYPES = ("alpha", "beta", "delta")


def make_audit(**counts: int) -> AuditSummary:
    by_status = {str(status): counts.get(str(status).replace("-", "_"), 0) for status in STATUSES}
    used = by_status["matched"] + by_status["renamed"] + by_status["merged"]
    listed = {str(status): [] for status in STATUSES if status != "matched"}
    return AuditSummary(sum(by_status.values()), 2 * max(used, 1), used, by_status, listed)


@pytest.fixture(scope="session")
def annotation() -> Annotation:
    truth = ["alpha"] * 6 + ["beta"] * 3 + ["delta"]
    predicted = ["alpha"] * 5 + ["beta"] + ["beta"] * 3 + ["gamma"]
    return Annotation(
        truth,
        predicted,
        baselines={
            "most frequent": ["alpha"] * 10,
            "logistic regression": truth,
        },
        trained_on="30 cells of 2 donors",
        tested_on="10 cells of 1 unseen donor",
        confidence=np.linspace(0.99, 0.54, 10),
    )


@pytest.fixture(scope="session")
def full(history: pd.DataFrame, annotation: Annotation) -> ReportData:
    rng = np.random.default_rng(0)
    labels = np.array(TYPES)[np.arange(60) % 3]
    centres = {"alpha": (0, 0), "beta": (9, 0), "delta": (0, 9)}
    coordinates = np.array([centres[label] for label in labels]) + rng.normal(0, 1, (60, 2))
    malignancies = np.where(labels == "alpha", "tumour", "normal")
    return ReportData(
        title="Pancreas, small",
        summary="Made from synthetic cells.",
        parameters=1_234_567,
        model="tiny: full attention",
        vocabulary=19_281,
        seconds=372.0,
        datasets=(
            Dataset(
                "first.h5ad",
                40,
                make_audit(matched=90, renamed=7, merged=2, ambiguous=1, non_coding=12, unknown=3),
                tumour=10,
                normal=25,
                donors=2,
                tissue="pancreas",
                source="somewhere, CC BY 4.0",
                renamed=(("GNB2L1", "RACK1", "previous symbol"),),
                library_size=rng.integers(1000, 9000, 40),
                genes_per_cell=rng.integers(500, 2000, 40),
            ),
            Dataset("second.h5ad", 20, make_audit(matched=50), donors=1),
        ),
        training=Training(history, {"masked_accuracy": Baseline(0.41, "always the most frequent bin")}),
        embedding=Embedding(
            coordinates,
            (Panel("Cell type", labels, "Labels of the data.", on_map=True), Panel("Tumour or normal", malignancies)),
            {"cell-lm": geometry(rng.normal(size=(60, 8)), labels=labels)},
            cells="60 cells of 3 donors",
        ),
        annotation=annotation,
        reproduction=Reproduction(
            "cell-lm demo --seed 7",
            "0.1.0",
            7,
            {"training": {"steps": 60}},
            {"Python": "3.11"},
            {"embedded cells": "cells.h5ad"},
        ),
        limits=("Synthetic cells.",),
    )


@pytest.fixture(scope="session")
def text(full: ReportData) -> str:
    """Return the page of the full report, made once."""
    return render(full)
