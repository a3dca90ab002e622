from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from cell_lm import pp
from cell_lm.data import MalignancyColumn, from_anndata, read_cells
from cell_lm.errors import CellLMError, GeneError
from typed_cells import typed_adata


@pytest.fixture
def adata() -> AnnData:
    adata = typed_adata(40)
    adata.obs["malignant"] = np.where(adata.obs["donor"] == "d1", "yes", "no")
    return adata


@pytest.fixture
def path(adata: AnnData, tmp_path: Path) -> Path:
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return tmp_path / "cells.h5ad"


def test_all_is_told_of_good_cells(adata):
    adata.layers["counts"] = adata.X.copy()
    adata.obs["label"] = adata.obs["cell_type"].astype(object)
    adata.obs.iloc[0, adata.obs.columns.get_loc("label")] = np.nan
    report = pp.check(adata, label="label", malignancy=MalignancyColumn("malignant"))
    cells = from_anndata(adata)
    assert report.ok
    assert (report.name, report.cells, report.genes, report.place, report.layers) == (
        "adata",
        40,
        1400,
        "X",
        ("counts",),
    )
    assert report.obs_columns == ("cell_type", "donor", "malignant", "label")
    assert report.audit is not None
    assert report.audit.used == 1400
    assert report.scale == cells.report
    assert report.empty_cells == 0
    assert report.genes_per_cell == tuple(np.quantile(cells.genes_per_cell, (0, 0.25, 0.5, 0.75, 1)).astype(int))
    assert report.labels == adata.obs["label"].value_counts().to_dict()
    assert report.unlabelled == 1
    malignant = int((adata.obs["malignant"] == "yes").sum())
    assert report.malignancy_counts == {"tumour": malignant, "normal": 40 - malignant, "unknown": 0}


def test_a_file_is_checked_as_the_cells_in_it(adata, path):
    report, of_file = pp.check(adata, label="cell_type"), pp.check(str(path), label="cell_type")
    assert of_file.name == str(path)
    assert (of_file.cells, of_file.genes, of_file.labels, of_file.genes_per_cell) == (
        report.cells,
        report.genes,
        report.labels,
        report.genes_per_cell,
    )


def test_nothing_is_said_of_what_was_not_asked(adata):
    report = pp.check(adata)
    assert (report.labels, report.unlabelled, report.malignancy_counts) == (None, None, None)


def test_all_problems_are_told_and_not_only_the_first(adata):
    adata.X = adata.X * 0.37
    adata.var_names = [name.title() for name in adata.var_names]
    adata.obs["malignant"] = "perhaps"
    report = pp.check(adata, label="nothing", malignancy=MalignancyColumn("malignant"))
    assert not report.ok
    assert len(report.problems) == 4
    for part in ("mean neither tumour nor normal", "as in mouse or rat", "not counts", "no column 'nothing'"):
        assert sum(part in problem for problem in report.problems) == 1
    assert (report.audit, report.scale, report.labels, report.malignancy_counts) == (None, None, None, None)
    assert (report.genes_per_cell, report.empty_cells) == (None, None)
    assert (report.cells, report.genes) == (40, 1400)


def test_what_is_good_is_told_beside_what_is_not(adata):
    adata.X = adata.X * 0.37
    report = pp.check(adata, label="cell_type", malignancy=MalignancyColumn("malignant"))
    assert len(report.problems) == 1
    assert report.audit is not None
    assert report.labels is not None
    assert report.malignancy_counts is not None
    assert sum(report.malignancy_counts.values()) == 40


def spoil_layer(adata: AnnData) -> dict[str, object]:
    return {"layer": "nothing"}


def spoil_gene_column(adata: AnnData) -> dict[str, object]:
    return {"gene_column": "nothing"}


def spoil_cells(adata: AnnData) -> dict[str, object]:
    X = adata.X.toarray()
    X[[3, 5]] = 0
    adata.X = X
    return {}


def spoil_values(adata: AnnData) -> dict[str, object]:
    adata.X.data[7] = np.nan
    return {}


@pytest.mark.parametrize("spoil", [spoil_layer, spoil_gene_column, spoil_cells, spoil_values])
def test_a_problem_is_the_text_of_the_error(adata, tmp_path, spoil):
    arguments = spoil(adata)
    with pytest.raises(CellLMError) as caught:
        from_anndata(adata, **arguments)
    assert pp.check(adata, **arguments).problems == [str(caught.value)]
    adata.write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(CellLMError) as caught:
        read_cells(tmp_path / "bad.h5ad", **arguments)
    assert pp.check(tmp_path / "bad.h5ad", **arguments).problems == [str(caught.value)]


def test_empty_cells_are_counted(adata):
    spoil_cells(adata)
    report = pp.check(adata)
    assert report.empty_cells == 2
    assert report.genes_per_cell is not None
    assert report.genes_per_cell[0] == 0


def test_a_single_label_is_a_problem(adata):
    adata.obs["cell_type"] = "alpha"
    assert "one label only" in pp.check(adata, label="cell_type").problems[0]


@pytest.mark.parametrize("content", [b"", b"not hdf5", None])
def test_a_file_that_cannot_be_read_is_one_problem(tmp_path, path, content):
    bad = tmp_path / "bad.h5ad"
    if content is not None:
        bad.write_bytes(content)
    report = pp.check(bad, label="cell_type")
    assert len(report.problems) == 1
    assert str(bad) in report.problems[0]
    assert (report.cells, report.place, report.audit) == (None, None, None)


def test_a_file_that_is_cut_off_is_one_problem(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(pp.check(path).problems) == 1


def test_a_panel_is_fine_where_the_user_says_so(adata):
    panel = adata[:, :300].copy()
    assert not pp.check(panel).ok
    assert pp.check(panel, min_overlap=200).ok
    panel.X = panel.X * 0.5
    report = pp.check(panel, min_overlap=200)
    assert len(report.problems) == 1
    assert report.audit is not None


def test_the_cells_are_only_read(adata):
    before = adata.X.data.tobytes(), adata.obs.to_csv(), str(adata)
    pp.check(adata, label="cell_type", malignancy=MalignancyColumn("malignant"))
    assert (adata.X.data.tobytes(), adata.obs.to_csv(), str(adata)) == before


def test_a_report_reads_well(adata):
    text = str(pp.check(adata, label="cell_type", malignancy=MalignancyColumn("malignant")))
    assert "40 cells x 1,400 genes, X" in text
    assert "1,400 of 1,400 genes used" in text
    assert "alpha" in text
    assert "tumour" in text
    adata.X = adata.X * 0.5
    assert "problem: " in str(pp.check(adata))


def test_the_audit_has_a_row_for_every_gene(adata):
    adata.var["symbol"] = adata.var_names
    adata.var_names = ["NOT A GENE", *adata.var_names[1:]]
    table = pp.audit_genes(adata)
    assert len(table) == 1400
    assert table["status"].tolist() == ["unknown"] + ["matched"] * 1399
    assert (pp.audit_genes(adata, gene_column="symbol")["status"] == "matched").all()
    assert len(pp.audit_genes(adata[:, :30])) == 30
    adata.var_names = [name.title() for name in adata.var["symbol"]]
    with pytest.raises(GeneError, match="mouse"):
        pp.audit_genes(adata)
