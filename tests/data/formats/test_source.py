from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data.formats.source import plain, select, sparse_damage
from cell_lm.errors import InputError


def test_x_a_layer_and_raw_are_chosen_by_name(adata: AnnData) -> None:
    adata.layers["doubled"] = 2 * adata.X
    adata.raw = adata
    fewer = adata[:, :1200].copy()
    assert select(fewer, None, name="a").place == "X"
    assert select(fewer, "X", name="a").elsewhere == ("doubled", "raw")
    layer = select(fewer, "doubled", name="a")
    assert (layer.place, layer.elsewhere) == ("layer 'doubled'", ("raw", "X"))
    assert layer.X.max() == 2 * fewer.X.max()
    raw = select(fewer, "raw", name="a")
    assert raw.X.shape[1] == len(raw.var) == 1500
    assert raw.elsewhere == ("doubled", "X")


def test_a_layer_called_raw_comes_before_adata_raw(adata: AnnData) -> None:
    adata.raw = adata
    adata.layers["raw"] = 3 * adata.X
    assert select(adata, "raw", name="a").X.max() == 3 * adata.X.max()


@pytest.mark.parametrize(
    ("layer", "found"), [("counts", "no layer 'counts'"), ("raw", "no layer 'raw' and no adata.raw"), (None, "no X")]
)
def test_a_matrix_that_is_not_there_is_answered_with_those_that_are(
    layer: str | None, found: str, adata: AnnData
) -> None:
    adata.layers["umis"] = adata.X
    if layer is None:
        adata.X = None
    with pytest.raises(InputError, match=found) as caught:
        select(adata, layer, name="my.h5ad")
    assert "umis" in str(caught.value)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_no_cells_or_no_genes_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{shape[0]} cells and {shape[1]} genes"):
        select(AnnData(sparse.csr_matrix(shape, dtype=np.float32)), None, name="a")


def test_a_matrix_of_text_or_of_another_library_is_refused() -> None:
    for matrix, word in [
        (np.array([["a"]]), "not real numbers"),
        (pd.DataFrame([[1]]), "pandas"),
        (np.eye(1) * 1j, "complex"),
    ]:
        with pytest.raises(InputError, match=word):
            plain(matrix, (1, 1), where="a")
    with pytest.raises(InputError, match="coo"):
        plain(sparse.coo_matrix(np.eye(2)), (2, 2), where="a")


DATA, INDICES, INDPTR = np.ones(4), np.array([0, 2, 1, 2]), np.array([0, 2, 2, 4])


@pytest.mark.parametrize(
    ("data", "indices", "indptr", "word"),
    [
        (DATA, np.array([0, 3, 1, 2]), INDPTR, "1 of 4 indices lie outside"),
        (DATA, np.array([0, -1, 1, 2]), INDPTR, "1 of 4 indices lie outside"),
        (DATA, np.array([0, 2**31, 1, 2]), INDPTR, "1 of 4 indices lie outside"),
        (DATA, INDICES, np.array([0, 3, 2, 4]), "indptr falls at 1 of 3 places"),
        (DATA, INDICES, np.array([0, 3, 2, 4], np.uint32), "indptr falls at 1 of 3 places"),
        (DATA, INDICES, np.array([1, 2, 2, 4]), "indptr has 4 entries"),
        (DATA, INDICES, np.array([0, 2, 4]), "indptr has 3 entries"),
        (DATA, INDICES, np.array([0, 2, 2, 9]), "indptr ends at 9"),
        (DATA[:3], INDICES, INDPTR, "3 values and 4 indices"),
        (DATA, INDICES.astype(float), INDPTR, "three rows of numbers"),
        (DATA[None], INDICES, INDPTR, "three rows of numbers"),
    ],
)
def test_every_damage_of_a_sparse_index_is_seen(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, word: str
) -> None:
    damage = sparse_damage(data, indices, indptr, (3, 3))
    assert damage is not None
    assert word in damage


def test_unsorted_repeated_and_spare_entries_are_no_damage() -> None:
    assert sparse_damage(np.ones(6), np.array([2, 0, 1, 1, 7, 7]), INDPTR, (3, 3)) is None


def test_damage_in_memory_is_refused_before_it_is_used(adata: AnnData) -> None:
    adata.X.indices[5] = 10**6
    with pytest.raises(InputError, match=r"1 of .* indices lie outside 0 to 1,499"):
        select(adata, None, name="a")
