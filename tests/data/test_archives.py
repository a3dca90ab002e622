"""Stores that earlier releases wrote are read as they were meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from cell_lm.data import Tokeniser, from_anndata
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.data.store import Store

ARCHIVES = Path(__file__).parent / "archives"
STORES = sorted(ARCHIVES.glob("v*/store"))


def test_there_is_a_store_of_the_first_release() -> None:
    assert ARCHIVES / "v0.1.0" / "store" in STORES


@pytest.mark.parametrize("path", STORES, ids=[path.parent.name for path in STORES])
def test_a_store_of_an_earlier_release_holds_the_packaged_cells(path: Path) -> None:
    store = Store.open(path)
    store.verify()
    cells = store.cells()
    blocks = [sparse.csr_matrix((s.X.data, s.X.indices, s.X.indptr), (len(s), 1_607)) for s in store.shards]
    X = sparse.vstack([block.astype(np.float32) for block in blocks]).tocsr()
    for number, name in enumerate((PANCREAS, OVARIAN_CANCER)):
        packed = demo_cells()[name]
        own = np.flatnonzero(cells["source"] == number)
        rows = packed.obs_names.get_indexer(cells["barcode"].iloc[own])
        packed = packed[rows, packed.var_names.isin(store.vocabulary.symbols)].copy()
        expected = from_anndata(packed, vocabulary=store.vocabulary, min_overlap=1, malignancy="normal").X
        assert (X[own] != expected).nnz == 0
        for label in ("tissue", "disease", "donor", "cell_type"):
            assert cells[label].iloc[own].astype(str).tolist() == packed.obs[label].astype(str).tolist()
        tumour = (packed.obs["malignancy"] == "tumour").tolist()
        assert (store.malignancy[own] == 1).tolist() == tumour


@pytest.mark.parametrize("path", STORES, ids=[path.parent.name for path in STORES])
def test_a_store_of_an_earlier_release_can_be_tokenised(path: Path) -> None:
    shard = Store.open(path).shards[0]
    batch = Tokeniser(bins=6, max_genes=200)(shard, np.array([3, 0]))  # type: ignore[arg-type]
    assert batch.lengths.tolist() == np.minimum(shard.genes_per_cell[[3, 0]], 200).tolist()
