from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data import CellData, MalignancyColumn, from_anndata, read_cells
from cell_lm.errors import ConfigError, CountsError, GeneError, InputError
from cell_lm.genes import Vocabulary

FORMS: dict[str, Callable[[sparse.csr_matrix], object]] = {
    "csr": sparse.csr_matrix.copy,
    "csc": sparse.csr_matrix.tocsc,
    "csr_array": sparse.csr_array,
    "dense": sparse.csr_matrix.toarray,
    "uint8": lambda X: X.minimum(255).astype(np.uint8),
    "int64": lambda X: X.astype(np.int64),
    "float64": lambda X: X.astype(np.float64),
}


def digest(X: object) -> str:
    arrays = [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def expected(adata: AnnData, vocabulary: Vocabulary) -> np.ndarray:
    wide = np.zeros((adata.n_obs, len(vocabulary)), np.float32)
    wide[:, [vocabulary.index(name) for name in adata.var_names]] = adata.to_df().to_numpy()
    return wide


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_matrix_is_aligned_and_left_as_it_was(
    form: str, make_adata: Callable[..., AnnData], counts: sparse.csr_matrix, vocabulary: Vocabulary
) -> None:
    shuffled = counts[:, np.random.default_rng(0).permutation(counts.shape[1])]
    adata = make_adata(FORMS[form](shuffled))
    before = digest(adata.X)
    cells = from_anndata(adata, vocabulary=vocabulary)
    assert digest(adata.X) == before
    assert type(cells.X) is sparse.csr_matrix
    assert cells.X.dtype == np.float32
    assert cells.X.has_canonical_format
    assert (cells.X.data > 0).all()
    assert np.array_equal(cells.X.toarray(), expected(adata, vocabulary))
    arrays = [adata.X] if isinstance(adata.X, np.ndarray) else [adata.X.data]
    assert not any(np.shares_memory(cells.X.data, array) for array in arrays)


def test_an_untidy_csr_is_read_right_and_left_untidy(
    make_adata: Callable[..., AnnData], vocabulary: Vocabulary
) -> None:
    indptr = np.arange(0, 4 * 1500 + 1, 1500, dtype=np.int32)
    rng = np.random.default_rng(0)
    indices = np.concatenate([rng.integers(0, 1500, 1500) for _ in range(4)]).astype(np.int32)
    values = rng.integers(0, 4, 6000).astype(np.float32)
    X = sparse.csr_matrix((values, indices, indptr), shape=(4, 1500))
    X.data, X.indices = np.append(values, np.float32("nan")), np.append(indices, np.int32(-9))
    adata = make_adata(X)
    before = digest(adata.X)
    cells = from_anndata(adata, vocabulary=vocabulary)
    assert digest(adata.X) == before
    assert cells.X.has_canonical_format
    assert (cells.X.data > 0).all()
    assert np.array_equal(cells.X.toarray(), expected(adata, vocabulary))


def test_genes_that_come_twice_are_summed_as_counts_also_from_log1p(adata: AnnData) -> None:
    names = adata.var_names.to_numpy(object)
    names[7] = names[3]
    adata.var["symbol"] = names
    adata.layers["log"] = np.log1p(adata.X)
    plain = from_anndata(adata, gene_column="symbol")
    log = from_anndata(adata, gene_column="symbol", layer="log", scale="log1p")
    dense = adata.X.toarray()
    assert np.array_equal(plain.X[:, [3]].toarray()[:, 0], dense[:, 3] + dense[:, 7])
    assert np.array_equal(plain.X.toarray(), log.X.toarray())
    assert (log.scale, plain.scale) == ("log1p", "counts")
    assert plain.audit.counts()["merged"] == 2


def test_views_and_backed_files_are_read(adata: AnnData, tmp_path: Path) -> None:
    adata.layers["counts"] = adata.X.copy()
    adata.write_h5ad(tmp_path / "a.h5ad")
    whole = from_anndata(adata).X.toarray()
    assert np.array_equal(from_anndata(adata[::2]).X.toarray(), whole[::2])
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert np.array_equal(from_anndata(backed).X.toarray(), whole)
    assert np.array_equal(from_anndata(backed, layer="counts").X.toarray(), whole)
    backed.file.close()


def test_a_file_gives_the_same_cells_as_memory(adata: AnnData, tmp_path: Path) -> None:
    adata.obs["malignant"] = np.where(np.arange(adata.n_obs) % 3, "no", "yes")
    adata.write_h5ad(tmp_path / "my.h5ad")
    memory = from_anndata(adata, malignancy=MalignancyColumn("malignant"))
    file = read_cells(tmp_path / "my.h5ad", malignancy=MalignancyColumn("malignant"))
    assert file.name == "my.h5ad"
    assert np.array_equal(file.X.toarray(), memory.X.toarray())
    assert np.array_equal(file.malignancy, memory.malignancy)
    assert file.malignancy[:4].tolist() == [1, 0, 0, 1]
    assert file.obs.index.tolist() == memory.obs.index.tolist()


def test_raw_counts_are_found_in_raw_and_advised(adata: AnnData) -> None:
    counts = adata.X.copy()
    adata.raw = adata
    adata.X = np.log1p(adata.X)
    with pytest.raises(CountsError, match='layer="raw"'):
        from_anndata(adata)
    assert np.array_equal(from_anndata(adata, layer="raw").X.toarray()[:, :1500], counts.toarray())


def test_gene_names_in_a_column_are_advised_and_read(adata: AnnData) -> None:
    whole = from_anndata(adata).X.toarray()
    adata.var["feature_name"] = pd.Categorical(adata.var_names)
    adata.var_names = [str(i) for i in range(adata.n_vars)]
    with pytest.raises(GeneError, match="feature_name"):
        from_anndata(adata)
    assert np.array_equal(from_anndata(adata, gene_column="feature_name").X.toarray(), whole)
    with pytest.raises(InputError, match="Did you mean 'feature_name'"):
        from_anndata(adata, gene_column="feature_names")


def test_a_missing_gene_name_is_an_unknown_gene(adata: AnnData) -> None:
    names = adata.var_names.to_numpy(object)
    names[5] = None
    adata.var["symbol"] = names
    cells = from_anndata(adata, gene_column="symbol")
    assert cells.audit.counts()["unknown"] == 1
    assert cells.X[:, 5].nnz == 0


def test_a_panel_is_read_when_asked_for(adata: AnnData) -> None:
    panel = adata[:, :300].copy()
    with pytest.raises(GeneError, match="300"):
        from_anndata(panel)
    assert len(from_anndata(panel, min_overlap=200)) == adata.n_obs


def test_empty_cells_are_an_error_that_counts_them_unless_left_out(adata: AnnData, vocabulary: Vocabulary) -> None:
    keep = np.ones(adata.n_obs)
    keep[[4, 9]] = 0
    adata.X = sparse.csr_matrix(sparse.diags_array(keep) @ adata.X, dtype=np.float32)
    adata.obs["malignant"] = [i % 2 == 0 for i in range(adata.n_obs)]
    with pytest.raises(InputError, match=r"2 of 60 cells have no count .*'cell4'.*filter_cells"):
        from_anndata(adata)
    cells = from_anndata(adata, min_genes=1, malignancy=MalignancyColumn("malignant"))
    assert (len(cells), cells.dropped) == (58, 2)
    assert "cell4" not in cells.obs.index
    assert cells.malignancy.tolist() == [int(name[4:]) % 2 == 0 for name in cells.obs.index]


def test_cells_with_counts_only_outside_the_vocabulary_are_empty(adata: AnnData) -> None:
    X = adata.X.tolil()
    X[2] = 0
    X[2, 0] = 5
    adata.X = X.tocsr()
    adata.var_names = ["NOT_A_GENE", *adata.var_names[1:]]
    with pytest.raises(InputError, match="1 of 60 cells have no count in any gene of the vocabulary"):
        from_anndata(adata)


def test_a_matrix_without_any_count_is_refused(make_adata: Callable[..., AnnData]) -> None:
    adata = make_adata(sparse.csr_matrix((3, 1500), dtype=np.float32))
    for options in ({}, {"min_genes": 1}):
        with pytest.raises(InputError, match=r"all 3 cells have no count|none of its 3 cells"):
            from_anndata(adata, **options)


def test_keeping_counts_what_was_dropped(make_cells: Callable[..., CellData]) -> None:
    cells = make_cells(np.tril(np.ones((6, 6))))
    kept = cells.keep(min_genes=3)
    assert kept.genes_per_cell.tolist() == [3, 4, 5, 6]
    assert (kept.dropped, kept.keep(min_genes=5).dropped) == (2, 4)
    assert cells.keep(min_genes=1) is cells
    with pytest.raises(InputError, match="none of its 6 cells has 7"):
        cells.keep(min_genes=7)


@pytest.mark.parametrize("index", [np.array([4, 0, 2]), np.arange(6) % 2 == 0, slice(1, 4)])
def test_an_index_takes_matrix_labels_and_states_alike(index: object, make_cells: Callable[..., CellData]) -> None:
    cells = make_cells(np.tril(np.ones((6, 6))), np.array([0, 1, -1, 0, 1, -1], np.int8))
    rows = np.arange(6)[index]
    some = cells[index]
    assert len(some) == len(rows)
    assert some.genes_per_cell.tolist() == (rows + 1).tolist()
    assert some.malignancy.tolist() == cells.malignancy[rows].tolist()
    assert some.obs.index.tolist() == [f"toy{row}" for row in rows]
    assert some.X.has_canonical_format


def test_parts_that_do_not_fit_together_are_refused(make_cells: Callable[..., CellData]) -> None:
    cells = make_cells(np.eye(3))
    with pytest.raises(InputError, match="2 values of malignancy"):
        CellData("a", cells.X, "counts", cells.obs, cells.audit, cells.vocabulary, cells.malignancy[:2])


def test_an_unknown_scale_is_refused(adata: AnnData) -> None:
    with pytest.raises(ConfigError, match="Choose one of: counts, log1p"):
        from_anndata(adata, scale="tpm")
