from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_lm.data import obs_column
from cell_lm.data.obs.columns import find_column
from cell_lm.errors import InputError

OBS = pd.DataFrame({"cell_type": ["a", "b", None], "Donor": ["x", "x", "x"], "empty": [np.nan] * 3})


def test_labels_come_back_as_they_are_with_their_gaps() -> None:
    assert obs_column(OBS, "cell_type", where="a", classes=2).isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("asked", "meant"), [("celltype", "cell_type"), ("donor", "Donor"), ("Cell_Type", "cell_type")]
)
def test_a_missing_column_suggests_the_close_one_and_lists_all(asked: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"Did you mean '{meant}'") as caught:
        obs_column(OBS, asked, where="my.h5ad")
    assert "cell_type, Donor, empty" in str(caught.value)


def test_a_missing_column_without_likeness_suggests_nothing() -> None:
    with pytest.raises(InputError, match=r"no column 'zzz'\. It has: cell_type"):
        obs_column(OBS, "zzz", where="my.h5ad")
    with pytest.raises(InputError, match="no columns"):
        obs_column(OBS[[]], "zzz", where="my.h5ad")


def test_a_column_of_gaps_or_of_one_label_is_refused() -> None:
    with pytest.raises(InputError, match=r"missing .* for all 3 cells"):
        obs_column(OBS, "empty", where="a")
    assert len(obs_column(OBS, "Donor", where="a")) == 3
    with pytest.raises(InputError, match="one label only, 'x'"):
        obs_column(OBS, "Donor", where="a", classes=2)


def test_two_columns_of_one_name_are_not_guessed_between() -> None:
    with pytest.raises(InputError, match="2 columns of obs are called 'Donor'"):
        find_column(pd.concat([OBS, OBS[["Donor"]]], axis=1), "Donor", axis="obs", where="a")
