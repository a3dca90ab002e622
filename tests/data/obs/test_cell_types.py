from __future__ import annotations

import warnings

import pandas as pd
import pytest

from cell_lm.data.obs.cell_types import (
    LabelRules,
    as_words,
    means_no_type,
    read_cell_types,
    strangers,
    warn_of_no_shared_type,
)
from cell_lm.data.obs.labels import LabelWarning, read_labels
from cell_lm.errors import ConfigError, InputError


def read(values: list[object], *, training: bool = True, missing: tuple[str, ...] = (), min_cells: int | None = None):
    obs = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    return read_cell_types(obs, "x", where="file", rules=LabelRules(missing, min_cells), training=training)


def test_named_words_mean_no_label_in_any_case():
    labels = read(["T", "T", "B", "B", "unknown", "NA", "Unknown "], missing=("Unknown", "NA"))
    assert labels.text.tolist() == ["T", "T", "B", "B", "", "", ""]
    assert labels.known.sum() == 4


@pytest.fixture(autouse=True)
def _blanks_are_tested_elsewhere():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "file: blanks around", LabelWarning)
        yield


def test_words_that_may_mean_no_label_are_offered_ready_to_copy():
    with pytest.warns(LabelWarning) as told:
        labels = read(["T", "T", "B", "B", "Unassigned", "Unassigned", "doublet", "doublet"])
    assert labels.known.all()
    (line,) = [str(one.message) for one in told]
    assert "'Unassigned' (2 cells), 'doublet' (2 cells), which may mean that there is no label" in line
    assert "missing_labels=['Unassigned', 'doublet'] (--unlabelled \"Unassigned,doublet\")" in line
    read(["T", "T", "B", "B", "Unassigned", "doublet"], missing=("Unassigned", "doublet"))  # no warning once named


@pytest.mark.parametrize(
    "label",
    ["unknown", "Unknown cell", "UNASSIGNED", "unlabelled (failed QC)", "unlabeled", "N/A", "na", "Low-quality cells",
     "low_quality", "Doublets", "?", "-", "none", "ambiguous"],
)  # fmt: skip
def test_words_that_mean_no_type(label):
    assert means_no_type(label)


@pytest.mark.parametrize("label", ["NK", "naive", "Na+ channel neuron", "alpha", "0", "-1", "nanny", "B"])
def test_names_that_mean_a_type(label):
    assert not means_no_type(label)


def test_a_word_that_no_cell_has_is_told():
    with pytest.warns(LabelWarning, match=r"no cell of obs column 'x' is labelled 'Unkown'. Check the spelling"):
        read(["T", "T", "B", "B"], missing=("Unkown",))


def test_nothing_left_is_refused():
    with pytest.raises(InputError, match="holds no label other than 'T'"):
        read(["T", "T"], missing=("t", "T"), training=False)
    with pytest.raises(InputError, match=r"one label only, 'T' \(2 cells\)"):
        read(["T", "T", "unknown"], missing=("unknown",))


def test_names_of_cells_are_no_types():
    with pytest.raises(InputError, match=r"as many different labels as cells, 5\. Name the column.*min_cells=1"):
        read(["AAC", "AAG", "AAT", "ACC", "ACG", None])
    assert read(["AAC", "AAG", "AAT"], min_cells=1).known.all()
    assert read(["AAC", "AAG", "AAT"], training=False).known.all()


def test_a_type_of_one_cell_is_refused_kept_or_left_out_as_asked():
    values = ["T", "T", "T", "B", "B", "mast", "delta"]
    with pytest.raises(InputError, match=r"2 of 4 types .* have one cell each: 'delta', 'mast'.*min_cells=2"):
        read(values)
    assert read(values, min_cells=1).known.all()
    with pytest.warns(LabelWarning, match=r"types of fewer than 3 cells were left out: 'B', 'delta', 'mast' \(4 c"):
        labels = read([*values, "NK", "NK", "NK"], min_cells=3)
    assert labels.text.tolist() == ["T", "T", "T", "", "", "", "", "NK", "NK", "NK"]
    with pytest.raises(InputError, match=r"1 of 4 types .* have 3 cells or more. Lower min_cells"):
        read(values, min_cells=3)


@pytest.mark.parametrize("words", ["Unknown", ["a", ""], [1], 3])
def test_words_that_cannot_be_used_are_a_configuration_error(words):
    with pytest.raises(ConfigError, match="missing_labels is"):
        as_words(words)
    with pytest.raises(ConfigError, match="min_cells is 0"):
        LabelRules(min_cells=0)


def test_truth_without_any_known_type_is_told_aloud():
    labels = read_labels(pd.DataFrame({"x": ["T cell", "B cell"]}), "x", where="file")
    with pytest.warns(LabelWarning, match=r"share no type: 'B cell', 'T cell' there, 'alpha', 'beta' here. Every"):
        warn_of_no_shared_type(labels, ["beta", "alpha"], "x", where="file")
    warn_of_no_shared_type(labels, ["T cell"], "x", where="file")
    assert strangers(labels, ["T cell"]) == ["B cell"]
