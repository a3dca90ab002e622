"""Plots as scanpy users expect them: axes back, nothing touched, nothing left open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from cell_lm import pl
from cell_lm.errors import GeneError, InputError
from cell_lm.genes import Vocabulary, resolve_genes
from cell_lm.plots import cell_map
from cell_lm.plots.figures import draw_confusion
from cell_lm.plots.projection import Projection, method_for


def first_two(x: ArrayLike, seed: int = 0) -> Projection:
    return Projection(np.asarray(x, np.float32)[:, :2] + seed, method_for(len(np.asarray(x))))


@pytest.fixture(autouse=True)
def nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plot may leave a figure with pyplot; and none may wait for a real map here."""
    monkeypatch.setattr(cell_map, "project", first_two)
    before = pyplot.get_fignums()
    yield
    assert pyplot.get_fignums() == before


@pytest.fixture
def adata() -> AnnData:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(["b"] * 10 + ["a"] * 18 + [None] * 2),
            "confidence": rng.uniform(size=30),
            "flag": [True, False] * 15,
        },
        index=[str(i) for i in range(30)],
    )
    return AnnData(rng.poisson(1.0, (30, 5)).astype(np.float32), obs, obsm={"X_cell_lm": rng.normal(size=(30, 6))})


def legend(ax: Axes) -> list[str]:
    box = ax.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def test_embedding_computes_the_map_once_and_leaves_x_alone(adata: AnnData) -> None:
    before = adata.X.copy()
    ax = pl.embedding(adata, color="cell_type")
    assert isinstance(ax, Axes)
    assert ax.get_title(loc="left") == "cell_type"
    assert legend(ax) == ["a  18", "b  10", "not given  2"]
    np.testing.assert_array_equal(adata.obsm["X_cell_lm_tsne"], adata.obsm["X_cell_lm"][:, :2].astype(np.float32))
    assert "t-SNE 1" in {text.get_text() for text in ax.texts}
    assert "X_cell_lm_umap" not in adata.obsm
    np.testing.assert_array_equal(adata.X, before)
    assert "cell_type_colors" not in adata.uns


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_a_gene_colours_the_map_as_scanpy_has_it(adata: AnnData, form: Callable[[NDArray[np.float32]], object]) -> None:
    adata.var_names = ["CD3D", "MS4A1", "confidence", "LYZ", "NKG7"]
    counts = np.asarray(adata.X)
    adata.X, adata.layers["log"] = form(counts), form(np.log1p(counts))
    single, panels = pl.embedding(adata, color="CD3D"), pl.embedding(adata, color=["MS4A1", "cell_type"], layer="log")
    np.testing.assert_allclose(np.sort(drawn(single)), np.sort(counts[:, 0]))
    np.testing.assert_allclose(np.sort(drawn(panels[0])), np.sort(np.log1p(counts[:, 1])))
    assert [axes.get_title(loc="left") for axes in (single, *panels)] == ["CD3D", "MS4A1", "cell_type"]
    adata.raw = AnnData(2 * counts, var=adata.var)
    np.testing.assert_allclose(np.sort(drawn(pl.embedding(adata, color="CD3D"))), np.sort(2 * counts[:, 0]))
    np.testing.assert_allclose(
        np.sort(drawn(pl.embedding(adata, color="confidence"))), np.sort(adata.obs["confidence"].to_numpy())
    )


def drawn(ax: Axes) -> NDArray[np.float64]:
    """Return the values that colour the points of a map."""
    return np.concatenate(
        [np.asarray(points.get_array()) for points in ax.collections if points.get_array() is not None]
    )


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize(
    ("color", "layer", "message"),
    [
        ("CD8A", None, "obs has no column 'CD8A', and no gene is called so"),
        ("cell_typ", None, "Did you mean 'cell_type'"),
        ("twice", None, "2 genes are called 'twice'"),
        ("CD3D", "counts", "no layer 'counts'"),
    ],
)
def test_a_gene_or_layer_that_is_not_there_is_named(
    adata: AnnData, color: str, layer: str | None, message: str
) -> None:
    adata.var_names = ["CD3D", "MS4A1", "LYZ", "twice", "twice"]
    with pytest.raises(InputError, match=message):
        pl.embedding(adata, color=color, layer=layer)


def test_an_up_to_date_map_is_used_again_and_a_stale_one_is_not(
    adata: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counting(x: ArrayLike, seed: int = 0) -> Projection:
        calls.append(seed)
        return first_two(x, seed)

    monkeypatch.setattr(cell_map, "project", counting)
    pl.embedding(adata, color="cell_type")
    pl.embedding(adata, color="confidence")
    assert calls == [0]
    pl.embedding(adata, color="confidence", seed=1)
    adata.obsm["X_cell_lm"] = adata.obsm["X_cell_lm"] + 1
    pl.embedding(adata, color="confidence", seed=1)
    assert calls == [0, 1, 1]


def test_the_map_survives_a_file(adata: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anndata

    pl.embedding(adata, color="flag")
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    monkeypatch.setattr(cell_map, "project", None)
    pl.embedding(again, color="flag")


def test_a_map_of_the_user_is_taken_as_it_is(adata: AnnData) -> None:
    adata.obsm["X_cell_lm_umap"] = np.full((30, 2), 7.0) + np.arange(30)[:, None]
    ax = pl.embedding(adata, color="cell_type")
    assert adata.obsm["X_cell_lm_umap"][0, 0] == 7.0
    assert "UMAP 1" in {text.get_text() for text in ax.texts}
    assert "X_cell_lm_tsne" not in adata.obsm
    adata.obsm["X_own"] = np.random.default_rng(0).normal(size=(30, 2))
    pl.embedding(adata, color="cell_type", basis="X_own")
    assert not {"X_own_umap", "X_own_tsne"} & set(adata.obsm)


def test_many_cells_get_a_umap(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cell_lm.plots.projection.FEW_CELLS", 29)
    ax = pl.embedding(adata, color="cell_type")
    assert "X_cell_lm_umap" in adata.obsm
    assert "UMAP 1" in {text.get_text() for text in ax.texts}


def test_several_columns_make_several_panels_and_numbers_a_colour_bar(adata: AnnData) -> None:
    drawn = pl.embedding(adata, color=["cell_type", "confidence", "flag"])
    assert isinstance(drawn, list)
    assert [ax.get_title(loc="left") for ax in drawn] == ["cell_type", "confidence", "flag"]
    assert drawn[1].get_legend() is None
    assert len(drawn[0].figure.axes) == 4
    assert legend(drawn[2]) == ["False  15", "True  15"]


def test_colours_of_scanpy_are_used_where_they_are(adata: AnnData) -> None:
    adata.uns["cell_type_colors"] = ["#123456", "#abcdef"]
    ax = pl.embedding(adata, color="cell_type")
    assert isinstance(ax, Axes)
    assert {"#123456", "#abcdef"} <= {to_hex(colour) for colour in ax.collections[0].get_facecolors()}


def test_a_missing_embedding_says_to_embed_first(adata: AnnData) -> None:
    del adata.obsm["X_cell_lm"]
    with pytest.raises(InputError, match=r"no embedding 'X_cell_lm'. Run cell_lm.tl.embed\(adata, model\) first"):
        pl.embedding(adata, color="cell_type")


def test_a_missing_column_is_answered_with_a_close_one(adata: AnnData) -> None:
    with pytest.raises(InputError, match=r"no column 'celltype'.*'cell_type'"):
        pl.embedding(adata, color="celltype")


def test_one_ax_cannot_take_two_columns(adata: AnnData) -> None:
    with pytest.raises(InputError, match="one ax for 2 columns"):
        pl.embedding(adata, color=["cell_type", "flag"], ax=Figure().add_subplot())


def test_everything_draws_on_the_axes_of_the_caller_without_showing(
    adata: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("shown"))
    axes = Figure().subplots(2, 2).ravel()
    run = write_log(tmp_path)
    assert pl.embedding(adata, color="cell_type", ax=axes[0]) is axes[0]
    assert pl.confusion(["a", "b"], ["a", "a"], ax=axes[1]) is axes[1]
    assert pl.training(run, ax=axes[2]) is axes[2]
    assert pl.coverage(resolve_genes(Vocabulary.human().symbols[:2000]), ax=axes[3]) is axes[3]


def test_show_true_shows_and_none_does_not_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[int]] = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    pl.confusion(["a"], ["a"])
    pl.confusion(["a"], ["a"], show=False)
    assert not shown
    pl.confusion(["a"], ["a"], show=True)
    assert [len(figures) for figures in shown] == [1]
    pyplot.close("all")


def test_on_a_screen_own_figures_are_shown_as_scanpy_says_and_those_of_the_caller_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import scanpy

    shown: list[int] = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(1))
    monkeypatch.setattr(pl.canvas, "get_backend", lambda: "QtAgg")
    before = scanpy.settings.autoshow
    try:
        scanpy.settings.autoshow = True
        pl.confusion(["a"], ["a"], ax=Figure().add_subplot())
        assert not shown
        pl.confusion(["a"], ["a"])
        assert shown == [1]
        scanpy.settings.autoshow = False
        pl.confusion(["a"], ["a"])
        assert shown == [1]
    finally:
        scanpy.settings.autoshow = before
        pyplot.close("all")


def test_save_writes_the_picture(tmp_path: Path) -> None:
    pl.confusion(["a", "b"], ["a", "a"], save=tmp_path / "new" / "confusion.png")
    pl.confusion(["a", "b"], ["a", "a"], save=str(tmp_path / "confusion.pdf"))
    assert (tmp_path / "new" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "confusion.pdf").read_bytes().startswith(b"%PDF")


def test_confusion_draws_what_the_report_draws() -> None:
    assert pl.results.figures.draw_confusion is draw_confusion
    ax = pl.confusion(["a", "a", "b"], ["a", "b", "b"])
    assert sorted(text.get_text() for text in ax.texts) == ["1", "1", "1"]
    assert ax.get_title(loc="left") == "macro-F1 0.667, accuracy 66.7%"


def write_log(folder: Path) -> Path:
    rows = [
        {"kind": "train", "step": step, "total": 1 / step, "masked": 2 / step, "contrastive": None}
        for step in range(1, 30)
    ]
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return folder


def test_training_draws_one_panel_for_each_quantity_with_values(tmp_path: Path) -> None:
    drawn = pl.training(write_log(tmp_path))
    assert isinstance(drawn, list)
    assert [ax.get_title(loc="left") for ax in drawn] == ["Total loss", "Masked genes: loss"]


def test_coverage_takes_an_audit_its_summary_or_an_anndata() -> None:
    names = [*Vocabulary.human().symbols[:1500], "GNB2L1", "not_a_gene"]
    audit = resolve_genes(names)
    adata = AnnData(np.zeros((1, len(names)), np.float32), var=pd.DataFrame(index=names))
    for data in (audit, audit.shorten(), adata):
        assert legend(pl.coverage(data))[1:] == ["renamed  1", "unknown  1"]


def test_coverage_of_no_human_genes_is_refused() -> None:
    adata = AnnData(np.zeros((1, 3), np.float32), var=pd.DataFrame(index=["x1", "x2", "x3"]))
    with pytest.raises(GeneError, match=r"adata\.var_names"):
        pl.coverage(adata)
