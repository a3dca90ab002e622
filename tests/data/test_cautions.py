"""What may not be meant is said of cells that can be used, and of no others."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_lm.data.cautions import USUAL_MIN_GENES, cautions, empty_droplets, few_genes, repeated_names, selected_genes
from cell_lm.prepare import PrepareSettings

NAMES = pd.Index([f"c{i}" for i in range(100)])


def test_ordinary_cells_get_no_warning() -> None:
    assert list(cautions(np.full(100, 900), 15_000, 0.78, NAMES)) == []


@pytest.mark.parametrize(("median", "found", "warned"), [(2, 19_000, True), (2, 1_200, True), (12, 300, False)])
def test_an_unfiltered_matrix_is_told_from_a_panel(median: int, found: int, warned: bool) -> None:
    told = empty_droplets(median, found)
    assert (told is not None) == warned
    assert told is None or f"express {median} genes or fewer" in told


@pytest.mark.parametrize(("found", "coverage", "warned"), [(2_000, 0.1, True), (9_000, 0.47, False)])
def test_selected_genes_are_noticed(found: int, coverage: float, warned: bool) -> None:
    told = selected_genes(found, coverage)
    assert (told is not None) == warned
    assert told is None or "only 2,000 genes (10%) of the vocabulary" in told


def test_the_cells_that_pretraining_would_leave_out_are_counted() -> None:
    assert few_genes(np.array([199] * 10 + [200] * 90)) is None
    told = few_genes(np.array([199] * 11 + [200] * 89))
    assert told is not None
    assert "leave out 11 of 100 cells, which express fewer than 200 genes" in told
    assert PrepareSettings().min_genes == USUAL_MIN_GENES


def test_repeated_names_are_counted() -> None:
    assert repeated_names(NAMES) is None
    told = repeated_names(pd.Index(["a", "b", "a", "c", "a"]))
    assert told is not None
    assert told.startswith("3 cells share their name with another one (the first: 'a')")


def test_nothing_is_said_of_genes_that_could_not_be_read() -> None:
    assert list(cautions(None, 0, 0.0, NAMES)) == []
    assert len(list(cautions(None, 0, 0.0, pd.Index(["a", "a"])))) == 1
