from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import read_h5ad
from scipy import sparse
from sources import Notes, content, draw, write

from cell_lm.data import read_cells
from cell_lm.data.store import Store
from cell_lm.errors import CellLMError, ConfigError, CountsError, GeneError, InputError
from cell_lm.genes import Vocabulary
from cell_lm.prepare import Columns, PrepareSettings, prepare
from cell_lm.prepare import part as part_module

SMALL = PrepareSettings(shard_cells=25)


def refusal(*arguments: object, **options: object) -> str:
    with pytest.raises(CellLMError) as caught:
        prepare(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def matrix(store: Store) -> sparse.csr_matrix:
    """All cells of a store, in the order of the sources and their rows."""
    blocks = [
        sparse.csr_matrix((s.X.data.astype(np.float32), s.X.indices, s.X.indptr), shape=(len(s), 19_281))
        for s in store.shards
    ]
    cells = store.cells(["source", "row"])
    return sparse.vstack(blocks).tocsr()[np.lexsort((cells["row"], cells["source"]))]


def test_the_cells_of_a_store_are_those_that_reading_the_files_gives(files: list[Path], tmp_path: Path) -> None:
    prepare(files[:2], tmp_path / "store", settings=SMALL)
    store = Store.open(tmp_path / "store")
    store.verify()
    whole = sparse.vstack([read_cells(path, min_genes=200).X for path in files[:2]]).tocsr()
    assert (matrix(store) != whole).nnz == 0
    assert [len(shard) for shard in store.shards] == [25, 25, 17, 25, 9]
    assert [shard.record.counts for shard in store.shards] == ["uint8"] * 3 + ["uint16"] * 2


def test_barcodes_rows_and_sources_lead_back_to_each_cell(files: list[Path], tmp_path: Path) -> None:
    prepare(files[:2], tmp_path / "store", settings=SMALL)
    cells = Store.open(tmp_path / "store").cells()
    for number, path in enumerate(files[:2]):
        own = cells[cells["source"] == number].sort_values("row")
        assert own["barcode"].tolist() == read_h5ad(path).obs_names.tolist()


class Bars(Notes):
    """Keeps the total and the steps of each bar."""

    def __init__(self) -> None:
        super().__init__()
        self.bars: list[list[int]] = []

    def progress(self, what: str, total: int) -> Any:
        self.bars.append([total])
        return nullcontext(self.bars[-1].append)


def test_the_store_is_the_same_whatever_the_workers_and_the_memory(files: list[Path], tmp_path: Path) -> None:
    for name, how in (("one", {}), ("two", {"workers": 2}), ("little", {"memory": 580_000_000})):
        bars = Bars()
        manifest = prepare(files, tmp_path / name, settings=SMALL, talk=bars, **how).manifest
        (size, *read), (cells, *written) = bars.bars
        assert sum(read) == size == sum(path.stat().st_size for path in files), "progress adds up to the bytes"
        assert sum(written) == cells == manifest.cells
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "little")


def test_a_file_that_is_read_entry_by_entry_gives_the_same_store(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(files[:1], tmp_path / "one")
    monkeypatch.setattr(part_module, "_MOST_CELLS", 7)
    prepare(files[:1], tmp_path / "small")
    assert content(tmp_path / "one") == content(tmp_path / "small")


def test_repeated_cells_are_found_across_files_and_kept_out(files: list[Path], tmp_path: Path) -> None:
    manifest = prepare(files, tmp_path / "store").manifest
    assert [pair.model_dump() for pair in manifest.duplicates] == [{"first": 0, "again": 2, "cells": 10}]
    assert [source.cells.duplicates for source in manifest.sources] == [0, 0, 10]
    assert [source.cells.kept for source in manifest.sources] == [60, 41, 20]
    store = Store.open(tmp_path / "store")
    assert len(np.unique(store.hashes(), axis=0)) == len(store) == 121
    third = store.cells(["source", "row"]).query("source == 2")
    assert third["row"].min() == 10
    kept = prepare(files, tmp_path / "kept", settings=PrepareSettings(keep_duplicates=True)).manifest
    assert kept.cells == 131
    assert kept.duplicates == manifest.duplicates


def test_a_copy_of_a_file_under_another_name_adds_nothing(files: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.h5ad"
    shutil.copy(files[0], copy)
    manifest = prepare([files[0], copy], tmp_path / "store").manifest
    assert [source.cells.kept for source in manifest.sources] == [60, 0]
    assert manifest.sources[0].sha256 == manifest.sources[1].sha256
    assert len(Store.open(tmp_path / "store")) == 60


def test_few_genes_and_much_mitochondrial_expression_are_left_out_and_counted(tmp_path: Path) -> None:
    adata = draw(40)
    X = adata.X.toarray()
    X[:3] = 0
    X[:3, :50] = 1
    mitochondrial = adata.var_names.get_loc("MT-RNR1")  # in no vocabulary, and yet it counts
    X[3:7, mitochondrial] = 3_000
    adata.X = sparse.csr_matrix(X)
    path = write(tmp_path, "a.h5ad", adata)
    source = prepare([path], tmp_path / "store").manifest.sources[0]
    assert source.cells.model_dump(exclude={"malignancy_counts"}) == {
        "given": 40,
        "few_genes": 3,
        "mitochondrial": 4,
        "duplicates": 0,
        "kept": 33,
    }
    assert source.genes.mitochondrial == 3
    share = Store.open(tmp_path / "store").cells(["row", "mitochondrial"]).sort_values("row")["mitochondrial"]
    names = adata.var_names.str.startswith("MT-")
    assert share.to_numpy() == pytest.approx(X[7:, names].sum(axis=1) / X[7:].sum(axis=1), rel=1e-6)
    all_ = prepare([path], tmp_path / "all", settings=PrepareSettings(max_mito=1, min_genes=1)).manifest
    assert all_.cells == 38  # the three poor cells are equal


def test_a_file_without_mitochondrial_genes_says_so(tmp_path: Path) -> None:
    adata = draw(20)
    path = write(tmp_path, "a.h5ad", adata[:, ~adata.var_names.str.startswith("MT-")].copy())
    source = prepare([path], tmp_path / "store").manifest.sources[0]
    assert "no mitochondrial genes" in source.notes[0]
    assert Store.open(tmp_path / "store").cells(["mitochondrial"])["mitochondrial"].isna().all()


def test_logarithms_give_the_store_that_their_counts_would(files: list[Path], tmp_path: Path) -> None:
    import scanpy as sc

    adata = read_h5ad(files[0])
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    logged = write(tmp_path, "logged.h5ad", adata)
    prepare(files[:1], tmp_path / "counts")
    manifest = prepare([logged], tmp_path / "logged", settings=PrepareSettings(scale="log1p")).manifest
    assert "whole counts come back" in manifest.sources[0].evidence
    hashes = [np.unique(Store.open(tmp_path / name).hashes(), axis=0) for name in ("counts", "logged")]
    assert np.array_equal(*hashes)
    assert "log1p" in refusal([logged], tmp_path / "other")


def test_all_sources_are_tried_before_those_that_cannot_be_used_are_refused(files: list[Path], tmp_path: Path) -> None:
    adata = read_h5ad(files[0])
    bad = write(tmp_path, "scaled.h5ad", _with(adata, adata.X * 0.37))
    mouse = write(tmp_path, "mouse.h5ad", _renamed(adata))
    notes = Notes()
    message = refusal([bad, files[0], mouse, files[1]], tmp_path / "store", talk=notes)
    assert message.startswith("2 of 4 sources cannot be used as they are; the first: ")
    assert "scaled.h5ad, X: it looks like" in message
    assert sum("refused: " in line for line in notes.lines) == 2
    assert not (tmp_path / "store" / "manifest.json").exists()
    notes = Notes()
    prepare(files[:2], tmp_path / "store", talk=notes)  # without them nothing is read again
    prepare(files[:2], tmp_path / "fresh")
    assert notes.lines == ["2 of 2 sources were read before and are not read again"]
    assert content(tmp_path / "store") == content(tmp_path / "fresh")
    with pytest.raises(CountsError):
        prepare([bad], tmp_path / "one")
    with pytest.raises(GeneError):
        prepare([mouse], tmp_path / "other")


def _with(adata: object, X: object) -> object:
    adata = adata.copy()  # type: ignore[attr-defined]
    adata.X = X
    return adata


def _renamed(adata: object) -> object:
    adata = adata.copy()  # type: ignore[attr-defined]
    adata.var_names = adata.var_names.str.title()
    return adata


def test_a_file_of_which_no_cell_is_left_is_refused_with_the_reasons(files: list[Path], tmp_path: Path) -> None:
    message = refusal(files[:1], tmp_path / "store", settings=PrepareSettings(min_genes=5_000))
    assert "none of its 60 cells is left: 60 have fewer than 5,000 expressed genes" in message
    assert "--min-genes" in message


def test_running_again_on_a_finished_store_does_nothing(files: list[Path], tmp_path: Path) -> None:
    first = prepare(files, tmp_path / "store")
    before = content(tmp_path / "store")
    again = prepare(files, tmp_path / "store")
    assert (first.fresh, again.fresh) == (True, False)
    assert again.manifest == first.manifest
    assert content(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"settings": PrepareSettings(min_genes=100)}, "min_genes was 200, now 100"),
        ({"columns": Columns.model_validate({"tissue": "blood"})}, "by other rules"),
        ({"vocabulary": Vocabulary(Vocabulary.human().symbols[:9_000], ("",) * 9_000)}, "vocabulary"),
    ],
)
def test_a_finished_store_of_other_settings_is_not_touched(
    files: list[Path], tmp_path: Path, change: dict[str, object], word: str
) -> None:
    prepare(files, tmp_path / "store")
    before = content(tmp_path / "store")
    assert word in refusal(files, tmp_path / "store", **change)
    assert "2 are named" in refusal(files[:2], tmp_path / "store")
    files[0].write_bytes(files[1].read_bytes())
    assert "is not what a.h5ad was" in refusal(files, tmp_path / "store")
    assert content(tmp_path / "store") == before


def test_a_folder_of_something_else_is_refused(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert "other files already (thesis.tex)" in refusal(files, tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    assert "it is a file" in refusal(files, tmp_path / "file")
    assert "named twice" in refusal([files[0], files[0].parent / ".." / "files" / "a.h5ad"], tmp_path / "store")
    assert "no file" in refusal([], tmp_path / "store")
    assert "no such file" in refusal([tmp_path / "absent.h5ad"], tmp_path / "store").lower()


def test_a_column_that_no_file_has_is_refused_before_anything_is_read(files: list[Path], tmp_path: Path) -> None:
    columns = Columns.model_validate({"tissue": {"column": "organ"}, "donor": {"column": "patients"}})
    message = refusal(files, tmp_path / "store", columns=columns)
    assert "donor of all 3 sources: obs has no column 'patients'" in message
    assert "Did you mean 'patient'" in message
    assert not list((tmp_path / "store").iterdir())


def test_malignancy_counts_and_labels_come_from_columns_and_constants(files: list[Path], tmp_path: Path) -> None:
    columns = Columns.model_validate(
        {
            "tissue": {"column": "organ", "values": {"lung": "airway"}},
            "donor": {"column": "patient"},
            "malignancy": {"column": "malignant"},
            "other": {"assay": "10x"},
            "file": [{"name": "b*", "tissue": "liver", "malignancy": "normal"}],
        }
    )
    manifest = prepare(files[:2], tmp_path / "store", columns=columns).manifest
    assert manifest.sources[0].cells.malignancy_counts == {"normal": 48, "tumour": 12, "unknown": 0}
    assert manifest.sources[1].cells.malignancy_counts == {"normal": 41, "tumour": 0, "unknown": 0}
    cells = Store.open(tmp_path / "store").cells()
    assert cells.groupby("source")["tissue"].unique().map(sorted).tolist() == [["airway", "blood"], ["liver"]]
    assert set(cells["donor"]) == {"0", "1", "2", "3"}
    assert set(cells["assay"]) == {"10x"}
    assert cells["disease"].isna().all()
    ordered = cells[cells["source"] == 0].sort_values("row")
    assert ordered["malignancy"].tolist() == [1 if row % 5 == 0 else 0 for row in range(60)]


def test_a_finished_store_holds_nothing_but_the_store(files: list[Path], tmp_path: Path) -> None:
    prepare(files, tmp_path / "store")
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"manifest.json", "vocabulary.json", "shards"}
    text = (tmp_path / "store" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["format"] == 1
    assert manifest["vocabulary"]["hash"] == Vocabulary.human().hash
    assert os.environ.get("HOSTNAME", "no such host") not in text
    assert set(manifest["sources"][0]["files"]) == {"a.h5ad"}


def test_only_one_process_at_a_time_prepares_a_store(files: list[Path], tmp_path: Path) -> None:
    from cell_lm.prepare.disk import alone

    (tmp_path / "store").mkdir()
    with alone(tmp_path / "store"), pytest.raises(InputError, match="another process"):
        prepare(files, tmp_path / "store")


def test_too_little_memory_is_refused_with_what_would_do(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--memory .*G, or fewer --workers"):
        prepare(files, tmp_path / "store", workers=4, memory=1_000_000_000)
