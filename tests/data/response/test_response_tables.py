"""Tables of drug response: GDSC's and PRISM's files, any other, and every way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_lm.data.response import ResponseColumns, read_response, response_table
from cell_lm.errors import ConfigError, InputError


def gdsc() -> pd.DataFrame:
    """Rows as in GDSC's own download, one pair measured twice."""
    return pd.DataFrame(
        {
            "DATASET": ["GDSC2"] * 5,
            "COSMIC_ID": [1, 1, 2, 2, 2],
            "CELL_LINE_NAME": ["A549", "A549", "HeLa", "HeLa", "HeLa"],
            "TCGA_DESC": ["LUAD", "LUAD", "CESC", "CESC", "CESC"],
            "DRUG_ID": [1, 2, 1, 2, 2],
            "DRUG_NAME": ["Erlotinib", "Cisplatin", "Erlotinib", "Cisplatin", "Cisplatin"],
            "LN_IC50": [1.0, -2.0, 3.5, 2.0, 4.0],
            "AUC": [0.9, 0.4, 0.95, 0.8, 0.9],
        }
    )


def prism() -> pd.DataFrame:
    """Rows as in DepMap's secondary screen; the third failed its fingerprint, the last never reached 50 %."""
    return pd.DataFrame(
        {
            "broad_id": ["BRD-1", "BRD-2", "BRD-1", "BRD-2"],
            "depmap_id": ["ACH-1", "ACH-1", "ACH-2", "ACH-3"],
            "screen_id": ["MTS010", "MTS010", "MTS006", "HTS002"],
            "auc": [0.5, 1.1, 0.7, 1.02],
            "ic50": [2.0, 0.5, 1.0, np.nan],
            "name": ["one", "two", "one", "two"],
            "smiles": ["CCO, OCC", "CCN", "CCO, OCC", "CCN"],
            "passed_str_profiling": [True, True, False, True],
        }
    )


def plain(**columns: object) -> pd.DataFrame:
    frame = {"line": ["a", "a", "b"], "drug": ["x", "y", "x"], "ln_ic50": [1.0, -2.0, 3.0], **columns}
    return pd.DataFrame(frame)


def test_the_file_of_gdsc_is_read_and_replicates_are_averaged(tmp_path: Path) -> None:
    gdsc().to_csv(tmp_path / "GDSC2_fitted_dose_response.csv", index=False)
    table = read_response(tmp_path / "GDSC2_fitted_dose_response.csv")
    assert (table.unit, len(table)) == ("ln_ic50", 4)
    assert table.matrix().loc["HeLa", "Cisplatin"] == 3.0
    assert table.pairs.set_index(["line", "drug"]).loc[("HeLa", "Cisplatin"), "replicates"] == 2
    assert table.tissues() == {"A549": "LUAD", "HeLa": "CESC"}
    assert any(
        "1 rows repeat a pair" in remark and "1 pairs with different values" in remark for remark in table.remarks
    )
    assert read_response(tmp_path / "GDSC2_fitted_dose_response.csv", scale="auc").matrix().loc[
        "HeLa", "Cisplatin"
    ] == (pytest.approx(0.85))


def test_the_file_of_prism_is_read_in_ln_micromolar_and_failed_lines_are_left_out(tmp_path: Path) -> None:
    prism().to_csv(tmp_path / "prism.csv", index=False)
    area, ic50 = read_response(tmp_path / "prism.csv", scale="auc"), read_response(tmp_path / "prism.csv")
    assert list(area.lines) == ["ACH-1", "ACH-3"]
    assert area.smiles() == {"one": "CCO", "two": "CCN"}
    assert ic50.matrix().loc["ACH-1", "one"] == pytest.approx(np.log(2.0))
    assert len(ic50) == 2
    assert any("do not reach 50 %" in remark for remark in ic50.remarks)
    assert any("passed_str_profiling" in remark for remark in ic50.remarks)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".parquet"])
def test_any_table_is_read_with_its_columns_named(tmp_path: Path, suffix: str) -> None:
    frame = plain().rename(columns={"line": "cell", "drug": "compound", "ln_ic50": "value"})
    path = tmp_path / f"mine{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    table = read_response(path, line="cell", drug="compound", response="value")
    assert table.matrix().loc["b", "x"] == 3.0
    assert np.isnan(table.matrix().loc["b", "y"])


def test_screens_are_averaged_only_on_request() -> None:
    frame = pd.concat([plain(screen="one"), plain(screen="two", ln_ic50=[3.0, 0.0, 5.0])])
    with pytest.raises(InputError, match=r"2 screens.*one \(3 rows\), two \(3 rows\)"):
        response_table(frame)
    assert response_table(frame, screen="two").matrix().loc["a", "x"] == 3.0
    mean = response_table(frame, screen="all")
    assert mean.matrix().loc["a", "x"] == 2.0
    assert len(mean) == 3
    with pytest.raises(InputError, match="no row is of screen 'three'"):
        response_table(frame, screen="three")


def test_a_screen_weighs_the_same_whatever_its_replicates() -> None:
    frame = pd.concat([plain(screen="one"), plain(screen="one"), plain(screen="two", ln_ic50=[3.0, 0.0, 5.0])])
    assert response_table(frame, screen="all").matrix().loc["a", "x"] == 2.0


@pytest.mark.parametrize(
    ("scale", "given", "ln"),
    [
        ("ic50", [1.0, np.e], [0.0, 1.0]),
        ("ic50_nm", [1000.0, 1.0], [0.0, -np.log(1e3)]),
        ("log10_ic50", [1.0, 0.0], [np.log(10), 0]),
        ("pic50", [6.0, 9.0], [0.0, -np.log(1e3)]),
    ],
)
def test_other_scales_become_ln_micromolar(scale: str, given: list[float], ln: list[float]) -> None:
    frame = pd.DataFrame({"line": ["a", "b"], "drug": ["x", "x"], "response": given})
    table = response_table(frame, scale=scale)  # type: ignore[arg-type]
    assert table.unit == "ln_ic50"
    assert table.pairs["response"].to_list() == pytest.approx(ln)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"ln_ic50": [1.0, np.nan, np.inf]},
            r"2 of 3 responses are missing or infinite \(row 2: a x y; row 3: b x x\)",
        ),
        ({"ln_ic50": [1.0, "high", 2.0]}, "1 responses are no numbers .*'high'; row 2"),
        ({"ln_ic50": [1.0, 2.0, 5000.0]}, "1 of 3 responses cannot be ln IC50 in µM: the most extreme is 5000"),
        ({"line": ["a", None, "b"]}, "1 of 3 rows have no line .row 2"),
        ({"drug": ["x", "", "x"]}, "1 of 3 rows have no drug"),
        ({"smiles": ["CC", "C", "CCC"]}, r"1 drugs have more than one SMILES, as 'x': CC \(row 1\) and CCC \(row 3\)"),
    ],
    ids=["not finite", "text", "unit", "no line", "no drug", "two structures"],
)
def test_bad_rows_are_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        response_table(plain(**change))


def test_the_advice_for_missing_responses_works() -> None:
    frame = plain(ln_ic50=[1.0, np.nan, 2.0])
    with pytest.raises(InputError, match='missing="drop"'):
        response_table(frame)
    table = response_table(frame, missing="drop")
    assert len(table) == 2
    assert any("1 of 3 responses are missing" in remark for remark in table.remarks)


def test_areas_called_logarithms_are_recognised_and_logarithms_called_areas() -> None:
    many = pd.DataFrame({"line": [f"l{i}" for i in range(40)], "drug": "x", "response": np.linspace(0.2, 1, 40)})
    with pytest.raises(InputError, match='scale="auc"'):
        response_table(many)
    assert response_table(many, scale="auc").unit == "auc"
    with pytest.raises(InputError, match="2 of 3 responses are no area"):
        response_table(plain(), scale="auc", columns=ResponseColumns(response="ln_ic50"))
    with pytest.raises(InputError, match="1 of 3 concentrations are zero or negative"):
        response_table(plain(), scale="ic50", columns=ResponseColumns(response="ln_ic50"))


def test_a_column_that_is_not_there_and_a_drug_that_is_not_there_bring_close_names() -> None:
    with pytest.raises(InputError, match=r"no column 'Line'\. Did you mean 'line'"):
        response_table(plain(), columns=ResponseColumns(line="Line"))
    with pytest.raises(InputError, match="no column is known to be the drug"):
        response_table(plain().rename(columns={"drug": "compound"}))
    table = response_table(plain(drug=["Erlotinib", "Cisplatin", "Erlotinib"]))
    assert table.of_drug("Erlotinib").to_dict() == {"a": 1.0, "b": 3.0}
    with pytest.raises(InputError, match="Did you mean 'Erlotinib'"):
        table.of_drug("erlotinb")


def test_structures_may_come_from_elsewhere() -> None:
    table = response_table(plain()).with_smiles({"x": "CC", "other": "C"})
    assert table.smiles() == {"x": "CC"}
    with pytest.raises(InputError, match="none of 1 drugs with a SMILES is one of its 2"):
        table.with_smiles({"X": "CC"})


def test_a_molecule_with_two_names_is_told() -> None:
    table = response_table(plain(smiles=["CC", "CC", "CC"]))
    assert any("1 structures have two names" in remark and "x = y" in remark for remark in table.remarks)


def test_files_that_are_no_tables_are_one_error(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_response(tmp_path / "no.parquet")
    (tmp_path / "empty.csv").write_text("line,drug,ln_ic50\n")
    with pytest.raises(InputError, match="no rows"):
        read_response(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="no such file"):
        read_response(tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match="missing='keep'"):
        response_table(plain(), missing="keep")  # type: ignore[arg-type]
