"""What an explorer shows: which columns, genes and cells, quantised, and what it refuses."""

from __future__ import annotations

import base64
import gzip
import json
import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm import pl
from cell_lm.data.read_options import ReadOptions
from cell_lm.errors import CountsError, GeneError, InputError
from cell_lm.explorer import Category, Explorer, Gene, Number, collect
from cell_lm.explorer.content import LEVELS, NO_VALUE
from cell_lm.explorer.page import render
from cell_lm.plots import cell_map
from cell_lm.plots.projection import Projection
from tests.mapped_cells import HOSTILE, MARKERS, STRANGE_GENE, mapped_cells


@pytest.fixture
def adata() -> AnnData:
    return mapped_cells()


def column(shown: Explorer, name: str) -> Category | Number:
    return next(one for one in shown.columns if one.name == name)


def gene(shown: Explorer, name: str) -> Gene:
    return next(one for one in shown.genes if one.name == name)


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def unpacked(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), dtype)


def test_coordinates_are_kept_to_half_a_step(adata):
    shown = collect(adata)
    low, span = adata.obsm["X_umap"].min(axis=0), np.array(shown.spans)
    back = low + shown.coordinates / LEVELS * span
    assert np.abs(back - adata.obsm["X_umap"]).max() <= span.max() / LEVELS
    assert (shown.method, shown.basis) == ("UMAP", "X_umap")


def test_columns_become_labels_and_numbers_and_the_rest_is_named(adata):
    shown = collect(adata)
    label, sure, cluster = (column(shown, name) for name in ("cell_lm_label", "cell_lm_confidence", "cluster"))
    assert isinstance(label, Category)
    assert [label.names[code] for code in label.codes] == adata.obs["cell_lm_label"].tolist()
    assert isinstance(sure, Number)
    back = sure.low + sure.levels / LEVELS * (sure.high - sure.low)
    np.testing.assert_allclose(back, adata.obs["cell_lm_confidence"], atol=1e-4)
    assert isinstance(cluster, Category)
    assert (shown.color, shown.label, shown.opacity) == ("cell_lm_label", "cell_lm_label", "cell_lm_confidence")
    assert any("barcode (180 different labels)" in note for note in shown.notes)


def test_missing_labels_and_numbers_are_kept_as_missing(adata):
    adata.obs.loc["cell-000", ["cell_lm_label", "depth"]] = [None, np.nan]
    shown = collect(adata)
    label, depth = column(shown, "cell_lm_label"), column(shown, "depth")
    assert label.names[-1] == "not given"
    assert label.codes[0] == len(label.names) - 1
    assert depth.levels[0] == NO_VALUE
    assert (depth.levels[1:] != NO_VALUE).all()


def test_genes_are_log_normalised_and_x_is_left_alone(adata):
    before = adata.X.copy()
    shown = collect(adata, genes=["CD3D", "NKG7"])
    counts = adata.X.toarray().astype(np.float64)
    expected = np.log1p(10_000 * counts[:, 0] / counts.sum(axis=1))
    found = gene(shown, "CD3D")
    np.testing.assert_allclose(found.levels / 255 * found.high, expected, atol=found.high / 509)
    assert [one.name for one in shown.genes] == ["CD3D", "NKG7"]
    assert (before != adata.X).nnz == 0


def test_log_data_that_are_said_to_be_log_give_the_same_genes(adata):
    plain = collect(adata, genes=["CD3D"])
    counts = adata.X.toarray()
    adata.X = sparse.csr_matrix(np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)))
    logged = collect(adata, genes=["CD3D"], read=ReadOptions(scale="log1p"))
    assert np.abs(gene(plain, "CD3D").levels.astype(int) - gene(logged, "CD3D").levels).max() <= 1
    with pytest.raises(CountsError, match="log1p"):
        collect(adata, genes=["CD3D"])


def test_genes_are_found_by_alias_and_ensembl_id(adata):
    shown = collect(adata, genes=["CD20", "ENSG00000167286"])
    assert [one.name for one in shown.genes] == ["MS4A1", "CD3D"]
    assert gene(shown, "MS4A1").also[0] == "CD20"
    assert "CD20" in gene(collect(adata, genes=["MS4A1"]), "MS4A1").also


def test_default_genes_are_specific_to_a_label(adata):
    shown = collect(adata)
    assert {one.name for one in shown.genes[:3]} == set(MARKERS)
    assert "most specific to a label of cell_lm_label" in shown.about_genes


def test_without_labels_the_genes_that_vary_most_are_taken(adata):
    adata.obs = adata.obs[["depth"]]
    shown = collect(adata)
    assert {one.name for one in shown.genes[:3]} == set(MARKERS)
    assert "whose expression varies most" in shown.about_genes


def test_genes_that_are_not_human_keep_their_names(adata):
    adata.var_names = [f"gene{i}" for i in range(adata.n_vars)]
    assert collect(adata, genes=["gene0"]).genes[0].name == "gene0"


def test_many_cells_are_drawn_at_random_by_the_seed(adata):
    shown, again, other = (collect(adata, max_cells=50, seed=seed) for seed in (0, 0, 1))
    assert (len(shown.barcodes), shown.total) == (50, 180)
    assert shown.barcodes == again.barcodes != other.barcodes
    label = column(shown, "cell_lm_label")
    assert [label.names[code] for code in label.codes] == adata.obs.loc[list(shown.barcodes), "cell_lm_label"].tolist()
    assert data_of(render(shown))["total"] == 180


def test_a_missing_map_is_computed_once_and_kept(adata, monkeypatch):
    adata.obsm["X_cell_lm"] = np.random.default_rng(0).normal(size=(180, 5))
    calls = []
    monkeypatch.setattr(
        cell_map, "project", lambda x, seed: calls.append(1) or Projection(np.asarray(x, np.float32)[:, :2], "t-SNE")
    )
    first, again = collect(adata), collect(adata)
    assert (first.basis, first.method, len(calls)) == ("X_cell_lm", "t-SNE", 1)
    assert np.array_equal(first.coordinates, again.coordinates)
    assert "X_cell_lm_tsne" in adata.obsm


def test_names_of_data_never_become_markup(adata):
    adata.uns["cell_lm_label_colors"] = ["red", "javascript:alert(1)", "#00ff00"]
    page = render(collect(adata, genes=[STRANGE_GENE, "CD3D"], title="<script>window.harmed=1</script>"))
    assert "window.harmed=1</script>" not in page
    assert "<img" not in page
    assert "<b onclick" not in page
    assert "javascript:" not in page
    data = data_of(page)
    assert set(next(one["names"] for one in data["columns"] if one["name"] == "cell_lm_label")) == set(HOSTILE)
    assert data["genes"][0]["name"] == STRANGE_GENE
    assert "default-src 'none'" in page


def test_the_arrays_of_the_page_are_those_of_the_explorer(adata):
    shown = collect(adata)
    data = data_of(render(shown))
    assert np.array_equal(unpacked(data["coordinates"], "<u2").reshape(-1, 2), shown.coordinates)
    assert np.array_equal(unpacked(data["genes"][0]["data"], "u1"), shown.genes[0].levels)
    assert json.loads(gzip.decompress(base64.b64decode(data["barcodes"]))) == list(shown.barcodes)


def test_text_that_utf8_cannot_hold_is_written(adata, tmp_path):
    adata.obs["odd"] = np.where(np.arange(180) % 2, "\ud800", "é\u2028")
    page = pl.explorer(adata, save=tmp_path / "page.html", title="\ud800")
    assert data_of(page.read_text("utf-8"))["title"] == "\ud800"


def test_pl_explorer_writes_the_page_and_nothing_beside_it(adata, tmp_path):
    page = pl.explorer(adata, save=tmp_path / "page.html", color="CD3D", genes=[])
    assert [item.name for item in tmp_path.iterdir()] == ["page.html"]
    data = data_of(page.read_text("utf-8"))
    assert data["color"] == "CD3D"
    assert [one["name"] for one in data["genes"]] == ["CD3D"]


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"columns": ["depht"]}, InputError, "Did you mean 'depth'"),
        ({"color": "cell_lm_lable"}, InputError, "no gene is called so.*Did you mean 'cell_lm_label'"),
        ({"color": "barcode"}, InputError, "too many different labels"),
        ({"columns": ["barcode"]}, InputError, "180 different labels"),
        ({"genes": ["CD3E"]}, GeneError, "no gene 'CD3E' among its 44. Close names: CD3D"),
        ({"genes": ["CD3D"] * 51}, InputError, "51 genes were named, and a page holds at most 50"),
        ({"opacity": "depth"}, InputError, "'depth' cannot be an opacity"),
        ({"opacity": "sure"}, InputError, "no column 'sure'"),
        ({"basis": "X_pca"}, InputError, "obsm has no 'X_pca'; it has: X_umap"),
        ({"max_cells": 0}, InputError, "max_cells is 0"),
        ({"read": ReadOptions(layer="raw_counts")}, InputError, "raw_counts"),
    ],
)
def test_what_is_not_there_is_one_clear_line(adata, wanted, error, words):
    with pytest.raises(error, match=words) as caught:
        collect(adata, **wanted)
    assert "\n" not in str(caught.value)


def test_no_embedding_is_refused_with_advice(adata):
    del adata.obsm["X_umap"]
    with pytest.raises(InputError, match=r"no embedding .* it has: nothing. Run cell-lm embed"):
        collect(adata)


def test_no_cells_are_refused(adata):
    with pytest.raises(InputError, match="holds no cells"):
        collect(adata[:0].copy())


def test_a_place_that_is_not_a_number_is_refused(adata):
    adata.obsm["X_umap"][3, 0] = np.nan
    with pytest.raises(InputError, match="1 of 180 cells have NaN or infinite coordinates"):
        collect(adata)


def test_cells_without_a_matrix_or_columns_have_a_page():
    bare = AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(20)]), obsm={"X_umap": np.zeros((20, 2))})
    shown = collect(bare)
    assert (shown.columns, shown.genes, shown.color) == ((), (), None)
    assert (shown.coordinates == 0).all()
    with pytest.raises(InputError, match="X"):
        collect(bare, genes=["CD3D"])
