from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_lm.errors import ConfigError, InputError
from cell_lm.prepare.columns import Columns, LabelRule, MalignancyRule, read_columns
from cell_lm.prepare.plan import PrepareSettings, plan_sources

EXAMPLE = """
tissue = "blood"
disease = { column = "disease", values = { "ovarian ca" = "ovarian cancer" } }
malignancy = { column = "malignant", unknown = ["putative"] }
other.assay = "10x"

[[file]]
name = "pbmc*.h5ad"
malignancy = "normal"
layer = "counts"

[[file]]
name = "*3k*"
donor = { column = "patient" }
other.sex = { column = "sex" }
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "columns.toml"
    path.write_text(text)
    return path


def test_rules_for_some_files_go_over_those_for_all_the_later_over_the_earlier(tmp_path: Path) -> None:
    columns = read_columns(written(tmp_path, EXAMPLE))
    paths = [tmp_path / "x" / "pbmc3k.h5ad", tmp_path / "lung.h5ad"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    plans = plan_sources(paths, PrepareSettings(scale="log1p"), columns)
    first, second = (plan.settings() for plan in plans)
    assert first["tissue"] == second["tissue"] == {"constant": "blood"}
    assert first["malignancy"] == {"constant": "normal"}
    assert second["malignancy"] == {"column": "malignant", "unknown": ["putative"]}
    assert (first["layer"], second["layer"]) == ("counts", None)
    assert (first["scale"], second["scale"]) == ("log1p", "log1p")
    assert first["donor"] == {"column": "patient"}
    assert "donor" not in second
    assert list(plans[0].mapping.labels()) == ["tissue", "disease", "donor", "assay", "sex"]
    assert plans[0].asked == {"malignancy", "donor", "sex"}
    assert plans[1].asked == frozenset()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("tisue = 'blood'", "'tisue' is not a known setting"),
        ("tissue = {}", "either a column or a constant"),
        ("tissue = { column = 'a', constant = 'b' }", "either a column or a constant"),
        ("tissue = { colum = 'a' }", "'tissue.colum' is not a known setting"),
        ("malignancy = 'sick'", "none of tumour, normal, unknown"),
        ("malignancy = { column = 'a', tumour = ['x'], normal = ['x'] }", "'x' is given two meanings"),
        ("other.malignancy = 'x'", "'malignancy' is a column that every store has"),
        ("other.'Big Name' = 'x'", "pattern"),
        ("[[file]]\ntissue = 'x'", "'file.0.name' Field required"),
        ("[[file]]\nname = 'x'\nscale = 'tpm'", "'file.0.scale'"),
        ("tissue = 3", "tissue"),
        ("tissue = ['blood']", "'tissue'"),
        ("tissue = 2020-01-01", "'tissue'"),
        ("tissue = { column = 3 }", "'tissue.column'"),
        ("tissue = { column = 'a', values = ['b'] }", "'tissue.values'"),
        ("tissue = { column = 'a', values = { b = 1 } }", "'tissue.values.b'"),
        ("malignancy = true", "'malignancy'"),
        ("malignancy = { column = 'a', tumour = 'x' }", "'malignancy.tumour'"),
        ("malignancy = { column = 'a', tumour = [1] }", "'malignancy.tumour.0'"),
        ("other = 'x'", "'other'"),
        ("other.assay = 3", "'other.assay'"),
        ("file = 'x'", "'file'"),
        ("file = ['x']", "'file.0'"),
        ("[file]\nname = 'x'", "'file'"),
        ("[[file]]\nname = 3", "'file.0.name'"),
        ("[[file]]\nname = 'x'\nlayer = true", "'file.0.layer'"),
        ("tissue =", "cannot be read as TOML"),
    ],
)
def test_a_slip_in_the_columns_file_is_one_clear_error(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_columns(written(tmp_path, text))
    assert word in str(caught.value)
    assert "columns.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_are_text_and_what_is_missing_stays_missing() -> None:
    obs = pd.DataFrame({"patient": [1.0, np.nan, 2.0], "kind": pd.Categorical(["a", None, "b"])})
    assert LabelRule(column="patient").read(obs, where="f").tolist() == ["1", None, "2"]
    assert LabelRule(column="kind", values={"a": "alpha"}).read(obs, where="f").tolist() == ["alpha", None, "b"]
    assert LabelRule(constant="x").read(obs, where="f").tolist() == ["x"] * 3
    with pytest.raises(InputError, match="Did you mean 'kind'"):
        LabelRule(column="kin").read(obs, where="f")


def test_states_are_read_as_everywhere() -> None:
    obs = pd.DataFrame({"malignant": ["yes", "no", "putative"]})
    assert MalignancyRule(column="malignant", tumour=["putative"]).read(obs, where="f").tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="'putative'"):
        MalignancyRule(column="malignant").read(obs, where="f")
    assert MalignancyRule(constant="tumour").read(obs, where="f").tolist() == [1, 1, 1]


def test_no_columns_file_means_that_nothing_is_known() -> None:
    assert Columns().rules() == {}
