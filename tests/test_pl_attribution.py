"""Figures of attribution: what is drawn is what the tables say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cell_lm import pl
from cell_lm.errors import InputError
from cell_lm.plots.style import ACCENT, GREY, SECOND


@pytest.fixture(autouse=True)
def nothing_stays_open() -> None:
    before = pyplot.get_fignums()
    yield
    assert pyplot.get_fignums() == before


@pytest.fixture
def adata() -> AnnData:
    table = pd.DataFrame(
        {
            "label": pd.Categorical(["B"] * 3 + ["T$1$"] * 2),
            "gene": ["MS4A1", "CD79A", "CD3D", "CD3D", "MS4A1"],
            "attribution": [2.0, 0.5, -1.0, 3.0, 0.0],
            "expressed": [0.9, 1.0, 0.1, 1.0, 0.2],
            "cells": [10, 10, 10, 7, 7],
        }
    )
    shares = [0.0, 0.5, 1.0]
    curves = pd.concat(
        pd.DataFrame({"order": name, "deleted": shares, "probability": [1.0, half, 0.1], "area": half})
        for name, half in [("integrated_gradients", 0.2), ("random", 0.9), ("random, equally expressed", 0.8)]
    )
    uns = {"cell_lm_attribution": {"table": table}, "cell_lm_deletion": {"table": curves}}
    return AnnData(np.zeros((3, 2), np.float32), uns=uns)


def bars(ax: Axes) -> list[tuple[float, str]]:
    return [(bar.get_width(), to_hex(bar.get_facecolor())) for bar in ax.patches]


def test_each_label_has_a_panel_of_its_strongest_genes_either_way(adata: AnnData) -> None:
    drawn = pl.gene_attribution(adata, genes=2)
    assert isinstance(drawn, list)
    assert [ax.get_title(loc="left") for ax in drawn] == ["B  10", "T$1$  7"]
    assert bars(drawn[0]) == [(2.0, ACCENT), (-1.0, SECOND)]
    assert [text.get_text() for text in drawn[0].get_yticklabels()] == ["MS4A1  90%", "CD3D  10%"]
    assert drawn[0].yaxis_inverted()


def test_one_label_may_be_drawn_on_the_axes_of_the_caller_and_saved(adata: AnnData, tmp_path: Path) -> None:
    ax = Figure().add_subplot()
    assert pl.gene_attribution(adata, labels=["B"], ax=ax, save=tmp_path / "a.png") is ax
    assert len(bars(ax)) == 3
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_curves_are_drawn_with_their_area_and_random_ones_grey(adata: AnnData, tmp_path: Path) -> None:
    ax = pl.deletion_curve(adata, save=tmp_path / "d.svg")
    assert [list(line.get_ydata()) for line in ax.lines] == [[1.0, 0.2, 0.1], [1.0, 0.9, 0.1], [1.0, 0.8, 0.1]]
    assert [to_hex(line.get_color()) == GREY for line in ax.lines] == [False, True, True]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["integrated gradients  0.200", "random  0.900", "random, equally expressed  0.800"]


def test_what_cannot_be_drawn_says_what_to_do(adata: AnnData) -> None:
    with pytest.raises(InputError, match=r"no label 'NK'. There is B, T\$1\$"):
        pl.gene_attribution(adata, labels=["NK"])
    with pytest.raises(InputError, match="one ax for 2 labels"):
        pl.gene_attribution(adata, ax=Figure().add_subplot())
    adata.uns.clear()
    with pytest.raises(InputError, match=r"Run cell_lm.tl.gene_attribution\(adata, classifier\) first"):
        pl.gene_attribution(adata)
    with pytest.raises(InputError, match=r"Run cell_lm.tl.deletion_curve\(adata, classifier\) first"):
        pl.deletion_curve(adata)
