"""Files that are called what they are not, or are no cells, are named, with what to do."""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from anndata import AnnData
from r_bytes import Writer
from written import h5mu, zarr_folder

from cell_lm.data import open_cells, read_anndata, read_cells
from cell_lm.data.formats.readers import find_faults
from cell_lm.errors import InputError


def refusal(path: Path, layer: str | None = None) -> str:
    with pytest.raises(InputError) as caught, open_cells(path, layer=layer):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert message.count(". ") >= 1, "no remedy"
    return message


def archive(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, "x" * 20)

    return write


def hdf5(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name in names:
                file[name] = np.arange(3)

    return write


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES: dict[str, tuple[bytes | Callable[[Path], None], str]] = {
    "Git LFS": (LFS, "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>", "web page"),
    "error of a server": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
    "xlsx": (archive("[Content_Types].xml", "xl/workbook.xml"), "Save its sheet of counts as csv"),
    "zip": (archive("a.csv"), "zip archive"),
    "zarr in a zip": (archive(".zgroup", "X/.zarray"), "zarr folder in a zip"),
    "npz": (archive("X.npy"), "npz"),
    "npy": (b"\x93NUMPY\x01\x00" + bytes(100), "array of numpy"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "pickle"),
    "parquet": (b"PAR1" + bytes(50), "parquet"),
    "pdf": (b"%PDF-1.4\n" + bytes(50), "PDF"),
    "fastq": (gzip.compress(b"@read1\nACGTNACGT\n+\nIIIIIIIII\n"), "FASTQ"),
    "json": (b'{"cells": 3}', "JSON"),
    "h5Seurat": (hdf5("assays/RNA/counts", "cell.names", "meta.data/x"), "SeuratDisk::Convert"),
    "molecule_info": (hdf5("barcode_idx", "feature_idx", "umi", "count"), "filtered_feature_bc_matrix.h5"),
    "other HDF5": (hdf5("weather"), "another kind"),
}


@pytest.mark.parametrize(("content", "says"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("name", ["x.h5ad", "x.csv"])
def test_a_file_is_named_by_what_it_holds_whatever_it_is_called(
    name: str, content: bytes | Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    assert says in refusal(path)


def test_an_object_of_seurat_is_named_with_what_to_type_in_r(tmp_path: Path) -> None:
    writer = Writer()
    head = b"X\n" + b"\x00\x00\x00\x02\x00\x03\x06\x00\x00\x02\x03\x00"
    (tmp_path / "x.rds").write_bytes(gzip.compress(head + writer.s4({"assays": writer.null}, "Seurat", "SeuratObject")))
    assert "LayerData(x, assay = 'RNA', layer = 'counts')" in refusal(tmp_path / "x.rds")


def test_what_cell_lm_wrote_itself_is_named(tmp_path: Path) -> None:
    store, model, run = tmp_path / "store", tmp_path / "model", tmp_path / "run"
    (store / "shards").mkdir(parents=True)
    assert "unfinished store" in refusal(store)
    (store / "manifest.json").write_text("{}")
    assert f"cell-lm pretrain {store}" in refusal(store)
    for folder in (model, run / "model"):
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "config.json"):
            (folder / name).write_text("{}")
    assert "it is a model of cell-lm" in refusal(model)
    assert "folder of a run or classifier" in refusal(run)


def test_a_modality_and_its_layers_are_chosen_by_name(real: AnnData, tmp_path: Path) -> None:
    real = real.copy()
    real.layers["twice"] = 2 * real.X
    path = h5mu(real, tmp_path)
    with open_cells(path, layer="rna/twice") as cells:
        assert sum(block.sum() for block in cells.blocks(10)) == 2 * real.X.sum()
        assert "my.h5mu, rna" in cells.where
    with open_cells(path, layer="prot") as cells:
        assert cells.var.index.tolist() == ["CD3", "CD4"]
    assert "it has no modality 'atac' but prot, rna" in refusal(path, "atac")
    with h5py.File(path, "a") as file:
        file.move("mod/rna", "mod/a")
    message = refusal(path)
    assert "2 modalities: a, prot" in message
    assert "--layer" in message


def test_layers_and_raw_of_a_zarr_folder_are_read(real: AnnData, tmp_path: Path) -> None:
    real = real.copy()
    real.layers["twice"], real.raw = 2 * real.X, real.copy()
    path = zarr_folder(real, tmp_path)
    for layer, factor in ((None, 1), ("twice", 2), ("raw", 1)):
        with open_cells(path, layer=layer) as cells:
            assert sum(block.sum() for block in cells.blocks(10)) == factor * real.X.sum()
            assert cells.obs["donor"].tolist() == real.obs["donor"].tolist()
    assert "it has no layer 'x'" in refusal(path, "x")
    assert read_anndata(path).shape == real.shape
    assert find_faults(path) == ([], ())


def test_a_zarr_folder_runs_no_code_follows_no_link_and_announces_no_more_than_it_holds(
    real: AnnData, tmp_path: Path
) -> None:
    path = zarr_folder(real, tmp_path)
    array = path / "X" / "data" / ".zarray"
    honest = json.loads(array.read_text())
    array.write_text(json.dumps(honest | {"filters": [{"id": "pickle"}]}))
    assert "names the codec 'pickle'" in refusal(path)
    array.write_text(json.dumps(honest | {"shape": [10**12]}))
    assert "stored bytes announce" in refusal(path)
    array.write_text("{")
    assert "X/data/.zarray cannot be read" in refusal(path)
    array.unlink()
    array.symlink_to("/etc/passwd")
    assert "is a link" in refusal(path)


def test_a_zarr_folder_of_something_else_is_named(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=2).create_group("weather")
    assert "of no AnnData (it holds: weather)" in refusal(tmp_path / "x.zarr")


def test_check_finds_what_embed_would_stumble_over(real: AnnData, tmp_path: Path) -> None:
    path, real = tmp_path / "x.h5ad", real.copy()
    real.uns["a"] = {"b": np.arange(4)}
    real.write_h5ad(path)
    assert find_faults(path) == ([], ())
    with h5py.File(path, "a") as file:  # as SeuratDisk writes it
        file["var/features"] = file["var/_index"][:]
        file["var"].attrs["_index"], file["var"].attrs["column-order"] = "features", ["_index"]
    faults, notes = find_faults(path)
    assert faults == []
    assert "column '_index' of var is called 'index_'" in notes[0]
    with h5py.File(path, "a") as file:
        file["uns/a/b"].attrs["encoding-type"] = "no such thing"
    faults, _ = find_faults(path)
    assert len(faults) == 1
    assert "x.h5ad" in faults[0]
    assert read_cells(path).X.nnz
