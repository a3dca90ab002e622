from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex

from cell_lm import pl
from cell_lm.errors import InputError
from cell_lm.plots.style import ACCENT, GREY

KEY = "cell_lm_sensitivity"


@pytest.fixture
def adata() -> AnnData:
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(-3, 1, 30), rng.normal(3, 1, 30)])
    p = 1 / (1 + np.exp(-score))
    obs = pd.DataFrame(
        {
            KEY: p,
            f"{KEY}_score": score,
            f"{KEY}_call": pd.Categorical(np.where(p >= 0.5, "sensitive", "resistant")),
            "arm": ["control"] * 30 + ["treated"] * 29 + [None],
            "truth": ["resistant"] * 30 + ["sensitive"] * 30,
        }
    )
    obs.index = obs.index.astype(str)
    made = AnnData(np.zeros((60, 1), np.float32), obs=obs)
    made.obsm["X_umap"] = rng.normal(0, 1, (60, 2))
    table = pd.DataFrame({"gene": ["EGFR", "KRT13", "VIM"], "bulk": [0.5, 0.1, -0.4], "cells": [0.6, 0.0, -0.5]})
    made.uns[KEY] = {"sensitive": "sensitive", "drug": "Afatinib", "trusted": True, "table": table}
    return made


def test_cells_are_drawn_by_call_and_by_probability(adata: AnnData) -> None:
    first, second = pl.sensitivity(adata)
    assert first.get_title(loc="left") == f"{KEY}_call"
    assert second.get_title(loc="left") == KEY
    del adata.obsm["X_umap"]
    with pytest.raises(InputError, match="there is no embedding"):
        pl.sensitivity(adata)


def test_scores_are_drawn_by_arm_and_cells_without_one_left_out(adata: AnnData, tmp_path: Path) -> None:
    axes = pl.sensitivity_scores(adata, "arm", save=tmp_path / "scores.png")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["control (30)", "treated (29)"]
    assert (tmp_path / "scores.png").stat().st_size > 1000
    medians = [line.get_xdata()[0] for line in axes.lines if line.get_linewidth() == 2]
    np.testing.assert_allclose(medians, adata.obs.groupby("arm")[f"{KEY}_score"].median(), rtol=1e-6)


def test_reliability_shows_fractions_by_probability(adata: AnnData) -> None:
    axes = pl.sensitivity_reliability(adata, "truth")
    points = np.asarray(axes.collections[0].get_offsets())
    p, truth = adata.obs[KEY].to_numpy(), (adata.obs["truth"] == "sensitive").to_numpy()
    assert points[0] == pytest.approx([p[p <= 0.1].mean(), truth[p <= 0.1].mean()])
    assert "60 cells" in axes.get_title(loc="left")
    with pytest.raises(InputError, match="no cell of obs column 'truth' is 'yes'"):
        pl.sensitivity_reliability(adata, "truth", sensitive="yes")


@pytest.mark.parametrize(("trusted", "colour", "says"), [(True, ACCENT, "tests passed"), (False, GREY, "not to be")])
def test_a_signature_is_drawn_with_its_verdict(adata: AnnData, trusted: bool, colour: str, says: str) -> None:
    adata.uns[KEY]["trusted"] = trusted
    axes = pl.sensitivity_signature(adata, named=2)
    assert says in axes.get_title(loc="left")
    assert to_hex(axes.collections[0].get_facecolor()[0]) == colour
    assert [text.get_text() for text in axes.texts] == ["EGFR", "VIM"]


def test_without_a_call_or_a_transfer_there_is_nothing_to_draw(adata: AnnData) -> None:
    empty = AnnData(obs=adata.obs[["arm"]])
    with pytest.raises(InputError, match=r"uns.* holds no transfer"):
        pl.sensitivity_signature(empty)
    with pytest.raises(InputError, match="obs has no column 'cell_lm_sensitivity_score'"):
        pl.sensitivity_scores(empty, "arm")
    with pytest.raises(InputError, match="obs has no column 'cell_lm_sensitivity'"):
        pl.sensitivity(empty)
