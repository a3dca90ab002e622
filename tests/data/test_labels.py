from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_lm.data.obs.labels import LabelWarning, read_groups, read_labels
from cell_lm.errors import InputError


def obs(values: object) -> pd.DataFrame:
    return pd.DataFrame({"x": values})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["B cell", "T cell"], ["B cell", "T cell"]),
        ([3, 10], ["3", "10"]),
        ([3.0, np.nan, 10.0], ["3", "", "10"]),
        ([True, False], ["True", "False"]),
        (pd.Categorical(["b", "a"], categories=["c", "b", "a"]), ["b", "a"]),
        (pd.Categorical([2, 1]), ["2", "1"]),
        (pd.array(["a", pd.NA], dtype="string"), ["a", ""]),
        (pd.array([1, None], dtype="Int64"), ["1", ""]),
        (pd.array([True, None], dtype="boolean"), ["True", ""]),
        (["a", None, np.nan, "", "  ", "nan", "None", "<NA>", " NaN"], ["a", *[""] * 8]),
        (["nano", "none", "Nonesuch"], ["nano", "none", "Nonesuch"]),
    ],
)
def test_labels_of_any_kind_become_text_and_missing_ones_are_known_as_such(values, text):
    labels = read_labels(obs(values), "x", where="file")
    assert labels.text.tolist() == text
    assert labels.known.tolist() == [entry != "" for entry in text]


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        ([np.nan] * 3, 1, "is missing"),
        (["", " ", "nan"], 1, r"file: obs column 'x' holds no label: all 3 are blank"),
        (["a", "a", ""], 2, r"one label only, 'a' \(2 cells\).*2 different"),
        (["1", 1, 1.0], 2, "one label only, '1'"),
    ],
)
def test_too_few_labels_are_refused(values, classes, message):
    with pytest.raises(InputError, match=message):
        read_labels(obs(pd.Series(values, dtype=object)), "x", where="file", classes=classes)


def test_a_column_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(InputError, match=r"no column 'y'.*It has: x"):
        read_labels(obs(["a"]), "y", where="file")


def test_donors_are_those_of_the_labelled_cells():
    donors = read_groups(obs(["d1", "d2", np.nan, "d2"]), "x", np.array([True, True, False, True]), where="file")
    assert donors.tolist() == ["d1", "d2", "d2"]


def test_a_labelled_cell_without_donor_is_refused():
    with pytest.raises(InputError, match="blank for 1 of the 3 labelled"):
        read_groups(obs(["d1", "d2", np.nan, "d2"]), "x", np.array([True, True, True, False]), where="file")


def test_a_single_donor_among_the_labelled_cells_is_refused():
    with pytest.raises(InputError, match=r"one group only, 'd2' \(2 labelled cells\)"):
        read_groups(obs(["d1", "d2", "d2"]), "x", np.array([False, True, True]), where="file")


def test_blanks_around_labels_are_removed_and_told_with_an_example():
    with pytest.warns(LabelWarning, match=r"file: blanks around 2 labels of obs column 'x' were removed, as in ' a'"):
        labels = read_labels(obs([" a", "a", "b\t", ""]), "x", where="file")
    assert labels.text.tolist() == ["a", "a", "b", ""]


@pytest.mark.parametrize("values", [[0.25, 1.5, 2.0], pd.Categorical([0.25, 1.5, 0.25])])
def test_floating_point_numbers_are_no_labels(values):
    with pytest.raises(InputError, match=r"file: obs column 'x' holds floating-point numbers, such as 0.25, not"):
        read_labels(obs(values), "x", where="file")
