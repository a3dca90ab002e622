"""Fits on the genes that reference and query share, and queries that lack too many genes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from cell_lm.data import from_anndata
from cell_lm.data.view import CellView
from cell_lm.errors import GeneError
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier, Coverage, CoverageWarning, GeneLogisticBaseline
from typed_cells import typed_adata

PANEL = 60


@pytest.fixture(scope="module")
def halves() -> tuple[AnnData, AnnData]:
    adata = typed_adata(240, seed=5)
    return adata[::2].copy(), adata[1::2].copy()


@pytest.fixture(scope="module")
def panel(halves: tuple[AnnData, AnnData]) -> AnnData:
    """The query with the genes of the most counts only, every cell with some."""
    query = halves[1]
    chosen = np.argsort(-np.asarray(query.X.sum(axis=0)).ravel())[:PANEL]
    return query[:, np.sort(chosen)].copy()


def accuracy(classifier: CellTypeClassifier | GeneLogisticBaseline, adata: AnnData) -> float:
    predicted = classifier.predict(adata, min_overlap=20).astype(str).to_numpy()
    return float((predicted == adata.obs["cell_type"].to_numpy()).mean())


def test_a_panel_with_too_few_genes_of_the_reference_is_refused(halves, panel, model):
    classifier = CellTypeClassifier(model).fit(halves[0], "cell_type")
    few = panel[:, :30].copy()
    few = few[np.asarray(few.X.sum(axis=1)).ravel() > 0].copy()
    with pytest.raises(GeneError, match=r"it has 30 of 1,400 genes of the reference \(2 %\).*--genes-of"):
        classifier.predict(few, min_overlap=20)
    coverage = classifier.coverage(panel, min_overlap=20)
    assert coverage.share == pytest.approx(PANEL / 1400)
    assert coverage.expression > 3 * coverage.share  # genes of many counts hold more of the expression


@pytest.mark.parametrize("kind", [CellTypeClassifier, GeneLogisticBaseline])
def test_a_fit_on_the_shared_genes_predicts_the_panel(halves, panel, model: CellLM, kind, tmp_path: Path):
    classifier = kind(model) if kind is CellTypeClassifier else kind()
    classifier.fit(halves[0], "cell_type", genes_of=panel, min_overlap=20)
    assert classifier.reference_.cut
    assert len(classifier.reference_.genes) == PANEL
    with warnings.catch_warnings():
        warnings.simplefilter("error", CoverageWarning)
        first = accuracy(classifier, panel)
    assert first > 0.7
    classifier.save(tmp_path / "ann")
    loaded = kind.load(tmp_path / "ann")
    assert loaded.reference_.cut
    assert accuracy(loaded, panel) == first


def test_genes_that_the_reference_lacks_change_no_prediction(halves, panel, model):
    reference, query = halves
    classifier = CellTypeClassifier(model, cache=False).fit(reference, "cell_type", genes_of=panel, min_overlap=20)
    np.testing.assert_allclose(
        classifier.predict_proba(query), classifier.predict_proba(panel, min_overlap=20), atol=1e-5
    )


def test_a_cell_without_any_shared_gene_is_refused_in_a_query_and_left_out_of_a_fit(halves, model):
    reference, query = halves[0].copy(), halves[1]
    rare = query[:, np.asarray(query.X.sum(axis=0)).ravel() < 40]
    genes = rare[np.asarray(rare.X.sum(axis=1)).ravel() > 0].copy()
    empty = int((np.asarray(reference[:, genes.var_names].X.sum(axis=1)).ravel() == 0).sum())
    lines = reference.X.tolil()
    lines[0] = 0
    lines[0, reference.var_names.get_loc(next(n for n in reference.var_names if n not in set(genes.var_names)))] = 5
    reference.X = lines.tocsr()
    with pytest.warns(CoverageWarning, match="express none of the .* shared genes and were left out"):
        classifier = CellTypeClassifier(model).fit(reference, "cell_type", genes_of=genes, min_overlap=5)
    assert classifier.reference_.cells in (len(reference) - empty - 1, len(reference) - empty)
    with pytest.raises(GeneError, match=r"1 of \d+ cells express none of the"):
        classifier.predict(reference[:1].copy())


def test_a_reference_without_ten_of_the_genes_is_refused(halves, model):
    with pytest.raises(GeneError, match="it shares 8 of its 1,400 genes with the cells to predict"):
        CellTypeClassifier(model).fit(halves[0], "cell_type", genes_of=halves[1][:, :8].copy(), min_overlap=5)


def test_a_cut_view_reads_as_if_other_genes_had_not_been_measured(halves):
    cells = from_anndata(halves[0])
    genes = cells.audit.found[::7]
    view = CellView.of(cells).cut(genes)
    assert view.genes.tolist() == genes.tolist()
    expected = cells.X.toarray()
    expected[:, np.setdiff1d(np.arange(expected.shape[1]), genes)] = 0
    rows = np.array([5, 2, 9])
    np.testing.assert_array_equal(view[rows].X.toarray(), expected[rows])
    blocks = [block.X.toarray() for _, block in view[rows].blocks(2)]
    np.testing.assert_array_equal(np.vstack(blocks), expected[rows])
    np.testing.assert_array_equal(view.expressing(), expected.any(axis=1))
    assert CellView.of(cells).expressing().all()


def test_coverage_counts_genes_and_their_expression(fitted):
    reference = fitted.reference_
    order = np.argsort(-reference.expression)
    coverage = Coverage.of(reference, reference.genes[order[:140]])
    assert coverage.share == pytest.approx(0.1)
    assert coverage.expression == pytest.approx(reference.expression[order[:140]].sum() / reference.expression.sum())
    assert str(coverage).startswith("140 of 1,400 genes of the reference (10 %), with ")
