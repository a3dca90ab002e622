from __future__ import annotations

import math

import pytest

from cell_lm.config import ObjectivesConfig
from cell_lm.objectives.divide_and_conquer import Losses
from cell_lm.pretraining.step import average

FIRST = Losses(9.0, 1.0, 0.5, 4.0, 0.7, 0.2, 1.0, 300, 10, 10)
SECOND = Losses(9.0, 2.0, math.nan, 1.0, 0.3, 0.6, math.nan, 100, 0, 30)
WEIGHTS = ObjectivesConfig.model_validate(
    {"masked": {"weight": 2.0}, "discrimination": {"weight": 3.0}, "reconstruction": {"weight": 0.5}}
)


def test_every_mean_is_weighted_by_what_it_counts() -> None:
    both = average([FIRST, SECOND], WEIGHTS)
    assert both.masked == pytest.approx(1.25)
    assert both.masked_accuracy == pytest.approx(0.3)
    assert both.discrimination == pytest.approx(0.5)
    assert both.discrimination_accuracy == pytest.approx(1.0)
    assert both.contrastive == pytest.approx(1.75)
    assert both.reconstruction == pytest.approx(0.4)
    assert (both.masked_genes, both.labelled_cells, both.cells) == (400, 10, 40)


def test_the_total_is_that_of_the_averaged_terms() -> None:
    assert average([FIRST, SECOND], WEIGHTS).total == pytest.approx(2 * 1.25 + 3 * 0.5 + 1.75 + 0.5 * 0.4)


def test_an_objective_with_nothing_to_judge_is_nan_and_adds_nothing() -> None:
    alone = average([SECOND], WEIGHTS)
    assert math.isnan(alone.discrimination)
    assert alone.total == pytest.approx(2 * 2.0 + 1.0 + 0.5 * 0.3)


def test_an_objective_that_is_off_adds_nothing() -> None:
    off = ObjectivesConfig.model_validate({"contrastive": {"weight": 0.0}})
    unseen = Losses(1.5, 1.0, 0.5, math.nan, math.nan, 0.2, 1.0, 300, 10, 10)
    assert average([unseen], off).total == pytest.approx(1.5)
