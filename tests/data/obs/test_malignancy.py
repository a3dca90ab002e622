from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_lm.data import NORMAL, TUMOUR, UNKNOWN, MalignancyColumn
from cell_lm.data.obs.malignancy import read_malignancy
from cell_lm.errors import ConfigError, InputError


def read(labels: object, column: str = "group", **options: object) -> list[int]:
    obs = pd.DataFrame({column: labels})
    return MalignancyColumn(column, **options).read(obs, where="my.h5ad").tolist()


@pytest.mark.parametrize(
    ("malignancy", "words"),
    [
        (TUMOUR, ["tumour", "Tumor", "CANCER", "malignant", "neoplastic", "Malignant cells", " tumor_cell "]),
        (NORMAL, ["normal", "Healthy", "non-malignant", "Nonmalignant", "non_tumor", "normal cells"]),
        (UNKNOWN, ["unknown", "", "NA", "unassigned", None, np.nan]),
    ],
)
def test_words_in_use_are_understood_in_any_spelling(malignancy: int, words: list[object]) -> None:
    assert read([*words, "tumour"])[:-1] == [malignancy] * len(words)


@pytest.mark.parametrize(
    "values",
    [
        ["yes", "no", "unknown"],
        [True, False, None],
        [1, 0, np.nan],
        pd.Categorical(["Yes", "No", None]),
        pd.array([True, False, None], dtype="boolean"),
        pd.array([1, 0, None], dtype="Int64"),
        ["True", "False", "nan"],
    ],
)
@pytest.mark.parametrize("column", ["malignant", "is_tumor", "Cancer cell"])
def test_yes_and_no_answer_a_column_that_asks(values: object, column: str) -> None:
    assert read(values, column) == [TUMOUR, NORMAL, UNKNOWN]


@pytest.mark.parametrize("column", ["treated", "is_normal", "non_malignant", "tumor_free"])
def test_yes_and_no_mean_nothing_in_another_column(column: str) -> None:
    with pytest.raises(InputError, match=r"'yes' \(2 cells\), 'no' \(1 cells\)"):
        read(["yes", "no", "yes"], column)


def test_values_that_mean_nothing_are_named_with_their_cells_and_how_to_say() -> None:
    with pytest.raises(InputError, match=r"'putative' \(3 cells\), 'odd' \(1 cells\)") as caught:
        read(["putative"] * 3 + ["odd", "normal"])
    assert "--unknown 'putative'" in str(caught.value)
    assert "my.h5ad" in str(caught.value)


def test_what_the_user_says_comes_before_what_is_understood() -> None:
    said = {"putative": "tumour", "normal": "unknown", "T cell": "normal"}
    assert read(["putative", "normal", "T cell", "cancer"], values=said) == [TUMOUR, UNKNOWN, NORMAL, TUMOUR]
    assert read(["a", "b"], values={"a": "tumor", "b": "normal"}) == [TUMOUR, NORMAL]


def test_a_meaning_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="'a' of column 'group' is to mean 'bad'"):
        MalignancyColumn("group", {"a": "bad"})


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(InputError, match="Did you mean 'malignant'"):
        MalignancyColumn("malignent").read(pd.DataFrame({"malignant": ["yes"]}), where="a")


def test_all_cells_may_be_of_one_state_or_unknown() -> None:
    obs = pd.DataFrame(index=range(2))
    assert read_malignancy("tumour", obs, where="a").tolist() == [TUMOUR] * 2
    assert read_malignancy("normal", obs, where="a").tolist() == [NORMAL] * 2
    assert read_malignancy(None, obs, where="a").tolist() == [UNKNOWN] * 2
    assert read_malignancy(None, obs, where="a").dtype == np.int8
