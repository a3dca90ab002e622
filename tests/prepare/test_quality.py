from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sources import GENES, draw

from cell_lm.genes import resolve_genes
from cell_lm.prepare.quality import Gatherer, mitochondrial


def test_gathering_equals_the_aggregation_of_the_audit() -> None:
    adata = draw(30)
    audit = resolve_genes(adata.var_names)
    assert audit.counts()["merged"] == 2  # RACK1 and GNB2L1
    found = Gatherer(audit)(adata.X)
    indptr = np.concatenate([[0], np.cumsum(found.lengths)])
    gathered = sparse.csr_matrix((found.counts, found.genes, indptr), shape=(30, 19_281))
    expected = audit.aggregate(adata.X)
    assert (gathered != expected).nnz == 0
    assert gathered.has_sorted_indices
    assert np.array_equal(found.largest, expected.max(axis=1).toarray().ravel())
    assert found.totals == pytest.approx(np.asarray(adata.X.sum(axis=1)).ravel())


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.bool_])
def test_any_type_and_stored_zeros_and_empty_cells_are_fine(dtype: type) -> None:
    audit = resolve_genes(GENES)
    X = sparse.csr_matrix((4, len(GENES)), dtype=dtype)
    X = sparse.csr_matrix((np.array([1, 0, 1], dtype), np.array([5, 6, 2]), np.array([0, 2, 2, 3, 3])), shape=X.shape)
    gather = Gatherer(audit)
    for _ in range(2):  # nothing of one block is left for the next
        found = gather(X)
        assert found.lengths.tolist() == [1, 0, 1, 0]
        assert found.genes.tolist() == [5, 2]


def test_shares_that_are_no_counts_are_told_from_counts() -> None:
    audit = resolve_genes(GENES)
    X = sparse.csr_matrix(np.pad([[0.5, 2.0], [1.0, 2.0]], ((0, 0), (0, len(GENES) - 2))))
    assert Gatherer(audit)(X).largest.tolist() == [np.inf, 2.0]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["MT-CO1", "MT-RNR1", "MT.ND1", "MTOR", "MALAT1"], [True, True, True, False, False]),
        (["ENSG00000198804", "ENSG00000211459", "ENSG00000198793"], [True, True, False]),
        (["GRCh38_MT-CO1", "GRCh38_MTOR"], [True, False]),
    ],
)
def test_mitochondrial_genes_are_known_by_any_name(names: list[str], expected: list[bool]) -> None:
    audit = resolve_genes([*names, *GENES[:1_050]], min_overlap=1)
    assert mitochondrial(audit)[: len(names)].tolist() == expected
    assert not mitochondrial(audit)[len(names) :].any()
