"""Majority votes and nearest cells of an AnnData."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cell_lm import tl
from cell_lm.errors import ConfigError, InputError
from cell_lm.model import CellLM
from typed_cells import tiny_model, typed_adata


@pytest.fixture(scope="module")
def model() -> CellLM:
    return tiny_model()


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return typed_adata(120)


@pytest.fixture
def annotated() -> AnnData:
    rng = np.random.default_rng(0)
    truth = np.repeat(["B", "T"], 100)
    labels = truth.copy()
    labels[[3, 50, 120]] = ["T", "T", "unknown"]
    obs = pd.DataFrame({"cell_lm_label": pd.Categorical(labels), "truth": truth, "leiden": np.repeat(["0", "1"], 100)})
    obs.index = [f"c{number}" for number in range(200)]
    made = AnnData(np.zeros((200, 1), np.float32), obs=obs)
    made.obsm["X_cell_lm"] = np.where(truth == "B", 1.0, -1.0)[:, None] * [3.0, 1.0] + rng.normal(0, 0.2, (200, 2))
    return made


def test_votes_stand_beside_the_labels_of_the_single_cells(annotated: AnnData, tmp_path: Path) -> None:
    before = annotated.obs["cell_lm_label"].copy()
    assert tl.majority_vote(annotated) is None
    pd.testing.assert_series_equal(annotated.obs["cell_lm_label"], before)
    assert (annotated.obs["cell_lm_majority_label"].astype(str) == annotated.obs["truth"]).all()
    assert annotated.obs["cell_lm_majority_share"].between(0.5, 1).all()
    record = annotated.uns["cell_lm_majority"]
    assert record["changed"] == 3
    assert record["clusters"] == annotated.obs["cell_lm_over_clustering"].nunique() > 5
    annotated.write_h5ad(tmp_path / "votes.h5ad")
    assert "cell_lm_majority_label" in anndata.read_h5ad(tmp_path / "votes.h5ad").obs


def test_votes_are_taken_in_the_clusters_of_a_column_and_cells_without_one_have_none(annotated: AnnData) -> None:
    annotated.obs.loc["c0", "leiden"] = None
    del annotated.obsm["X_cell_lm"]
    voted = tl.majority_vote(annotated, over_clustering="leiden", min_share=0.985, copy=True)
    assert voted is not None
    assert "cell_lm_majority_label" not in annotated.obs
    assert "cell_lm_over_clustering" not in voted.obs
    labels = voted.obs["cell_lm_majority_label"]
    assert pd.isna(labels["c0"])
    assert labels["c1"] == "mixed"
    assert labels["c150"] == "T"
    np.testing.assert_allclose(voted.obs["cell_lm_majority_share"]["c1"], 97 / 99, rtol=1e-6)
    assert (voted.uns["cell_lm_majority"]["changed"], voted.uns["cell_lm_majority"]["mixed"]) == (100, 99)


def test_what_cannot_vote_is_refused_and_nothing_written(annotated: AnnData) -> None:
    columns = list(annotated.obs)
    with pytest.raises(InputError, match=r"no column 'mine_label'\. Call cell_lm\.tl\.annotate"):
        tl.majority_vote(annotated, "mine")
    with pytest.raises(InputError, match=r"no 'X_pca' to make clusters from\. Call cell_lm\.tl\.embed"):
        tl.majority_vote(annotated, basis="X_pca")
    with pytest.raises(InputError, match="no column 'leidn'"):
        tl.majority_vote(annotated, over_clustering="leidn")
    with pytest.raises(ConfigError, match="min_share is 50"):
        tl.majority_vote(annotated, min_share=50)
    annotated.uns["cell_lm_majority"] = "mine"
    with pytest.raises(InputError, match="holds something else"):
        tl.majority_vote(annotated)
    assert list(annotated.obs) == columns


def test_the_nearest_cells_are_told_with_label_donor_and_name(cells: AnnData, model: CellLM) -> None:
    query, reference = cells[:20].copy(), cells[20:].copy()
    x_before = query.X.copy()
    table = tl.nearest_cells(query, reference, model, k=5, label="cell_type", donor="donor")
    assert list(table) == ["cell", "rank", "neighbour", "row", "distance", "label", "donor"]
    assert table["cell"].tolist() == np.repeat(query.obs_names, 5).tolist()
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] * 20
    assert (table.groupby("cell", sort=False)["distance"].diff().dropna() >= 0).all()
    there = reference.obs.loc[table["neighbour"]]
    assert there["cell_type"].tolist() == table["label"].tolist()
    assert there["donor"].tolist() == table["donor"].tolist()
    truth = query.obs.loc[table["cell"], "cell_type"].to_numpy()
    assert (truth == table["label"].to_numpy()).mean() > 0.8
    np.testing.assert_array_equal(query.obsm["cell_lm_nearest_row"].ravel(), table["row"])
    assert query.uns["cell_lm_nearest"]["reference_cells"] == 100
    assert (x_before != query.X).nnz == 0


def test_a_cell_of_the_reference_is_its_own_nearest(cells: AnnData, model: CellLM) -> None:
    some = cells[5:9].copy()
    table = tl.nearest_cells(some, cells, model, k=1)
    assert table["neighbour"].tolist() == some.obs_names.tolist()
    np.testing.assert_allclose(table["distance"], 0, atol=1e-5)


def test_too_few_cells_for_k_or_a_wrong_column_are_refused(cells: AnnData, model: CellLM) -> None:
    few = cells[:4].copy()
    with pytest.raises(InputError, match="4 cells, fewer than k = 15"):
        tl.nearest_cells(cells, few, model)
    with pytest.raises(ConfigError, match="k is 0"):
        tl.nearest_cells(cells, few, model, k=0)
    with pytest.raises(InputError, match="no column 'celltype'"):
        tl.nearest_cells(cells, few, model, k=2, label="celltype")
