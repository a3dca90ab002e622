from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data import read_cells, read_h5ad
from cell_lm.data.formats.readers import read_source
from cell_lm.errors import InputError


@pytest.fixture
def path(adata: AnnData, tmp_path: Path) -> Path:
    """A whole file: CSR in X, a CSC and a dense layer, raw, labels."""
    adata.obs["label"] = "a"
    adata.layers["csc"] = adata.X.tocsc()
    adata.layers["dense"] = adata.X.toarray()
    adata.raw = adata
    adata.uns["note"] = np.arange(3)
    adata.write_h5ad(tmp_path / "my.h5ad")
    return tmp_path / "my.h5ad"


def refusal(path: Path, layer: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_source(path, layer)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def replace(file: h5py.File, key: str, value: object) -> None:
    del file[key]
    file[key] = value


@pytest.mark.parametrize("layer", [None, "X", "csc", "dense", "raw"])
def test_every_matrix_of_a_file_is_read(layer: str | None, path: Path, counts: sparse.csr_matrix) -> None:
    source = read_source(path, layer)
    assert (sparse.csr_matrix(source.X) != counts).nnz == 0
    assert source.obs["label"].tolist() == ["a"] * 60
    assert len(source.elsewhere) == 3


def test_only_what_is_asked_for_is_read(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["layers/csc/indices"]
        replace(file, "uns/note", h5py.ExternalLink("/etc/passwd", "/"))
        file["obsm"].attrs["encoding-type"] = "no such thing"
    assert read_source(path).X.shape == (60, 1500)
    assert "its layers/csc cannot be read (KeyError" in refusal(path, "csc")


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.h5ad")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.h5ad").touch()
    assert "0 bytes" in refusal(tmp_path / "empty.h5ad")


@pytest.mark.parametrize(
    ("head", "word"),
    [
        (b"\x1f\x8b", "the archive cannot be read"),
        (b"PK\x03\x04", "zip archive"),
        (b"a,b\n", "of no format that is read"),
        (b"\xff\xfea\x00", "UTF-16"),
        (bytes(257) + b"ustar", "tar archive"),
    ],
)
def test_other_formats_are_named(head: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "x.h5ad").write_bytes(head + bytes(range(256)) * 9)
    assert word in refusal(tmp_path / "x.h5ad")


def test_what_is_packed_but_must_not_be_is_named(path: Path) -> None:
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "an HDF5 file inside a gzip archive. Unpack it with gunzip" in refusal(path)
    path.write_bytes(gzip.compress(bytes(257) + b"ustar" + bytes(999)))
    assert "tar archive" in refusal(path)


def test_other_hdf5_files_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "tenx.h5", "w") as file:
        file.create_group("matrix")
    assert "no h5ad, 10x or loom file (it holds: matrix)" in refusal(tmp_path / "tenx.h5")
    with h5py.File(tmp_path / "part.h5ad", "w") as file:
        file.create_group("obs")
    assert "it has no var" in refusal(tmp_path / "part.h5ad")
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        file["obs"] = file["var"] = np.zeros(3)
    assert "before 0.7" in refusal(tmp_path / "old.h5ad")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.9999])
def test_a_file_cut_off_anywhere_says_so(share: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert f"cut off: {int(len(whole) * share):,} of {len(whole):,} bytes" in refusal(path)


def test_a_file_with_its_middle_overwritten_never_ends_in_a_traceback(path: Path) -> None:
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        start = int(rng.integers(100, len(whole) - 400))
        damaged[start : start + 400] = rng.bytes(400)
        path.write_bytes(damaged)
        try:
            read_source(path)
        except InputError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("key", ["X", "X/data", "obs", "obs/label", "var", "layers", "raw/var/_index"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5ad", "/X"), h5py.SoftLink("/uns")])
def test_a_link_is_never_followed(key: str, link: object, path: Path) -> None:
    (path.parent / "other.h5ad").write_bytes(path.read_bytes())
    with h5py.File(path, "a") as file:
        replace(file, key, link)
    message = refusal(path, "raw" if key.startswith("raw") else None)
    assert f"/{key} is a link to " in message
    if isinstance(link, h5py.ExternalLink):
        assert "other.h5ad:/X" in message


def test_data_outside_the_file_are_refused(path: Path) -> None:
    secret = path.parent / "secret.bin"
    secret.write_bytes(bytes(10**6))
    with h5py.File(path, "a") as file:
        n = len(file["X/data"])
        del file["X/data"]
        file["X"].create_dataset("data", (n,), np.float32, external=[(str(secret), 0, 4 * n)])
    assert "/X/data lie in another file" in refusal(path)
    with h5py.File(path, "a") as file:
        del file["X/data"]
        layout = h5py.VirtualLayout((n,), np.float32)
        layout[:] = h5py.VirtualSource("other.h5ad", "X/data", (n,))
        file["X"].create_virtual_dataset("data", layout)
    assert "/X/data lie in another file" in refusal(path)


def test_arrays_that_were_never_written_are_refused_whatever_their_size(path: Path) -> None:
    with h5py.File(path, "a") as file:
        attributes = dict(file["X"].attrs)
        del file["X"]
        file.create_dataset("X", (60, 10**12), np.float32, chunks=(1, 1000))
        file["X"].attrs.update({**attributes, "encoding-type": "array"})
    assert "never written" in refusal(path)


def test_a_group_that_is_reached_twice_is_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["obs/again"] = file["obs"]
    assert "/obs/again and /obs are one and the same object" in refusal(path)


@pytest.mark.parametrize(
    ("key", "change", "word"),
    [
        ("indices", lambda a: np.where(np.arange(len(a)) == 9, 10**6, a), "1 of .* indices lie outside"),
        ("indptr", lambda a: a[::-1], "damaged|cannot be read"),
        ("indptr", lambda a: np.where(np.arange(len(a)) == 9, a[-1], a), "indptr falls"),
        ("indptr", lambda a: a[:-3], "damaged|cannot be read"),
        ("data", lambda a: a[:-5], "damaged|cannot be read"),
        ("data", lambda a: a.astype("S4"), "not real numbers|cannot be read"),
    ],
)
@pytest.mark.parametrize("place", ["X", "layers/csc"])
def test_a_damaged_sparse_index_is_refused(
    place: str, key: str, change: Callable[[np.ndarray], np.ndarray], word: str, path: Path
) -> None:
    with h5py.File(path, "a") as file:
        replace(file, f"{place}/{key}", change(file[f"{place}/{key}"][:]))
    with pytest.raises(InputError, match=word):
        read_source(path, None if place == "X" else "csc")


def test_a_matrix_that_does_not_fit_its_cells_or_is_of_an_unknown_kind_is_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["X"].attrs["shape"] = (60, 1501)
        file["layers/csc"].attrs["encoding-type"] = "encrypted"
        replace(file, "layers/dense", np.zeros(7))
    assert "60 x 1,501, but there are 60 cells and 1,500 genes" in refusal(path)
    assert "stored as 'encrypted'" in refusal(path, "csc")
    assert "it is 7, but" in refusal(path, "dense")


def test_files_of_the_first_group_layout_are_read(path: Path, counts: sparse.csr_matrix) -> None:
    with h5py.File(path, "a") as file:
        shape = file["X"].attrs["shape"]
        file["X"].attrs.clear()
        file["X"].attrs.update({"h5sparse_format": "csr", "h5sparse_shape": shape})
        dense = file["layers/dense"][:]
        replace(file, "layers/dense", dense)
    for layer in (None, "dense"):
        assert (sparse.csr_matrix(read_source(path, layer).X) != counts).nnz == 0


def test_a_file_without_x_names_its_layers(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["X"]
    message = refusal(path)
    assert "no X" in message
    assert "csc, dense, raw" in message
    assert read_source(path, "csc").X.shape == (60, 1500)


def test_a_file_without_cells_is_refused(make_adata: Callable[..., AnnData], tmp_path: Path) -> None:
    make_adata()[:0].copy().write_h5ad(tmp_path / "none.h5ad")
    assert "0 cells and 1,500 genes" in refusal(tmp_path / "none.h5ad")


def test_repeated_cell_names_are_read_as_they_are(adata: AnnData, tmp_path: Path) -> None:
    adata.obs_names = ["same"] * adata.n_obs
    adata.write_h5ad(tmp_path / "same.h5ad")
    assert read_h5ad(tmp_path / "same.h5ad").n_obs == 60
    assert read_cells(tmp_path / "same.h5ad").obs.index.tolist() == ["same"] * 60


def test_a_whole_file_is_read_with_the_same_checks(path: Path) -> None:
    adata = read_h5ad(path)
    assert set(adata.layers) == {"csc", "dense"}
    with h5py.File(path, "a") as file:
        replace(file, "uns/note", h5py.ExternalLink("other.h5ad", "/X"))
    with pytest.raises(InputError, match=r"/uns/note is a link to other\.h5ad:/X"):
        read_h5ad(path)
