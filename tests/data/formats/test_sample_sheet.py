from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from anndata import AnnData

from cell_lm.data import MalignancyColumn, SampleSheet, open_cells, read_cells
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR
from cell_lm.errors import InputError

SHEET = """Sample ID\tProject\tCancer type\tSample type
LUAD-003-01-1A\tLUAD-003\tLung adenocarcinoma\tTumor
LUAD-003-01-1\tLUAD-003\tLung adenocarcinoma\tTumor
LUAD-003-02-1A\tLUAD-003\tLung adenocarcinoma\tNormal
"""


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    (tmp_path / "samples.tsv").write_text(SHEET)
    return tmp_path / "samples.tsv"


def write(adata: AnnData, path: Path) -> Path:
    pd.DataFrame(adata.X.toarray().astype(int), index=adata.obs_names, columns=adata.var_names).T.to_csv(path, sep="\t")
    return path


def test_the_cells_of_a_file_get_what_the_sheet_says_of_its_sample(sheet: Path, adata: AnnData, tmp_path: Path) -> None:
    samples = SampleSheet.read(sheet)
    for name, malignancy in (("LUAD-003-01-1A", TUMOUR), ("LUAD-003-02-1A", NORMAL)):
        path = write(adata, tmp_path / f"{name}.counts.matrix.tsv.gz")
        with open_cells(path, samples=samples) as file:
            assert set(file.obs["sample"]) == {name}
            assert set(file.obs["Cancer type"]) == {"Lung adenocarcinoma"}
            assert set(file.obs["malignancy"]) == {"tumour" if malignancy == TUMOUR else "normal"}
        assert set(read_cells(path, samples=samples).malignancy) == {malignancy}
        assert set(read_cells(path, samples=samples, malignancy="tumour").malignancy) == {TUMOUR}


def test_a_sample_is_the_longest_name_that_the_file_begins_with(sheet: Path) -> None:
    samples = SampleSheet.read(sheet)
    assert samples.sample_of("data/LUAD-003-01-1A.counts.matrix.tsv") == "LUAD-003-01-1A"
    assert samples.sample_of("LUAD-003-01-1_counts.h5ad") == "LUAD-003-01-1"
    assert samples.sample_of("LUAD-003-02-1A") == "LUAD-003-02-1A"
    with pytest.raises(InputError, match=r"none of the 3 samples of .*samples\.tsv .* is what its name begins with"):
        samples.sample_of("LUAD-003-02-1AB.tsv")


def test_columns_of_the_cells_stay_as_they_are(sheet: Path) -> None:
    obs = pd.DataFrame({"sample": ["mine"], "Project": ["mine"]}, index=["c"])
    described = SampleSheet.read(sheet).describe(obs, "LUAD-003-01-1A.csv")
    assert described.loc["c", ["sample", "Project", "malignancy"]].tolist() == ["mine", "mine", "tumour"]
    assert list(obs.columns) == ["sample", "Project"]


def test_the_words_of_a_sheet_can_be_given_a_meaning(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("sample,tissue,tumor\na,PT,yes\nb,LN,no\nc,AN,no\n")
    assert SampleSheet.read(tmp_path / "s.csv").table["malignancy"].tolist() == ["tumour", "normal", "normal"]
    column = MalignancyColumn("tissue", {"PT": "tumour", "LN": "unknown", "AN": "normal"})
    assert SampleSheet.read(tmp_path / "s.csv", malignancy=column).table["malignancy"].tolist() == [
        "tumour",
        "unknown",
        "normal",
    ]
    with pytest.raises(InputError, match="'PT'"):
        SampleSheet.read(tmp_path / "s.csv", malignancy=MalignancyColumn("tissue"))


def test_where_two_columns_could_tell_the_state_none_is_guessed(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("sample,type,was\na,tumor,normal\nb,normal,normal\n")
    assert not SampleSheet.read(tmp_path / "s.csv").tells_malignancy


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("sample\na\n", "no sheet of samples"),
        ("sample,x\n", "no sheet of samples"),
        ("name,x\na,1\n", "no column is called sample"),
        ("sample,sample id\na,1\n", "2 columns name samples"),
        ("sample,x\na,1\na,2\n", "samples are repeated"),
        ("sample,x\na,1\nb,2,3\n", "line 3 has 3 columns, the header 2"),
    ],
)
def test_what_is_no_sheet_is_refused(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(InputError, match=word):
        SampleSheet.read(tmp_path / "s.csv")


def test_the_column_of_samples_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("GSM,sample id\nGSM1,a\n")
    assert SampleSheet.read(tmp_path / "s.csv", sample_column="GSM").sample_of("GSM1_x.csv") == "GSM1"
