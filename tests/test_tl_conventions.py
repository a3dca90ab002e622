"""What scanpy's users expect of every tool: ``copy=``, ``key_added=``, ``layer=``, views, results in h5ad files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cell_lm import tl
from cell_lm.data.response import response_table
from cell_lm.tasks import CellTypeClassifier, DrugSensitivityClassifier, MalignancyClassifier
from cell_lm.tasks.sensitivity import bulk_signature
from sensitive_cells import bulk_lines, sensitive_adata
from typed_cells import tiny_model, typed_adata

mpl.use("agg")
Tool = Callable[..., Any]
KEY = "mine"
MEANINGS = {"alpha": "tumour", "beta": "normal", "gamma": "normal", "delta": "normal"}
LAYERED = ["embed", "annotate", "nearest", "malignancy", "sensitivity", "transfer", "attribution", "deletion"]
NAMES = [*LAYERED, "votes"]


@pytest.fixture(scope="module")
def tools() -> dict[str, Tool]:
    """Return every tool that writes into an AnnData, with its other arguments."""
    model, reference = tiny_model(), typed_adata(160)
    types = CellTypeClassifier(model, views=("model",)).fit(reference, "cell_type", groups="donor")
    kinds = MalignancyClassifier(model, values=MEANINGS).fit(reference, "cell_type", groups="donor")
    drugs = DrugSensitivityClassifier().fit(sensitive_adata(80, seed=9), "response")
    lines, responses = bulk_lines(60)
    signature = bulk_signature(lines, response_table(responses), "drug A", scale="log2")
    others = typed_adata(30)
    others.layers["counts"] = others.X.copy()
    small: dict[str, Any] = {"n_cells": 2, "steps": 4}
    return {
        "embed": lambda adata, **options: tl.embed(adata, model, **options),
        "annotate": lambda adata, **options: tl.annotate(adata, types, probabilities=True, **options),
        "votes": lambda adata, **options: tl.majority_vote(adata, over_clustering="donor", **options),
        "nearest": lambda adata, **options: tl.nearest_cells(adata, others, model, k=3, **options),
        "malignancy": lambda adata, **options: tl.malignancy(adata, kinds, **options),
        "sensitivity": lambda adata, **options: tl.sensitivity(adata, drugs, **options),
        "transfer": lambda adata, **options: tl.sensitivity_transfer(adata, signature, **options),
        "attribution": lambda adata, **options: tl.gene_attribution(adata, types, per_cell=True, **small, **options),
        "deletion": lambda adata, **options: tl.deletion_curve(
            adata, types, shares=[0.0, 0.5, 1.0], seeds=1, **small, **options
        ),
    }


def cells(name: str) -> AnnData:
    """Return cells that the tool can be called on."""
    if name in ("sensitivity", "transfer"):
        return sensitive_adata(60)
    adata = typed_adata(30, seed=1)
    if name == "votes":
        adata.obs["cell_lm_label"] = pd.Categorical(adata.obs["cell_type"])
    return adata


def content(adata: AnnData) -> tuple[object, ...]:
    return adata.X.data.tobytes(), str(adata), adata.obs.to_csv(), repr(adata.uns)


def added(adata: AnnData, before: AnnData) -> dict[str, Any]:
    """Return the new entries, by container and name."""
    places = ("obs", "obsm", "layers", "uns")
    return {
        f"{place} {name}": getattr(adata, place)[name]
        for place in places
        for name in getattr(adata, place)
        if name not in getattr(before, place)
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, pd.DataFrame):
        return all(same(one[name].to_numpy(), other[name].to_numpy()) for name in one)
    if hasattr(one, "toarray"):
        return same(one.toarray(), other.toarray())
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other.astype(one.dtype), atol=1e-5, equal_nan=True))
    return bool((pd.Series(one.ravel()).astype(str) == pd.Series(other.ravel()).astype(str)).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_returned_on_request_and_results_survive_a_file(
    tools: dict[str, Tool], name: str, tmp_path: Path
) -> None:
    adata = cells(name)
    before = content(adata)
    made = tools[name](adata, copy=True, key_added=KEY)
    assert isinstance(made, AnnData)
    assert content(adata) == before
    new = added(made, adata)
    assert new
    assert all(entry.split()[1].startswith(KEY) for entry in new)
    made.write_h5ad(tmp_path / "cells.h5ad")
    back = added(anndata.read_h5ad(tmp_path / "cells.h5ad"), adata)
    assert {entry: same(value, back[entry]) for entry, value in new.items()} == dict.fromkeys(new, True)


@pytest.mark.parametrize("name", NAMES)
def test_a_view_becomes_an_anndata_of_its_own_without_a_warning(tools: dict[str, Tool], name: str) -> None:
    parent = cells(name)
    before, view = content(parent), parent[:25]
    returned = tools[name](view)
    assert not view.is_view
    assert view.n_obs == 25
    assert added(view, parent)
    assert content(parent) == before
    assert returned is None or isinstance(returned, pd.DataFrame)


@pytest.mark.parametrize("name", LAYERED)
def test_counts_are_read_from_a_layer_on_request(tools: dict[str, Tool], name: str) -> None:
    adata = cells(name)
    plain = added(tools[name](adata, copy=True), adata)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X * 0.37
    layered = added(tools[name](adata, copy=True, layer="counts"), adata)
    assert layered.keys() == plain.keys()
    values = [entry for entry in plain if not entry.startswith("uns")]
    assert all(same(plain[entry], layered[entry]) for entry in values)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of matplotlib, in scanpy
def test_labels_are_drawn_by_scanpy(tools: dict[str, Tool]) -> None:
    import matplotlib.pyplot as plt
    import scanpy as sc

    adata = cells("annotate")
    tools["annotate"](adata)
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(0, 1, (adata.n_obs, 2))
    axes = sc.pl.umap(adata, color="cell_lm_label", show=False)
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    assert shown == set(adata.obs["cell_lm_label"].cat.categories)
    plt.close("all")
