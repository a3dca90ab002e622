from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from cell_lm.data import check_scale
from cell_lm.data.formats.source import select
from cell_lm.data.scale import scan as scan_module
from cell_lm.data.scale.check import ScaleCheck
from cell_lm.errors import CountsError


def normalised(X: sparse.csr_matrix, total: float | None = 1e4) -> sparse.csr_matrix:
    adata = AnnData(X.copy())
    sc.pp.normalize_total(adata, target_sum=total)
    return adata.X


def logged(X: sparse.csr_matrix, total: float | None = 1e4, base: float = np.e) -> sparse.csr_matrix:
    adata = AnnData(normalised(X, total))
    sc.pp.log1p(adata)
    return adata.X / np.float32(np.log(base))


def changed(X: sparse.csr_matrix, value: float, place: int = 777) -> sparse.csr_matrix:
    X = X.copy()
    X.data[place] = value
    return X


def refusal(X: object, stated: str = "counts", **options: object) -> str:
    with pytest.raises(CountsError) as caught:
        check_scale(X, stated, where="file, X", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


FORMS: dict[str, Callable[[sparse.csr_matrix], object]] = {
    "csr": lambda X: X,
    "csc": lambda X: X.tocsc(),
    "dense": lambda X: X.toarray(),
    "dense, columns first": lambda X: np.asfortranarray(X.toarray()),
    "uint16": lambda X: X.astype(np.uint16),
    "int64": lambda X: X.astype(np.int64),
    "float16": lambda X: X.toarray().astype(np.float16),
    "float64": lambda X: X.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMS)
def test_counts_pass_in_every_form_and_are_not_touched(form: str, counts: sparse.csr_matrix) -> None:
    X = FORMS[form](counts)
    before = X.copy()
    report = check_scale(X, "counts", where="file")
    assert report.proved
    assert report.largest == counts.max()
    assert report.entries == (X.size if isinstance(X, np.ndarray) else X.nnz)
    assert (before != X).sum() == 0


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "dense, columns first"])
@pytest.mark.parametrize(
    ("value", "word"),
    [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite"), (-1.0, "negative"), (1.5, "not whole")],
)
def test_one_bad_entry_anywhere_is_found_and_located(
    form: str, value: float, word: str, counts: sparse.csr_matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "_BLOCK", 5_000)
    place = counts.nnz - 3
    row = int(np.searchsorted(counts.indptr, place, side="right")) - 1
    column = int(counts.indices[place])
    cells, genes = pd.Index([f"c{i}" for i in range(counts.shape[0])]), [f"g{i}" for i in range(counts.shape[1])]
    message = refusal(FORMS[form](changed(counts, value, place)), cells=cells, genes=genes)
    assert (
        f"1 of {counts.nnz if form.startswith('cs') else counts.shape[0] * counts.shape[1]:,} entries is {word}"
        in message
    )
    assert f"the first in cell 'c{row}', gene 'g{column}'" in message
    assert "looks like" not in message


@pytest.mark.parametrize("total", [1e4, 1e6, None])
def test_log_normalised_counts_are_named_with_their_total_and_the_fix(
    total: float | None, counts: sparse.csr_matrix
) -> None:
    message = refusal(logged(counts, total))
    middle = np.median(counts.toarray().sum(axis=1)) if total is None else total
    assert "natural log1p of" in message
    assert ("CPM" in message) if total == 1e6 else (f"counts normalised to {middle:,.0f} per cell" in message)
    assert 'scale="log1p"' in message


@pytest.mark.parametrize(("base", "word"), [(2.0, "log2(x + 1)"), (10.0, "log10(x + 1)")])
def test_another_base_is_named_and_taken_where_the_counts_come_back(
    base: float, word: str, counts: sparse.csr_matrix
) -> None:
    message = refusal(logged(counts, base=base))
    assert word in message
    assert f'scale="log{base:.0f}" (--scale log{base:.0f})' in message
    for stated in (f"log{base:.0f}", "log1p"):
        report = check_scale(logged(counts, base=base), stated, where="file")
        assert word in report.evidence
        assert report.proved


def tpm(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """What a genes' length makes of counts: no whole ones come back, all cells sum to a million."""
    lengths = np.random.default_rng(1).uniform(0.5, 9.0, counts.shape[1])
    X = counts.toarray() / lengths
    return sparse.csr_matrix(1e6 * X / X.sum(axis=1, keepdims=True))


def test_the_advice_on_the_logarithm_of_tpm_can_be_followed(counts: sparse.csr_matrix) -> None:
    X = sparse.csr_matrix(np.log1p(tpm(counts))) / np.log(2)
    for stated in ("counts", "log1p"):
        assert 'scale="log2"' in refusal(X, stated)
    assert check_scale(X, "log2", where="file").proved
    some = sparse.csr_matrix(X[:, ::5])
    assert 'scale="log2"' in refusal(some)
    assert not check_scale(some, "log2", where="file").proved


@pytest.mark.parametrize("scale", ["linear", "log1p", "log2", "log10"])
def test_what_a_refusal_says_to_state_is_then_taken(scale: str, counts: sparse.csr_matrix) -> None:
    base = {"linear": None, "log1p": np.e, "log2": 2, "log10": 10}[scale]
    X = tpm(counts) if base is None else sparse.csr_matrix(np.log1p(tpm(counts)) / np.log(base))
    assert f'scale="{scale}"' in refusal(X)
    assert check_scale(X, scale, where="file").scale == scale
    for other in {"linear", "log2", "log10"} - {scale}:
        assert f'scale="{scale}"' in refusal(X, other)


def test_corrected_counts_may_be_rounded_or_called_linear(counts: sparse.csr_matrix) -> None:
    corrected = counts.copy()
    corrected.data = np.maximum(corrected.data - np.random.default_rng(0).uniform(0, 0.4, counts.nnz), 0)
    corrected.data[0] = 30.4
    message = refusal(corrected)
    assert "np.rint(adata.X)" in message
    assert 'scale="linear" (--scale linear)' in message
    assert check_scale(np.rint(corrected), "counts", where="file").proved
    assert not check_scale(corrected, "linear", where="file").proved


def test_logarithms_among_many_dense_zeros_are_named_too(make_counts: Callable[..., sparse.csr_matrix]) -> None:
    X = logged(make_counts(depth=40.0))
    assert X.nnz < 0.04 * X.shape[0] * X.shape[1]
    assert "natural log1p of counts" in refusal(X.toarray())


def test_a_selection_of_genes_leaves_the_logarithm_recognisable(counts: sparse.csr_matrix) -> None:
    some = logged(counts)[:, ::3]
    assert "natural log1p of counts scaled within each cell (whole counts come back in 60 of 60 cells)" in refusal(some)
    assert check_scale(some, "log1p", where="file").proved


def test_plain_log1p_of_counts_is_recognised(counts: sparse.csr_matrix) -> None:
    assert "natural log1p of counts" in refusal(np.log1p(counts))
    assert check_scale(np.log1p(counts), "log1p", where="file").proved


@pytest.mark.parametrize(("total", "word"), [(1e6, "TPM or CPM"), (1e4, "normalised to 10,000"), (1.0, "proportions")])
def test_normalised_but_not_logged_is_named(total: float, word: str, counts: sparse.csr_matrix) -> None:
    message = refusal(normalised(counts, total))
    assert word in message
    assert "log1p of" not in message.split("not counts")[0]


def test_z_scores_are_named(counts: sparse.csr_matrix) -> None:
    scaled = sc.pp.scale(logged(counts).toarray())
    for stated in ("counts", "log1p"):
        assert "z-scored" in refusal(scaled, stated)


def test_estimated_expression_is_named(counts: sparse.csr_matrix) -> None:
    X = counts.copy()
    X.data *= np.random.default_rng(0).uniform(0.5, 2.0, X.nnz).astype(np.float32)
    message = refusal(X)
    assert "RSEM" in message
    assert 'scale="linear"' in message


def test_probabilities_are_named(counts: sparse.csr_matrix) -> None:
    assert "probabilities" in refusal(np.random.default_rng(0).uniform(0, 1, (50, 40)))


def test_binarised_counts_are_refused_unless_too_few_to_tell(counts: sparse.csr_matrix) -> None:
    ones = counts.copy()
    ones.data[:] = 1
    assert "binarised" in refusal(ones)
    assert "binarised" in refusal(ones.toarray().astype(bool))
    assert check_scale(ones[:1], "counts", where="file").proved


def test_rounded_logarithms_are_refused(counts: sparse.csr_matrix) -> None:
    deep = sparse.vstack([counts] * 3).tocsr()
    rounded = deep.copy()
    rounded.data = np.rint(np.log1p(5 * rounded.data))
    assert "rounded logarithms" in refusal(rounded)
    shallow = deep.copy()
    shallow.data = np.minimum(shallow.data, 3)
    assert check_scale(shallow[:, :300], "counts", where="file").proved


def test_a_count_beyond_any_cell_is_refused(counts: sparse.csr_matrix) -> None:
    assert "20,000,000" in refusal(changed(counts, 2e7))
    assert check_scale(changed(counts, 2.0**24), "counts", where="file").largest == 2**24


def test_log1p_is_believed_only_as_far_as_it_goes(counts: sparse.csr_matrix) -> None:
    assert "whole" in refusal(counts, "log1p")
    assert 'scale="linear"' in refusal(normalised(counts), "log1p")
    assert "proportions" in refusal(normalised(counts, 1.0), "log1p")
    assert "NaN" in refusal(changed(logged(counts), np.nan), "log1p")
    odd = np.log1p(np.random.default_rng(0).uniform(0, 900, (50, 40)))
    report = check_scale(odd, "log1p", where="file")
    assert not report.proved
    assert "user's word" in report.evidence


def test_the_advice_names_the_likeliest_other_layer(counts: sparse.csr_matrix) -> None:
    message = refusal(logged(counts), elsewhere=["scaled", "raw_counts"])
    assert 'layer="raw_counts"' in message
    assert "scaled, raw_counts" in message
    assert "start from the raw counts" in refusal(logged(counts)).lower()


def test_a_layer_that_holds_no_counts_is_not_recommended(counts: sparse.csr_matrix) -> None:
    adata = AnnData(logged(counts))
    adata.layers["raw_counts"] = np.log1p(adata.X)  # logged twice, whatever it is called
    message = refusal(adata.X, elsewhere=select(adata, None, name="a").elsewhere)
    assert "layer" not in message
    adata.layers["other"] = counts
    message = refusal(adata.X, elsewhere=select(adata, None, name="a").elsewhere)
    assert 'layer="other" (--layer other)' in message


def test_a_matrix_of_zeros_is_no_lie() -> None:
    assert check_scale(sparse.csr_matrix((3, 4), dtype=np.float32), "counts", where="file").largest == 0


def in_blocks(X: sparse.csr_matrix, stated: str, rows: int, **options: object) -> str:
    """The verdict on a matrix that comes some rows at a time."""

    def blocks() -> list[sparse.csr_matrix]:
        return [X[start : start + rows] for start in range(0, X.shape[0], rows)]

    check = ScaleCheck(stated, where="file, X", **options)
    for block in blocks():
        check.add(block)
    try:
        return str(check.report(blocks))
    except CountsError as error:
        return str(error)


def whole(X: sparse.csr_matrix, stated: str, **options: object) -> str:
    try:
        return str(check_scale(X, stated, where="file, X", **options))
    except CountsError as error:
        return str(error)


@pytest.mark.parametrize("rows", [1, 7, 60])
@pytest.mark.parametrize("stated", ["counts", "log1p"])
@pytest.mark.parametrize("kind", ["counts", "log1p", "log2", "tpm", "nan", "negative", "fraction", "binary", "rounded"])
def test_blocks_give_the_verdict_of_the_whole_word_for_word(
    kind: str, stated: str, rows: int, counts: sparse.csr_matrix
) -> None:
    makers: dict[str, Callable[[], sparse.csr_matrix]] = {
        "counts": lambda: counts,
        "log1p": lambda: logged(counts),
        "log2": lambda: logged(counts, base=2.0),
        "tpm": lambda: normalised(counts, 1e6),
        "nan": lambda: changed(counts, np.nan),
        "negative": lambda: changed(counts, -1.0),
        "fraction": lambda: changed(counts, 0.5, 9_999),
        "binary": lambda: (counts > 0).astype(np.float32),
        "rounded": lambda: np.rint(np.log1p(sparse.vstack([5 * counts] * 3).tocsr())),
    }
    X = makers[kind]()
    names = {"cells": pd.Index([f"c{i}" for i in range(X.shape[0])]), "genes": [f"g{i}" for i in range(X.shape[1])]}
    assert in_blocks(X, stated, rows, **names) == whole(X, stated, **names)


def test_what_is_sure_to_be_refused_is_known_at_once(counts: sparse.csr_matrix) -> None:
    for stated, spoilt in (("counts", True), ("log1p", False)):
        check = ScaleCheck(stated, where="file")
        check.add(counts)
        assert not check.spoilt
        check.add(logged(counts))
        assert check.spoilt is spoilt
        check.add(changed(counts, np.nan))
        assert check.spoilt
