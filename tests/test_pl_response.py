"""Plots of drug response show the numbers of the tables they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_lm import pl
from cell_lm.errors import InputError
from cell_lm.tasks import DrugResponseRegressor
from planted_response import READ, lines, responses

PAIRS = pd.DataFrame(
    {
        "line": np.tile([f"l{i}" for i in range(6)], 3),
        "drug": np.repeat(["x", "y", "z"], 6),
        "truth": np.arange(18.0),
        "response": [*range(6), *range(11, 5, -1), *range(12, 18)],
        "low": np.arange(18.0) - 1,
        "high": np.arange(18.0) + 1,
        "known": "new line",
    }
)


def test_the_strip_shows_one_correlation_per_drug(tmp_path: Path) -> None:
    axes = pl.response_per_drug(PAIRS, save=tmp_path / "strip.png")
    points = axes.get_lines()[0].get_ydata()
    assert list(points) == pytest.approx([-1.0, 1.0, 1.0])
    assert axes.get_title(loc="left") == "mean 0.333 over 3 drugs"
    assert (tmp_path / "strip.png").stat().st_size > 1000
    with pytest.raises(InputError, match="no drug has three lines"):
        pl.response_per_drug(PAIRS.groupby("drug").head(2))


def test_agreement_shows_every_pair() -> None:
    axes = pl.response_agreement(PAIRS)
    x, y = axes.get_lines()[0].get_data()
    assert list(x) == list(PAIRS["truth"])
    assert list(y) == list(PAIRS["response"])
    with pytest.raises(InputError, match="no column 'truth'"):
        pl.response_agreement(PAIRS.drop(columns="truth"))
    many = pd.concat([PAIRS] * 400)
    assert pl.response_agreement(many).collections


def test_a_ranking_shows_its_first_rows_and_what_was_measured() -> None:
    table = PAIRS[PAIRS["drug"] == "x"].copy()
    table.loc[table.index[1], ["low", "high"]] = np.nan
    axes = pl.response_ranking(table, top=3)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["l0", "l1", "l2"]
    assert axes.get_title(loc="left") == "lines for x"
    markers = [line.get_marker() for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert markers == ["o", "D", "o"]


def test_learning_curve_and_map_of_a_fit() -> None:
    adata, latent = lines(60)
    regressor = DrugResponseRegressor(members=0, folds=2, trees=10).fit(adata, responses(adata, latent), **READ)
    other, more = lines(30, seed=1)
    curve = regressor.learning_curve(other, responses(other, more, seed=4), measured=(0, 3, 12), **READ)
    assert curve["per_drug"].is_monotonic_increasing
    assert curve["inside"].between(0.8, 0.98).all()
    axes = pl.response_learning_curve(curve)
    assert list(axes.get_lines()[0].get_ydata()) == list(curve["per_drug"])
    places = pl.drug_map(regressor).collections[0].get_offsets()
    scaffold = np.array([int(name[4]) for name in regressor.drugs_])
    centres = np.array([places[scaffold == s].mean(axis=0) for s in range(3)])
    apart = np.linalg.norm(places[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (apart == scaffold).mean() > 0.9
