from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from anndata import AnnData
from written import as_bytes, lines_of, mtx_geo, mtx_transposed, mtx_v2, mtx_v3, put_matrix, tenx_v2, tenx_v3

from cell_lm.data import open_cells
from cell_lm.errors import GeneError, InputError


def refusal(path: Path, layer: str | None = None) -> str:
    with pytest.raises(InputError) as caught, open_cells(path, layer=layer) as file:
        list(file.blocks(10))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace(path: Path, key: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        del file[key]
        file[key] = value


def test_ids_and_types_are_kept_and_other_features_left_out(real: AnnData, tmp_path: Path) -> None:
    with open_cells(tenx_v3(real, tmp_path)) as file:
        assert set(file.var["feature_types"]) == {"Gene Expression"}
        assert file.var["gene_ids"].str.startswith("ENSG").all()
        assert file.remarks == ("left out: 2 Antibody Capture",)
        assert (file.place, file.elsewhere) == ("matrix", ())
    with open_cells(mtx_v3(real, tmp_path)) as file:
        assert file.var["gene_ids"].str.startswith("ENSG").all()


def test_a_file_without_the_expression_of_genes_is_refused(cells: AnnData, tmp_path: Path) -> None:
    path = tenx_v3(cells, tmp_path)
    replace(path, "matrix/features/feature_type", as_bytes(["Peaks"] * (cells.n_vars + 2)))
    assert f"it holds no Gene Expression: {cells.n_vars + 2:,} Peaks" in refusal(path)


def test_of_several_genomes_the_human_one_is_read(cells: AnnData, tmp_path: Path) -> None:
    path = tenx_v3(cells, tmp_path)
    genomes = np.array(["GRCh38"] * (cells.n_vars + 2), object)
    genomes[-5:] = "mm10"
    replace(path, "matrix/features/genome", as_bytes(genomes))
    with open_cells(path) as file:
        assert file.var.index.tolist() == cells.var_names[:-5].tolist()
        assert next(file.blocks(99)).shape == (cells.n_obs, cells.n_vars - 5)
        assert "genes of other genomes left out: 5 mm10" in file.remarks
    replace(path, "matrix/features/genome", as_bytes(np.where(genomes == "mm10", "mm10", "Rnor_6.0")))
    with pytest.raises(GeneError, match="none of man"), open_cells(path):
        pass


def test_of_the_groups_of_version_2_the_human_one_is_read_unless_another_is_named(
    cells: AnnData, tmp_path: Path
) -> None:
    path = tenx_v2(cells, tmp_path)
    with h5py.File(path, "a") as file:
        group = file.create_group("mm10")
        put_matrix(group, cells[:, :7])
        group["genes"] = group["gene_names"] = as_bytes(cells.var_names[:7])
    with open_cells(path) as file:
        assert (file.place, file.elsewhere, len(file.var)) == ("GRCh38", ("mm10",), cells.n_vars)
    with open_cells(path, layer="mm10") as file:
        assert (file.place, len(file.var)) == ("mm10", 7)
    assert "no matrix 'hg19'. Choose with layer= (--layer); there is: GRCh38, mm10" in refusal(path, "hg19")


@pytest.mark.parametrize(
    ("key", "change", "word"),
    [
        ("indices", lambda a: np.where(np.arange(len(a)) == 9, 10**6, a), r"1 of .* indices lie outside"),
        ("indptr", lambda a: a[::-1], "damaged"),
        ("indptr", lambda a: np.where(np.arange(len(a)) == 9, a[-1], a), "indptr falls"),
        ("data", lambda a: a[:-5], "indptr ends at"),
        ("data", lambda a: a.astype("S4"), "not real numbers"),
        ("shape", lambda a: a + 1, "its shape is given as .* but it names"),
        ("barcodes", lambda a: a[:-1], "its shape is given as|has .* entries"),
        ("barcodes", lambda a: np.append(a[1:], a[1]), "barcodes are repeated"),
        ("features/name", lambda a: a[:-1], "it does not name its genes"),
    ],
)
def test_damage_is_refused(
    key: str, change: Callable[[np.ndarray], np.ndarray], word: str, cells: AnnData, tmp_path: Path
) -> None:
    path = tenx_v3(cells, tmp_path)
    with h5py.File(path) as file:
        value = file[f"matrix/{key}"][:]
    replace(path, f"matrix/{key}", change(value))
    with pytest.raises(InputError, match=word), open_cells(path) as opened:
        list(opened.blocks(10))


def test_links_and_unwritten_arrays_are_refused(cells: AnnData, tmp_path: Path) -> None:
    path = tenx_v3(cells, tmp_path)
    replace(path, "matrix/data", h5py.ExternalLink("other.h5", "/x"))
    assert "/matrix/data is a link to other.h5:/x" in refusal(path)
    with h5py.File(path, "a") as file:
        size = file["matrix/indices"].shape
        del file["matrix/data"]
        file["matrix"].create_dataset("data", size, np.int32, chunks=(100,))
    assert "never written" in refusal(path)


def test_a_file_cut_off_says_so(cells: AnnData, tmp_path: Path) -> None:
    path = tenx_v3(cells, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in refusal(path)


def test_a_folder_with_several_matrices_or_none_asks_for_one(real: AnnData, tmp_path: Path) -> None:
    folder = tmp_path / "parent" / "several"
    folder.mkdir(parents=True)
    mtx_geo(real, folder)
    assert "the folder holds 2 matrices (GSM1_a_matrix.mtx.gz, GSM2_b_matrix.mtx.gz)" in refusal(folder)
    assert f"Name {folder}, which holds one" in refusal(folder.parent)
    (tmp_path / "empty").mkdir()
    assert "the folder holds no matrix (.mtx)" in refusal(tmp_path / "empty")


def test_lists_of_names_that_are_missing_are_asked_for(real: AnnData, tmp_path: Path) -> None:
    path = mtx_geo(real, tmp_path)
    (tmp_path / "GSM1_a_genes.tsv.gz").unlink()
    message = refusal(path)
    assert "the file that lists its genes is missing. Put GSM1_a_features.tsv[.gz], GSM1_a_genes.tsv[.gz]" in message


def test_wrong_dimensions_are_told_with_the_lines_that_say_so(real: AnnData, tmp_path: Path) -> None:
    mtx_v2(real, tmp_path)
    (tmp_path / "barcodes.tsv").write_bytes(lines_of(real.obs_names[:-3]))
    message = refusal(tmp_path)
    assert (
        f"it is {real.n_vars:,} x 46 (line 3), but genes.tsv has {real.n_vars:,} lines and barcodes.tsv 43" in message
    )
    (tmp_path / "barcodes.tsv").write_bytes(b"barcode\n" + lines_of(real.obs_names))
    assert "Remove the header line of the lists" in refusal(tmp_path)


def test_a_matrix_the_other_way_round_is_said(real: AnnData, tmp_path: Path) -> None:
    with open_cells(mtx_transposed(real, tmp_path)) as file:
        assert file.remarks == ("its rows are cells, its columns genes",)


@pytest.mark.parametrize(
    ("line", "text", "word"),
    [
        (0, "%%MatrixMarket matrix array real general", "of another kind: matrix array real general"),
        (0, "%%MatrixMarket matrix coordinate pattern general", "of another kind"),
        (0, "%%MatrixMarket matrix coordinate integer symmetric", "of another kind"),
        (2, "12 x 9", "line 3 is no size"),
        (20, "1 1", "line 21 is no entry (row, column, value): '1 1'"),
        (20, "1 1 x", "line 21 is no entry"),
        (20, "0 1 1", "the entry in line 21 is in row 0, which is not one of 1 to"),
        (20, "1 47 1", "the entry in line 21 is in column 47, which is not one of 1 to 46"),
        (20, "1.5 1 1", "the entry in line 21 is in row 1.5, which"),
    ],
)
def test_a_wrong_line_of_a_matrix_is_named(line: int, text: str, word: str, real: AnnData, tmp_path: Path) -> None:
    mtx_v2(real, tmp_path)
    lines = (tmp_path / "matrix.mtx").read_text().splitlines()
    lines[line] = text
    (tmp_path / "matrix.mtx").write_text("\n".join(lines))
    assert word in refusal(tmp_path)


def test_a_number_that_lacks_is_not_made_up_by_the_next_line(real: AnnData, tmp_path: Path) -> None:
    mtx_v2(real, tmp_path)
    lines = (tmp_path / "matrix.mtx").read_text().splitlines()
    lines[20], lines[21] = "1 1", "1 1 1 1"
    (tmp_path / "matrix.mtx").write_text("\n".join(lines))
    assert "line 21 is no entry (row, column, value): '1 1'" in refusal(tmp_path)


def test_a_matrix_with_more_or_fewer_entries_than_it_says_is_refused(real: AnnData, tmp_path: Path) -> None:
    mtx_v2(real, tmp_path)
    lines = (tmp_path / "matrix.mtx").read_text().splitlines()
    (tmp_path / "matrix.mtx").write_text("\n".join(lines[:-7]) + "\n")
    assert f"it is cut off: {real.X.nnz - 7:,} of {real.X.nnz:,} entries" in refusal(tmp_path)
    (tmp_path / "matrix.mtx").write_text("\n".join([*lines, "1 1 1", ""]))
    assert f"it goes on too long: {real.X.nnz + 1:,} of {real.X.nnz:,}" in refusal(tmp_path)


def test_a_cut_off_archive_is_refused(real: AnnData, tmp_path: Path) -> None:
    mtx_v3(real, tmp_path)
    whole = (tmp_path / "matrix.mtx.gz").read_bytes()
    (tmp_path / "matrix.mtx.gz").write_bytes(whole[:-2000])
    assert "the archive is cut off after line " in refusal(tmp_path)


def test_blank_lines_and_blanks_of_any_kind_are_no_damage(real: AnnData, tmp_path: Path) -> None:
    mtx_v2(real, tmp_path)
    lines = (tmp_path / "matrix.mtx").read_text().splitlines()
    lines[9] = lines[9].replace(" ", "\t ") + "  \r\n"
    (tmp_path / "matrix.mtx").write_bytes("\n".join(lines).encode())
    with open_cells(tmp_path) as file:
        assert sum(block.sum() for block in file.blocks(10)) == real.X.sum()


def test_barcodes_that_come_twice_are_named(real: AnnData, tmp_path: Path) -> None:
    mtx_v2(real, tmp_path)
    names = real.obs_names.to_list()
    names[8] = names[2]
    (tmp_path / "barcodes.tsv").write_bytes(lines_of(names))
    assert f"1 of 46 barcodes are repeated ('{names[2]}' is number 3 and 9)" in refusal(tmp_path)


def test_a_list_of_genes_that_is_no_table_is_refused(real: AnnData, tmp_path: Path) -> None:
    mtx_v3(real, tmp_path)
    (tmp_path / "features.tsv.gz").write_bytes(gzip.compress(b"a\tb\tc\nd\te\n"))
    assert "line 2 has 2 columns, line 1 has 3" in refusal(tmp_path)
