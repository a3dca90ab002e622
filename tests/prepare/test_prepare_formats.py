"""Sources that are no h5ad files: a folder of a 10x matrix, a text table, and a sheet of samples beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import io, sparse
from sources import draw

from cell_lm.data.formats.sample_sheet import SampleSheet
from cell_lm.data.store import Store
from cell_lm.prepare import find_cells, prepare


def write_mtx(folder: Path, seed: int) -> Path:
    adata = draw(24, seed=seed, name="m")
    folder.mkdir()
    io.mmwrite(folder / "matrix.mtx", sparse.coo_matrix(adata.X.T.astype(int)))
    (folder / "barcodes.tsv").write_text("".join(f"{name}\n" for name in adata.obs_names))
    (folder / "features.tsv").write_text(
        "".join(f"id{i}\t{name}\tGene Expression\n" for i, name in enumerate(adata.var_names))
    )
    return folder


def write_csv(path: Path, seed: int) -> Path:
    adata = draw(20, seed=seed, name="t")
    pd.DataFrame(adata.X.toarray().astype(int).T, index=adata.var_names, columns=adata.obs_names).to_csv(path)
    return path


def test_formats_mix_in_one_store_and_a_sheet_tells_their_states(files: list[Path], tmp_path: Path) -> None:
    folder, table = write_mtx(tmp_path / "S1_mtx", 7), write_csv(tmp_path / "S2.counts.csv", 8)
    (tmp_path / "sheet.csv").write_text("sample,tissue,group\nS1,lung,tumour\nS2,ovary,normal\n")
    sheet = SampleSheet.read(tmp_path / "sheet.csv")
    manifest = prepare([folder, table], tmp_path / "store", samples=sheet).manifest
    assert [source.name for source in manifest.sources] == ["S1_mtx", "S2.counts.csv"]
    assert set(manifest.sources[0].files) == {"matrix.mtx", "barcodes.tsv", "features.tsv"}
    assert [source.cells.malignancy_counts["tumour"] for source in manifest.sources] == [24, 0]
    assert [source.cells.malignancy_counts["normal"] for source in manifest.sources] == [0, 20]
    store = Store.open(tmp_path / "store")
    by_source = store.cells(["source", "barcode"]).groupby("source")["barcode"].first()
    assert by_source.str[0].tolist() == ["m", "t"]
    assert find_cells(store, table).found == 20
    assert find_cells(store, folder).same_file == manifest.sources[0]
    assert find_cells(store, files[0]).found == 0
    assert not np.isin(store.malignancy, [-1]).any()
