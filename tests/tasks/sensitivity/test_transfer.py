"""Transfer from made bulk lines: scores, calls, tests of trust, refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from anndata import AnnData
from sklearn.metrics import roc_auc_score

from cell_lm.data import from_anndata
from cell_lm.data.response import ResponseTable, response_table
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, GeneError, InputError
from cell_lm.tasks.sensitivity import BulkSignature, TransferWarning, bulk_signature
from sensitive_cells import PROGRAMME, bulk_lines, sensitive_adata, z_scored


@pytest.fixture(scope="module")
def bulk() -> tuple[AnnData, ResponseTable]:
    lines, table = bulk_lines()
    return lines, response_table(table)


@pytest.fixture(scope="module")
def signature(bulk: tuple[AnnData, ResponseTable]) -> BulkSignature:
    return bulk_signature(*bulk, "drug A", tissue="skin", scale="log2")


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return sensitive_adata(120, prevalence=0.3)


def view(adata: AnnData, **how: object) -> CellView:
    return CellView.of(from_anndata(adata, **how))


def test_cells_without_any_label_are_scored_and_called(signature: BulkSignature, cells: AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = signature.transfer(view(cells))
    truth = (cells.obs["truth"] == "sensitive").to_numpy()
    assert result.trust.trusted
    assert roc_auc_score(truth, result.cells["score"]) > 0.95
    assert ((result.cells["call"] == "sensitive").to_numpy() == truth).mean() > 0.95
    assert result.prevalence == pytest.approx(0.3, abs=0.06)
    heavy = set(result.genes["gene"].head(40))
    assert len(heavy & set(cells.var_names[:PROGRAMME])) > 35


def test_counts_and_z_scores_give_the_same_ranking(signature: BulkSignature, cells: AnnData) -> None:
    counts = signature.transfer(view(cells)).cells["score"]
    scaled = signature.transfer(view(z_scored(cells), scale="scaled")).cells["score"]
    assert np.corrcoef(counts, scaled)[0, 1] > 0.99


def test_a_response_that_no_gene_explains_is_not_trusted(bulk: tuple[AnnData, ResponseTable], cells: AnnData) -> None:
    signature = bulk_signature(*bulk, "drug B", scale="log2")
    with pytest.warns(TransferWarning, match="signature of drug B cannot be trusted.*lines it has not seen"):
        result = signature.transfer(view(cells))
    assert not result.trust.trusted
    assert result.trust.unseen < 0.25
    assert result.prevalence == 0.5


def test_a_tissue_in_which_the_sign_is_reversed_is_a_reason(
    bulk: tuple[AnnData, ResponseTable], cells: AnnData
) -> None:
    lines, table = bulk_lines()
    skin = lines.obs["tissue"].to_numpy() == "skin"
    table = table[table["drug"] == "drug A"].copy()
    table.loc[skin, "ln_ic50"] *= -0.4
    with pytest.warns(TransferWarning, match="lines of skin it points the wrong way round"):
        bulk_signature(lines, response_table(table), "drug A", tissue="skin", scale="log2").transfer(view(cells))


def test_genes_that_do_not_vary_together_among_the_cells_are_a_reason(signature: BulkSignature) -> None:
    unrelated = sensitive_adata(120, strength=1.0)
    with pytest.warns(TransferWarning, match="do not vary together among the cells"):
        assert signature.transfer(view(unrelated)).trust.agreement < 0.3


def test_without_trust_calls_are_not_sharpened_unless_asked_for(
    bulk: tuple[AnnData, ResponseTable], cells: AnnData
) -> None:
    signature = bulk_signature(*bulk, "drug B", scale="log2")
    with pytest.warns(TransferWarning):
        plain = signature.transfer(view(cells))
    with pytest.warns(TransferWarning):
        sharpened = signature.transfer(view(cells), refine=True)
    assert plain.cells["uncertain"].mean() > sharpened.cells["uncertain"].mean()
    np.testing.assert_array_equal(plain.cells["score"], sharpened.cells["score"])


def test_lines_can_be_left_out(bulk: tuple[AnnData, ResponseTable]) -> None:
    assert bulk_signature(*bulk, "drug A", exclude=["line0", "line1"], scale="log2").lines == 78


@pytest.mark.parametrize(
    ("drug", "how", "says"),
    [
        ("drug a", {}, "none of its 2 drugs is called 'drug a'. Did you mean 'drug A'"),
        ("drug A", {"tissue": "moon"}, "no line is of the tissue 'moon'. There are lung, skin"),
        ("drug A", {"exclude": [f"line{i}" for i in range(60)]}, "20 of its 80 lines have a response to drug A"),
        ("drug A", {"tissue": "skin", "tissue_column": "nothing"}, "those of the lines are not known"),
    ],
)
def test_what_cannot_be_transferred_is_refused(
    bulk: tuple[AnnData, ResponseTable], drug: str, how: dict[str, object], says: str
) -> None:
    with pytest.raises(InputError) as refused:
        bulk_signature(*bulk, drug, scale="log2", **how)
    assert says in str(refused.value)


def test_cells_with_too_few_shared_genes_and_wrong_options_are_refused(
    signature: BulkSignature, cells: AnnData
) -> None:
    with pytest.raises(GeneError, match="shares 60 genes with the 1,100 of the lines"):
        signature.transfer(view(cells[:, :60].copy(), min_overlap=10))
    with pytest.raises(ConfigError, match="prior is 0"):
        signature.transfer(view(cells), prior=0)
    with pytest.raises(ConfigError, match=r"certainty is 0\.1"):
        signature.transfer(view(cells), certainty=0.1)
