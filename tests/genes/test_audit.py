from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cell_lm.errors import GeneError
from cell_lm.genes import AuditSummary, GeneAudit, Vocabulary, resolve_genes

HUMAN = Vocabulary.human()
NAMES = ["CD3D", "C1orf112", "MALAT1", "FIRRM", "MUM1", "FOO", "ENSG00000010610", "AACS"]
STATUS = ["matched", "merged", "non-coding", "merged", "ambiguous", "unknown", "renamed", "matched"]


@pytest.fixture
def audit() -> GeneAudit:
    return resolve_genes(NAMES, min_overlap=1)


def counts(dtype: type = np.float32, *, high: int = 9) -> sparse.csr_matrix:
    dense = np.random.default_rng(0).integers(0, high, (7, len(NAMES))) * (np.arange(7)[:, None] != 3)
    return sparse.csr_matrix(dense.astype(dtype))


def expected(X: np.ndarray) -> np.ndarray:
    """Sum column by column."""
    result = np.zeros((len(X), len(HUMAN)), np.float64)
    for i, symbol in ((0, "CD3D"), (1, "FIRRM"), (3, "FIRRM"), (6, "CD4"), (7, "AACS")):
        result[:, HUMAN.index(symbol)] += X[:, i]
    return result


def test_statuses_columns_and_counts_agree(audit: GeneAudit) -> None:
    assert list(audit.table["status"]) == STATUS
    assert audit.columns.dtype == np.int64
    assert [HUMAN.symbols[i] if i >= 0 else "" for i in audit.columns] == [
        *("CD3D", "FIRRM", "", "FIRRM", "", "", "CD4", "AACS"),
    ]
    assert audit.counts() == {
        **{"matched": 2, "renamed": 1, "merged": 2},
        **{"non-coding": 1, "unknown": 1, "ambiguous": 1},
    }
    assert audit.used == 5
    assert audit.coverage == pytest.approx(4 / 19_281)
    assert audit.n_genes == len(HUMAN)


@pytest.mark.parametrize("form", ["csr", "csc", "csr_array", "dense", "fortran", "unsorted"])
def test_columns_of_one_gene_are_summed_in_the_order_of_the_vocabulary(audit: GeneAudit, form: str) -> None:
    X = counts()
    given = {
        "csr": X,
        "csc": sparse.csc_matrix(X),
        "csr_array": sparse.csr_array(X),
        "dense": X.toarray(),
        "fortran": np.asfortranarray(X.toarray()),
        "unsorted": X[:, ::-1][:, ::-1],
    }[form]
    result = audit.aggregate(given)
    assert isinstance(result, sparse.csr_matrix)
    assert result.shape == (7, len(HUMAN))
    assert result.dtype == np.float32
    assert result.has_canonical_format
    np.testing.assert_array_equal(result.toarray(), expected(X.toarray()))


def test_the_input_is_not_changed_and_shares_no_memory(audit: GeneAudit) -> None:
    X = counts()
    before = X.copy()
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    result = audit.aggregate(X)
    result.data[:] = -1
    assert (before != X).nnz == 0
    assert not np.shares_memory(X.data, result.data)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (np.float64, np.float32),
        (np.float32, np.float32),
        (bool, np.float32),
        (np.uint8, np.uint8),
        (np.uint16, np.uint16),
        (np.int32, np.int32),
        (np.int64, np.int64),
    ],
)
def test_integers_keep_their_type_and_all_else_is_float32(audit: GeneAudit, given: type, returned: type) -> None:
    X = counts(given)
    result = audit.aggregate(X)
    assert result.dtype == returned
    np.testing.assert_array_equal(result.toarray(), expected(X.toarray()))


def test_a_sum_that_does_not_fit_its_type_is_not_wrapped(audit: GeneAudit) -> None:
    X = sparse.csr_matrix(np.full((2, len(NAMES)), 200, np.uint8))
    result = audit.aggregate(X)
    assert result.dtype == np.int64
    assert result[0, HUMAN.index("FIRRM")] == 400


def test_a_matrix_of_other_columns_is_refused(audit: GeneAudit) -> None:
    with pytest.raises(GeneError, match=r"\(7, 5\) does not have one column for each of 8"):
        audit.aggregate(counts()[:, :5])


def test_no_cells_give_no_cells(audit: GeneAudit) -> None:
    assert audit.aggregate(counts()[:0]).shape == (0, len(HUMAN))


def test_summary_is_one_line_with_examples(audit: GeneAudit) -> None:
    assert audit.summary() == (
        "5 of 8 genes used: 2 matched, 1 renamed (ENSG00000010610 -> CD4), 2 merged (C1orf112 -> FIRRM, …); "
        "dropped 3: 1 non-coding, 1 unknown (FOO), 1 ambiguous (MUM1); 0.0 % of the vocabulary"
    )
    assert resolve_genes(HUMAN.symbols).summary() == (
        "19,281 of 19,281 genes used: 19,281 matched; 100.0 % of the vocabulary"
    )


def test_odd_names_do_not_break_the_line() -> None:
    line = resolve_genes([*HUMAN.symbols, "a\nb", "", "x" * 10_000]).summary()
    assert line.isprintable()
    assert len(line) < 300


def test_summary_survives_json(audit: GeneAudit) -> None:
    text = json.dumps(audit.to_json(), allow_nan=False)
    again = AuditSummary.from_json(json.loads(text))
    assert again == audit.shorten()
    assert str(again) == audit.summary()
    assert again.coverage == audit.coverage
    assert again.listed["ambiguous"] == [("MUM1", "", "previous symbol of IRF4, PWWP3A")]


def test_json_stays_small_however_many_genes_there_are() -> None:
    audit = resolve_genes([*HUMAN.symbols, *(f"FOO{i}" for i in range(40_000))])
    assert audit.counts()["unknown"] == 40_000
    assert len(json.dumps(audit.to_json())) < 100_000


@pytest.mark.parametrize("value", [None, {}, [], {"genes": 1}, {"genes": "x", "counts": {}, "listed": {}}])
def test_json_of_something_else_is_refused(value: object) -> None:
    with pytest.raises(GeneError, match="no summary of a gene audit"):
        AuditSummary.from_json(value)  # type: ignore[arg-type]


def test_csv_holds_the_whole_table(audit: GeneAudit, tmp_path: Path) -> None:
    audit.write_csv(tmp_path / "genes.csv")
    again = pd.read_csv(tmp_path / "genes.csv", keep_default_na=False)
    assert again.astype(object).equals(audit.table.astype(object))
    assert [file.name for file in tmp_path.iterdir()] == ["genes.csv"]
