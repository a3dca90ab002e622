"""What a report tells of cells that were read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.cells import CellData, from_anndata
from cell_lm.data.obs.malignancy import MalignancyColumn
from cell_lm.errors import InputError
from cell_lm.genes import Vocabulary
from cell_lm.report import Dataset, Embedding, Panel

RENAMED = ("GNB2L1", "H3F3A", "ATP5E")


@pytest.fixture(scope="module")
def counts() -> NDArray[np.float32]:
    matrix = np.random.default_rng(0).poisson(1.0, (12, 1203)).astype(np.float32)
    matrix[:, 1200:] = [[1, 90, 30]]
    return matrix


@pytest.fixture(scope="module")
def cells(counts: NDArray[np.float32]) -> CellData:
    names = [symbol for symbol in Vocabulary.human().symbols if symbol not in {"RACK1", "H3-3A", "ATP5F1E"}][:1200]
    obs = pd.DataFrame(
        {
            "patient": [f"p{i % 3}" for i in range(12)],
            "organ": ["liver"] * 6 + [None] * 6,
            "malignant": ["yes"] * 2 + ["no"] * 7 + ["unknown"] * 3,
        },
        index=[f"cell{i}" for i in range(12)],
    )
    adata = AnnData(sparse.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[*names, *RENAMED]))
    return from_anndata(adata, name="x.h5ad", malignancy=MalignancyColumn("malignant"))


def test_a_data_set_counts_cells_donors_states_and_genes(cells: CellData, counts: NDArray[np.float32]) -> None:
    made = Dataset.from_cells(cells, donor="patient", tissue="organ", role="pretraining")
    assert (made.name, made.cells, made.donors, made.tissue, made.role) == ("x.h5ad", 12, 3, "liver", "pretraining")
    assert (made.tumour, made.normal, made.unknown) == (2, 7, 3)
    assert made.audit.counts["renamed"] == 3
    assert made.audit.genes == 1203
    assert made.library_size is not None
    assert made.genes_per_cell is not None
    np.testing.assert_allclose(made.library_size, counts.sum(axis=1))
    np.testing.assert_array_equal(made.genes_per_cell, (counts > 0).sum(axis=1))


def test_renamed_genes_are_ordered_by_their_expression(cells: CellData) -> None:
    shown = [(given, symbol) for given, symbol, _ in Dataset.from_cells(cells).renamed]
    assert shown == [("H3F3A", "H3-3A"), ("ATP5E", "ATP5F1E"), ("GNB2L1", "RACK1")]


def test_unnamed_columns_are_left_open_and_wrong_ones_refused(cells: CellData) -> None:
    bare = Dataset.from_cells(cells)
    assert (bare.donors, bare.tissue) == (None, None)
    with pytest.raises(InputError, match="no column 'donor'"):
        Dataset.from_cells(cells, donor="donor")


def test_a_panel_with_other_cells_than_the_map_is_refused() -> None:
    with pytest.raises(InputError, match="panel 'Type' has 3 values for 4 cells"):
        Embedding(np.zeros((4, 2)), (Panel("Type", ["a", "b", "c"]),))
    with pytest.raises(InputError, match=r"map coordinates of shape \(4, 3\)"):
        Embedding(np.zeros((4, 3)))


def test_missing_categories_are_shown_as_not_given() -> None:
    values = pd.Series(["a", None, np.nan, "b"], dtype="category")
    assert Panel("x", values).categories.tolist() == ["a", "not given", "not given", "b"]
    assert Panel("x", [1, None]).categories.tolist() == ["1", "not given"]
