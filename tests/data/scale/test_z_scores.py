"""Matrices said to be z-scored by gene: accepted where they are, named where they are not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from cell_lm.data import from_anndata
from cell_lm.data.loading.concat import ConcatCells
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.data.scale.check import ScaleCheck, check_scale
from cell_lm.errors import CountsError
from cell_lm.tasks import embed_cells
from sensitive_cells import sensitive_adata, z_scored
from typed_cells import tiny_model


@pytest.fixture(scope="module")
def scaled() -> np.ndarray:
    return np.asarray(z_scored(sensitive_adata(60)).X)


def test_z_scores_are_accepted_dense_sparse_and_in_blocks(scaled: np.ndarray) -> None:
    report = check_scale(scaled, "scaled", where="file")
    assert (report.scale, report.proved) == ("scaled", True)
    assert "standard deviation 1.00" in report.evidence
    check = ScaleCheck("scaled", where="file")
    for start in range(0, 60, 13):
        check.add(sparse.csr_matrix(scaled[start : start + 13]))
    assert not check.spoilt
    assert check.report(list).evidence == report.evidence


def test_a_part_of_the_cells_that_were_scaled_is_accepted(scaled: np.ndarray) -> None:
    assert check_scale(scaled[:25], "scaled", where="file").scale == "scaled"


def spoilt(scaled: np.ndarray, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    match kind:
        case "counts":
            return rng.poisson(2.0, scaled.shape).astype(float)
        case "centred logs":
            return scaled * 0.1
        case "far from 0":
            return scaled + 3.0
        case _:
            broken = scaled.copy()
            broken[3, 4] = np.nan
            return broken


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("counts", "no entry is negative"),
        ("centred logs", r"standard deviation 0\.1.*scanpy\.pp\.scale"),
        ("far from 0", "negative|has mean 3"),
        ("NaN", "1 of .* entries is NaN"),
    ],
)
def test_what_is_no_z_score_is_named(scaled: np.ndarray, kind: str, says: str) -> None:
    with pytest.raises(CountsError, match=says):
        check_scale(spoilt(scaled, kind), "scaled", where="file")


def test_values_are_kept_with_their_sign_and_no_encoder_reads_them(scaled: np.ndarray) -> None:
    adata = z_scored(sensitive_adata(60))
    cells = from_anndata(adata, scale="scaled")
    assert cells.scale == "scaled"
    np.testing.assert_array_equal(cells.X[:, cells.audit.columns].toarray(), scaled)
    with pytest.raises(CountsError, match="read as z-scores"):
        ConcatCells([cells], Tokeniser(5, len(cells.vocabulary)))
    with pytest.raises(CountsError, match="read as z-scores"):
        embed_cells(tiny_model(), cells)
