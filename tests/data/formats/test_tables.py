from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from written import csv_with_text, frame, tsv_genes

from cell_lm.data import open_cells
from cell_lm.errors import GeneError, InputError


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught, open_cells(path):
        pass
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def lines(cells: AnnData, tmp_path: Path) -> list[str]:
    """The lines of a table genes x cells, each with its end: the header and the genes."""
    frame(cells).T.to_csv(tmp_path / "x.csv")
    return (tmp_path / "x.csv").read_text().splitlines(keepends=True)


def write(lines: list[str], path: Path) -> Path:
    path.write_text("".join(lines))
    return path


def test_what_was_decided_is_said(real: AnnData, tmp_path: Path) -> None:
    with open_cells(tsv_genes(real, tmp_path)) as file:
        assert file.remarks == (f"its rows are genes ({real.n_vars:,}), its columns cells ({real.n_obs:,})",)
    with open_cells(csv_with_text(real, tmp_path)) as file:
        assert file.remarks[0].startswith("its columns are genes")
        assert "barcode, assigned_cluster, donor, or so" in file.remarks[1]
        assert file.obs["assigned_cluster"].tolist() == real.obs["cell_type"].tolist()
        assert file.obs["donor, or so"].tolist() == real.obs["donor"].tolist()


def test_genes_are_named_by_the_column_of_text_that_holds_them(real: AnnData, tmp_path: Path) -> None:
    table = frame(real).T
    table.insert(0, "symbol", table.index)
    table.index = [f"row{place}" for place in range(len(table))]
    table.to_csv(tmp_path / "x.tsv", sep="\t")
    with open_cells(tmp_path / "x.tsv") as file:
        assert file.var.index.tolist() == real.var_names.tolist()
    table.index = [f"ENSG{99_000_000_000 + place}" if place % 4 else name for place, name in enumerate(table["symbol"])]
    table.to_csv(tmp_path / "x.tsv", sep="\t")
    with open_cells(tmp_path / "x.tsv") as file:
        assert file.var.index.tolist() == real.var_names.tolist()
        assert "name" in file.var


def test_both_or_neither_side_named_as_genes_is_refused(cells: AnnData, tmp_path: Path) -> None:
    table = frame(cells)
    table.index = cells.var_names[: len(table)]
    table.to_csv(tmp_path / "both.csv")
    assert "both its rows" in refusal(tmp_path / "both.csv")
    table = frame(cells)
    table.columns = [f"g{place}" for place in range(table.shape[1])]
    table.to_csv(tmp_path / "neither.csv")
    assert "neither its rows (" in refusal(tmp_path / "neither.csv")


def test_genes_of_the_mouse_are_named(cells: AnnData, tmp_path: Path) -> None:
    frame(cells).T.rename(str.capitalize).to_csv(tmp_path / "mouse.csv")
    with pytest.raises(GeneError, match="spelled as in mouse"), open_cells(tmp_path / "mouse.csv"):
        pass


def test_text_among_the_numbers_is_named_by_line_and_column(lines: list[str], tmp_path: Path) -> None:
    header = lines[0].strip().split(",")
    for text, word in (("hello", "'hello', not a number"), ("", "nothing, not a number. Write 0"), ("NA", "Write 0")):
        fields = lines[41].rstrip("\n").split(",")
        fields[7] = text
        message = refusal(write([*lines[:41], ",".join(fields) + "\n", *lines[42:]], tmp_path / "t.csv"))
        assert f"line 42, column '{header[7]}' holds" in message
        assert word in message


def test_a_column_of_text_in_the_middle_is_named(cells: AnnData, tmp_path: Path) -> None:
    table = frame(cells)
    table.insert(30, "stage", "late")
    table.to_csv(tmp_path / "t.csv")
    assert "1 columns between those of counts ('stage') hold no number in line 2" in refusal(tmp_path / "t.csv")


def test_a_line_of_another_length_is_named(lines: list[str], tmp_path: Path) -> None:
    short = lines[9].rsplit(",", 1)[0] + "\n"
    assert "line 10 has 46 fields, the header 47" in refusal(
        write([*lines[:9], short, *lines[10:]], tmp_path / "t.csv")
    )
    half = lines[-1][: len(lines[-1]) // 2]
    assert f"line {len(lines):,} has " in refusal(write([*lines[:-1], half], tmp_path / "t.csv"))


def test_a_missing_field_is_not_made_up_by_another(cells: AnnData, tmp_path: Path) -> None:
    frame(cells).T.to_csv(tmp_path / "t.tsv", sep="\t")
    lines = (tmp_path / "t.tsv").read_text().splitlines()
    fields = lines[5].split("\t")
    fields[7:9] = ["", "1 2"]
    lines[5] = "\t".join(fields)
    (tmp_path / "t.tsv").write_text("\n".join(lines))
    assert "line 6, column" in refusal(tmp_path / "t.tsv")
    lines[5] = "\t".join([*fields[:7], "1_0", "0", *fields[9:]])
    (tmp_path / "t.tsv").write_text("\n".join(lines))
    assert "holds '1_0', not a number" in refusal(tmp_path / "t.tsv")


def test_a_header_that_does_not_fit_or_is_missing_is_named(lines: list[str], tmp_path: Path) -> None:
    cut = ",".join(lines[0].split(",")[:-4]) + "\n"
    assert "line 1, the header, has 43 fields separated by commas, line 2 has 47" in refusal(
        write([cut, *lines[1:]], tmp_path / "t.csv")
    )
    assert "it has no header: line 1 holds numbers" in refusal(write(lines[1:], tmp_path / "t.csv"))
    assert "one line only" in refusal(write(lines[:1], tmp_path / "t.csv"))
    assert "holds no number" in refusal(write(["a,b\n", "c,d\n"], tmp_path / "t.csv"))


def test_cells_that_come_twice_are_named(lines: list[str], tmp_path: Path) -> None:
    names = lines[0].strip().split(",")
    names[9] = names[3]
    message = refusal(write([",".join(names) + "\n", *lines[1:]], tmp_path / "t.csv"))
    assert f"1 of 46 names of cells are repeated ('{names[3]}' is number 3 and 9)" in message


def test_an_archive_that_is_cut_off_or_damaged_says_after_which_line(lines: list[str], tmp_path: Path) -> None:
    whole = gzip.compress("".join(lines).encode())
    path = tmp_path / "t.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    assert "the archive is cut off after line " in refusal(path)
    path.write_bytes(whole[:-8] + bytes(8))
    assert f"the archive cannot be read after line {len(lines):,}" in refusal(path)
    path.write_bytes(whole[:5])
    assert "the archive is cut off" in refusal(path)


def test_an_endless_line_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cell_lm.data.formats.text._LONGEST", 1 << 20)
    squeeze = zlib.compressobj(wbits=31)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(squeeze.compress(b"a" * (1 << 23)) + squeeze.flush())
    assert "line 1 is longer than 1,048,576 bytes" in refusal(path)


def test_comments_blank_lines_and_marks_of_other_programs_are_passed_over(
    lines: list[str], real: AnnData, tmp_path: Path
) -> None:
    text = "# counted by a program\n" + lines[0] + "\n" + "".join(lines[1:]).replace("\n", "\r\n") + "\r\n\r\n"
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.removeprefix("# counted by a program\n").encode())
    (tmp_path / "u.csv").write_text(text)
    for name in "tu":
        with open_cells(tmp_path / f"{name}.csv") as file:
            assert file.obs.index.tolist() == real.obs_names.tolist()
            assert sum(block.sum() for block in file.blocks(7)) == real.X.sum()


def test_numbers_that_are_not_counts_come_as_they_are(real: AnnData, tmp_path: Path) -> None:
    table = (frame(real) / 3).astype(object)
    table.iloc[0, 0], table.iloc[1, 1], table.iloc[2, 2] = np.inf, -1.5e-3, 2**40
    table.T.to_csv(tmp_path / "t.csv")
    with open_cells(tmp_path / "t.csv") as file:
        block = next(file.blocks(10))
    assert (block[0, 0], block[1, 1], block[2, 2]) == (np.inf, -1.5e-3, 2**40)
    assert block.dtype == np.float64


def test_a_layer_is_not_looked_for(real: AnnData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layer 'counts'"), open_cells(tsv_genes(real, tmp_path), layer="counts"):
        pass


def test_a_full_disk_is_named(real: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tsv_genes(real, tmp_path)
    monkeypatch.setattr("cell_lm.data.formats.transpose._push", full)
    word = r"temporary file.*No space left on device\. Make room in .*TMPDIR"
    with pytest.raises(InputError, match=word), open_cells(path):
        pass


def test_pandas_reads_the_same(real: AnnData, tmp_path: Path) -> None:
    path = tsv_genes(real, tmp_path)
    table = pd.read_csv(path, sep="\t", index_col=0)
    with open_cells(path) as file:
        for start, block in zip(range(0, 46, 9), file.blocks(9), strict=True):
            assert np.array_equal(block.toarray(), table.iloc[:, start : start + 9].to_numpy().T)
