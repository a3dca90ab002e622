from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from r_bytes import ASCII, CHAR, INT, Writer, head, rdata, rds
from scipy import sparse
from written import panglao, rdata_v2

from cell_lm.data import open_cells, read_cells
from cell_lm.errors import InputError

GENES = 300


@pytest.fixture
def some(real: AnnData) -> AnnData:
    return real[:9, :GENES].copy()


def refusal(data: bytes, folder: Path, name: str = "x.RData", layer: str | None = None) -> str:
    (folder / name).write_bytes(data)
    with pytest.raises(InputError) as caught, open_cells(folder / name, layer=layer) as file:
        list(file.blocks(10))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    return str(caught.value)


def test_of_several_matrices_the_one_of_panglao_is_read_unless_another_is_named(some: AnnData, tmp_path: Path) -> None:
    matrix = panglao(some)
    (tmp_path / "x.rda").write_bytes(rdata(2, matrix, names=("sm2", "sm", "other")))
    with open_cells(tmp_path / "x.rda") as file:
        assert (file.place, file.elsewhere) == ("sm", ("sm2", "other"))
        assert file.remarks == ("its rows are genes (300), its columns cells (9)",)
    with open_cells(tmp_path / "x.rda", layer="other") as file:
        assert file.place == "other"
    assert "no matrix 'sm3'. Choose" in refusal((tmp_path / "x.rda").read_bytes(), tmp_path, layer="sm3")
    assert "it holds 2 matrices. Choose" in refusal(rdata(3, matrix, names=("a", "b")), tmp_path)


def test_a_matrix_of_cells_by_genes_is_turned(some: AnnData, tmp_path: Path) -> None:
    write = rds(2, lambda writer: writer.matrix(some.X.tocsc(), list(some.obs_names), list(some.var_names)))
    (tmp_path / "x.rds").write_bytes(write)
    with open_cells(tmp_path / "x.rds") as file:
        assert file.remarks == ("its columns are genes (300), its rows cells (9)",)
        assert (next(file.blocks(9)) != some.X).nnz == 0


def test_something_else_is_named_by_what_it_is(some: AnnData, tmp_path: Path) -> None:
    def write(writer: Writer, name: str) -> bytes:
        return {
            "counts": lambda: writer.integers(range(6)),
            "genes": lambda: writer.texts(["A", "B"]),
            "both": lambda: writer.vector(writer.null, lambda: writer.reals([1.0])),
            "triplets": lambda: writer.matrix(some.X.T.tocsc(), None, None, kind="dgTMatrix"),
        }[name]()

    message = refusal(rdata(2, write, names=("counts", "genes", "both", "triplets")), tmp_path)
    found = "it holds no sparse matrix (dgCMatrix) but counts: whole numbers, genes: text, both: a list"
    assert f"{found}, triplets: dgTMatrix. Save one sparse matrix" in message
    assert "but numbers" in refusal(rds(3, lambda writer: writer.reals([1, 2])), tmp_path, "x.rds")


def test_a_matrix_without_names_is_refused(some: AnnData, tmp_path: Path) -> None:
    counts = some.X.T.tocsc()
    message = refusal(rdata(2, lambda writer, _: writer.matrix(counts, None, None)), tmp_path)
    assert "its dgCMatrix is 300 x 9, with 0 and 0 names" in message
    message = refusal(rdata(2, lambda writer, _: writer.matrix(counts, list(some.var_names[:-1]), ["c"] * 9)), tmp_path)
    assert "with 299 and 9 names" in message
    names = list(some.var_names), ["c"] * 9
    assert "8 of 9 names of cells are repeated" in refusal(
        rdata(2, lambda writer, _: writer.matrix(counts, *names)), tmp_path
    )


@pytest.mark.parametrize("change", ["indices", "indptr", "short", "no slot"])
def test_slots_that_do_not_fit_each_other_are_refused(change: str, some: AnnData, tmp_path: Path) -> None:
    counts = sparse.csc_matrix(some.X.T)

    class Damaged(Writer):
        def integers(self, values: object) -> bytes:
            array = np.array(values)
            if change == "indices" and len(array) == counts.nnz:
                array[5] = 10**6
            if change == "indptr" and len(array) == 10:
                array = array[::-1]
            return super().integers(array)

        def reals(self, values: object) -> bytes:
            return super().reals(values[:-3] if change == "short" else values)

        def symbol(self, name: str) -> bytes:
            return super().symbol("y" if change == "no slot" and name == "x" else name)

    names = list(some.var_names), list(some.obs_names)
    message = refusal(head(2) + Damaged().matrix(counts, *names), tmp_path, "x.rds")
    assert ("has no slot x" if change == "no slot" else "its sparse index is damaged") in message


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
def test_a_file_cut_off_anywhere_says_so(share: float, real: AnnData, tmp_path: Path) -> None:
    packed = rdata_v2(real, tmp_path).read_bytes()
    assert "the archive is cut off" in refusal(packed[: int(share * len(packed))], tmp_path)
    plain = gzip.decompress(packed)
    message = refusal(plain[: max(20, int(share * len(plain)))], tmp_path)
    assert "no whole file of R" in message or "damaged" in message


def test_damage_anywhere_never_ends_in_a_traceback(some: AnnData, tmp_path: Path) -> None:
    plain = bytearray(rdata(3, panglao(some)))
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(plain)
        start = int(rng.integers(0, len(plain) - 40))
        data[start : start + 40] = rng.bytes(40)
        (tmp_path / "x.RData").write_bytes(data)
        try:
            with open_cells(tmp_path / "x.RData") as file:
                list(file.blocks(5))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_an_archive_blown_up_on_purpose_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cell_lm.data.formats.rdata._LARGE", 1 << 20)
    squeeze = zlib.compressobj(wbits=31)
    data = squeeze.compress(b"RDX2\n" + bytes(1 << 24)) + squeeze.flush()
    assert "unpacks to more than" in refusal(data, tmp_path)


def test_a_sequence_of_a_length_that_was_made_up_is_not_filled_in(tmp_path: Path) -> None:
    def write(writer: Writer, _: str) -> bytes:
        text = lambda name: struct.pack(">I", 1) + struct.pack(">Ii", CHAR | ASCII, len(name)) + name.encode()  # noqa: E731
        pair = struct.pack(">I", 2)
        info = pair + text("compact_intseq") + pair + text("base") + pair + writer.integers([INT]) + writer.null()
        return struct.pack(">I", 238) + info + writer.reals([1e15, 1, 1]) + writer.null()

    assert "sequences of 1,000,000,000,000,000 numbers" in refusal(rdata(3, write), tmp_path)


def test_nothing_in_a_file_is_run(some: AnnData, tmp_path: Path) -> None:
    """A call beside the matrix is data like any other."""

    def write(writer: Writer, name: str) -> bytes:
        if name == "sm":
            return panglao(some)(writer)
        call = struct.pack(">I", 6) + writer.symbol("system")
        return call + struct.pack(">I", 2) + writer.texts([f"touch {tmp_path / 'ran'}"]) + writer.null()

    (tmp_path / "x.RData").write_bytes(rdata(2, write, names=("call", "sm")))
    with open_cells(tmp_path / "x.RData") as file:
        assert len(file) == 9
    assert not (tmp_path / "ran").exists()


def test_names_of_panglao_are_resolved_by_symbol_and_id(real: AnnData, tmp_path: Path) -> None:
    audit = read_cells(rdata_v2(real, tmp_path)).audit
    assert audit.used == real.n_vars
    assert audit.table["gene"][0] == "A1BG_ENSG00000121410.4"
