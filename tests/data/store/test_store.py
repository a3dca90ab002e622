from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from small_store import WORDS, draw, write_store

from cell_lm.data.store import Store, row_hashes
from cell_lm.data.store.layout import FILES
from cell_lm.errors import InputError
from cell_lm.files import with_checksum
from cell_lm.genes import Vocabulary


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        Store.open(path, **options).verify()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(path: Path, **values: object) -> None:
    """Change the manifest, and its checksum with it."""
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps(with_checksum(json.loads(manifest.read_text()) | values)))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x80
    path.write_bytes(data)


def test_what_was_written_is_read_back(small: Path) -> None:
    store = Store.open(small)
    store.verify()
    assert (len(store), store.name, len(store.shards)) == (34, "small", 3)
    narrow, wide, shares = store.shards
    for shard, X in ((narrow, draw(20)), (wide, draw(9, seed=1, largest=4_000)), (shares, draw(5, seed=2) / 3)):
        back = sparse.csr_matrix((shard.X.data, shard.X.indices, shard.X.indptr), shape=X.shape)
        assert (back.astype(np.float32) != X.astype(np.float32)).nnz == 0
        assert shard.genes_per_cell.tolist() == np.diff(X.indptr).tolist()
        assert np.array_equal(shard.hashes, row_hashes(X.indices, X.data, X.indptr))
    assert [shard.scale for shard in store.shards] == ["counts", "counts", "log1p"]
    assert store.genes_per_cell.sum() == store.manifest.tokens
    assert store.malignancy.tolist() == [*(np.arange(20) % 3 - 1), *(np.arange(9) % 3 - 1), *(np.arange(5) % 3 - 1)]
    assert store.cells(["barcode"])["barcode"].tolist()[18:22] == ["cell18", "cell19", "cell0", "cell1"]
    assert store.hashes().shape == (34, 2)


def test_the_types_are_as_narrow_as_promised(small: Path) -> None:
    shard = Store.open(small).shards[0]
    assert [str(array.dtype) for array in shard.X] == ["uint8", "uint16", "uint32"]
    assert all(not array.flags.writeable for array in (shard.X.data, shard.X.indices))


def test_a_third_party_can_read_a_shard_with_numpy_alone(small: Path) -> None:
    folder = small / "shards" / "00001"
    counts, genes, indptr = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("counts", "genes", "indptr")
    )
    X = sparse.csr_matrix((counts, genes, indptr), shape=(9, 300))
    assert (draw(9, seed=1, largest=4_000) != X).nnz == 0


def test_a_hash_of_a_cell_depends_on_its_genes_and_counts_alone() -> None:
    X = draw(6)
    hashes = row_hashes(X.indices, X.data, X.indptr)
    other = X[::-1].tocsr().astype(np.uint16)
    again = row_hashes(other.indices.astype(np.int64), other.data, other.indptr)
    assert np.array_equal(hashes[::-1], again)
    X.data[0] += 1
    changed = row_hashes(X.indices, X.data, X.indptr)
    assert (changed[0] != hashes[0]).all()
    assert np.array_equal(changed[1:], hashes[1:])


def test_the_hash_of_a_cell_is_the_one_that_the_specification_names() -> None:
    from hashlib import blake2b

    content = np.array([3, 258], "<u2").tobytes() + np.array([1, 300], "<f4").tobytes()
    expected = np.frombuffer(blake2b(content, digest_size=16).digest(), "<u8")
    found = row_hashes(np.array([3, 258]), np.array([1, 300]), np.array([0, 2]))
    assert np.array_equal(found[0], expected)


def test_a_pickled_shard_takes_no_data_along(small: Path) -> None:
    shard = Store.open(small).shards[0]
    before = np.array(shard.X.data)
    copy = pickle.dumps(shard)
    assert b"numpy" not in copy
    assert np.array_equal(pickle.loads(copy).X.data, before)


@pytest.mark.parametrize("name", ["manifest.json", "shards/00000/genes.npy", "vocabulary.json"])
def test_a_store_that_is_not_all_there_is_refused(small: Path, name: str) -> None:
    (small / name).unlink()
    message = refusal(small)
    assert name.rpartition("/")[2] in message
    if name == "manifest.json":
        assert "not finished" in message
        assert "prepare again" in message


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "it is a file" in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "it is not a JSON object"),
        ('{"kind": "other"}', "not the manifest of a cell-lm store"),
        ('{"kind": "cell-lm store", "format": 1}', "not those that its checksum names"),
        ('{"kind": "cell-lm store", "format": "1"}', 'format "1", which is none'),
        ('{"kind": "cell-lm store", "format": true}', "format true, which is none"),
        ('{"kind": "cell-lm store", "format": 0}', "format 0, which is none"),
        ('{"kind": "cell-lm store", "format": -3}', "format -3, which is none"),
        ("[" * 10**5, "nested too deeply"),
        (f'{{"kind": {"9" * 5_000}}}', "5,000 digits"),
    ],
)
def test_a_damaged_manifest_is_one_clear_error(small: Path, content: str, word: str) -> None:
    (small / "manifest.json").write_text(content)
    assert word in refusal(small)


def test_a_newer_format_is_refused_whatever_else_it_holds(small: Path) -> None:
    change(small, format=2, surprise=True)
    assert "format 2" in refusal(small)
    assert "Upgrade cell-lm" in refusal(small)


def test_a_manifest_that_does_not_add_up_is_refused(small: Path) -> None:
    change(small, cells=35)
    assert "34 cells" in refusal(small)


def test_another_vocabulary_is_refused_where_one_is_asked_for(small: Path) -> None:
    other = Vocabulary(WORDS.symbols[::-1], WORDS.ensembl)
    assert "vocabulary" in refusal(small, vocabulary=other)
    assert Store.open(small, vocabulary=WORDS).vocabulary == WORDS
    other.save(small / "vocabulary.json")
    assert "vocabulary.json: it is damaged" in refusal(small)


@pytest.mark.parametrize("name", FILES)
def test_a_short_file_is_refused_when_the_store_is_opened(small: Path, name: str) -> None:
    path = small / "shards" / "00001" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"00001/{name}: it has .* bytes, and the manifest says"):
        Store.open(small)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [3, 140, -2])
def test_a_flipped_bit_anywhere_is_named_by_verify(small: Path, name: str, place: int) -> None:
    flip(small / "shards" / "00002" / name, place)
    store = Store.open(small)
    with pytest.raises(InputError, match=rf"00002/{name}: it is damaged: its SHA-256"):
        store.verify()


def test_a_gene_outside_the_vocabulary_is_found_when_all_is_looked_over(small: Path) -> None:
    flip(small / "shards" / "00000" / "genes.npy", -1)
    with pytest.raises(InputError, match=r"genes\.npy: it is damaged: 1 gene indices"):
        Store.open(small, verify=False).shards[0].check()


@pytest.mark.parametrize("place", [128, 128 + 8 * 3 + 7, -1, -8])
def test_rows_that_point_elsewhere_are_refused_before_anything_compiled_runs(small: Path, place: int) -> None:
    flip(small / "shards" / "00000" / "indptr.npy", place)
    with pytest.raises(InputError, match=r"indptr\.npy: it is damaged"):
        _ = Store.open(small, verify=False).shards[0].X


def test_an_array_of_another_type_is_refused(small: Path) -> None:
    path = small / "shards" / "00000" / "counts.npy"
    path.write_bytes(path.read_bytes().replace(b"'|u1'", b"'|i1'"))
    with pytest.raises(InputError, match=r"counts\.npy: it is damaged: it holds int8"):
        _ = Store.open(small, verify=False).shards[0].X


def test_progress_of_verify_adds_up_to_the_size(small: Path) -> None:
    store, told = Store.open(small), list[int]()
    store.verify(told.append)
    on_disk = sum(path.stat().st_size for path in (small / "shards").rglob("*") if path.is_file())
    assert sum(told) == on_disk == store.size - store.manifest.vocabulary.size


def test_a_whole_store_of_one_cell_is_a_store(tmp_path: Path) -> None:
    assert len(Store.open(write_store(tmp_path / "one", {"uint8": draw(1)}))) == 1
