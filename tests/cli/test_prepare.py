from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import Cli, Said

from cell_lm.data.store import Store
from cell_lm.files import with_checksum

MakeFile = Callable[..., Path]


@pytest.fixture
def store(cli: Cli, make_file: MakeFile, tmp_path: Path) -> Path:
    """A store of two files, the second of which repeats the first and adds to it."""
    columns = tmp_path / "columns.toml"
    columns.write_text(
        'cell_type = { column = "cell_type" }\ntissue = "skin"\n'
        'malignancy = { column = "malignant", tumour = ["putative"] }\n[[file]]\nname = "b.*"\ntissue = "lung"\n'
    )
    first, second = make_file("a.h5ad"), make_file("b.h5ad", cells=80)
    said = cli("prepare", first, second, "--columns", columns, "--out", tmp_path / "store", "--shard-cells=50")
    assert (said.code, said.err.count("error")) == (0, 0)
    return tmp_path / "store"


def rows(said: Said) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in said.out.splitlines() if line.strip()}


def test_the_table_accounts_for_every_cell(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    first, second = make_file("a.h5ad"), make_file("b.h5ad", cells=80)
    said = cli("prepare", first, second, "--out", tmp_path / "store")
    assert said.code == 0
    table = rows(said)
    assert table["a.h5ad"][:5] == ["60", "0", "0", "0", "60"]
    assert table["b.h5ad"][:5] == ["80", "0", "0", "60", "20"]
    assert "b.h5ad: 60 cells have the same genes and counts as in a.h5ad; left out" in said.out
    assert table["together"][0] == "140"
    assert f"written: {tmp_path / 'store'}" in said.out
    assert "no columns file" in said.out
    assert "a.h5ad, b.h5ad: no mitochondrial genes, so" in said.out
    assert "cell-lm inspect" in said.err


def test_inspect_shows_labels_states_and_sizes(cli: Cli, store: Path) -> None:
    said = cli("inspect", store, "--verify")
    assert (said.code, said.err) == (0, "")
    told = {line[2:16].strip(): line[17:] for line in said.out.splitlines() if line.startswith("  ")}
    cells = len(Store.open(store))
    assert told["cells"].startswith(f"{cells:,} of 2 sources")
    assert told["tissue"].startswith("skin 60")
    assert "type 0" in told["cell type"]
    assert told["malignancy"].startswith("normal ")
    assert "19,281 in the vocabulary: 1,200 in some source, 1,200 in every one" in told["genes"]
    assert f"verified: {store}" in said.out


def test_inspect_as_json_is_the_manifest_and_more(cli: Cli, store: Path, make_file: MakeFile) -> None:
    found = json.loads(cli("inspect", store, "--json", "--verify", "--contains", make_file("a.h5ad")).out)
    assert found["kind"] == "cell-lm store"
    assert found["verified"] == [str(store)]
    assert found["labels"]["tissue"]["skin"] == 60
    assert found["contains"]["same_file"] == "a.h5ad"
    assert found["contains"]["found"] == found["contains"]["cells"] == 60


def test_contains_answers_by_file_and_by_cells(cli: Cli, store: Path, make_file: MakeFile, tmp_path: Path) -> None:
    again = tmp_path / "copy.h5ad"
    shutil.copy(tmp_path / "a.h5ad", again)
    lines = cli("inspect", store, "--contains", again).out.splitlines()
    assert len(lines) == 1
    assert "it is source a.h5ad, the same file; 60 of its 60 cells (100.0%) are in the store" in lines[0]
    changed = make_file("new.h5ad", change=lambda adata: adata.obs.insert(0, "mine", 1))
    assert "no source is this very file; 60 of its 60 cells" in cli("inspect", store, "--contains", changed).out
    other = make_file("other.h5ad", seed=5)
    assert "no source is this very file; 0 of its 60 cells (0.0%)" in cli("inspect", store, "--contains", other).out


def test_a_damaged_store_is_named_by_its_file(cli: Cli, store: Path) -> None:
    path = store / "shards" / "00001" / "counts.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)
    assert cli("inspect", store).code == 0
    said = cli("inspect", store, "--verify")
    assert said.code == 1
    assert "00001/counts.npy: it is damaged" in said.error
    path.write_bytes(data[:-1])
    assert "00001/counts.npy: it has" in cli("inspect", store).error


def test_running_again_says_that_nothing_was_done(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    path, store = make_file(), tmp_path / "store"
    first = cli("prepare", path, "--out", store)
    again = cli("prepare", path, "--out", store)
    assert again.out == first.out
    assert "nothing was done" in again.err
    other = cli("prepare", path, "--out", store, "--min-genes=100")
    assert other.code == 1
    assert "min_genes was 200, now 100" in other.error


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--memory=lots"], "'lots' is no size"),
        (["--memory=10M"], "too little"),
        (["--columns=absent.toml"], "absent.toml"),
        (["--layer=counts"], "no layer 'counts'"),
        (["--input=log1p"], "all"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    cli: Cli, make_file: MakeFile, tmp_path: Path, words: list[str], word: str
) -> None:
    said = cli("prepare", make_file(), "--out", tmp_path / "store", *words)
    assert said.code == 1
    assert word in said.error


def test_a_rule_for_no_file_is_said(cli: Cli, make_file: MakeFile, tmp_path: Path) -> None:
    columns = tmp_path / "columns.toml"
    columns.write_text('[[file]]\nname = "pmbc*"\ntissue = "blood"\n')
    said = cli("prepare", make_file(), "--columns", columns, "--out", tmp_path / "store")
    assert said.code == 0
    assert "no file is called 'pmbc*'" in said.err


def test_a_run_tells_what_it_was_trained_on(cli: Cli, store: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    opened = Store.open(store)
    sources = [
        {
            "name": one.name,
            "store": "store",
            "hash": one.sha256,
            "cells": one.cells.kept,
            "malignancy": one.cells.malignancy_counts,
        }
        for one in opened.manifest.sources
    ]
    stores = [{"name": "store", "path": str(store), "hash": opened.hash, "cells": len(opened)}]
    (run / "data.json").write_text(json.dumps(with_checksum({"datasets": sources, "stores": stores})))
    for folder in (run, run / "model"):
        said = cli("inspect", folder, "--contains", tmp_path / "a.h5ad")
        assert said.code == 0
        assert len(said.out.splitlines()) == 1
        assert "it is source a.h5ad, the same file; 60 of its 60 cells" in said.out
    shutil.rmtree(store)
    said = cli("inspect", run, "--contains", tmp_path / "a.h5ad")
    assert "it is source a.h5ad, the same file; its cells could not be looked up" in said.out
    assert "store store is not here" in said.err
    (run / "data.json").write_text("{}")
    assert "does not describe the data of a run" in cli("inspect", run).error


def test_what_is_neither_store_nor_run_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "not finished" in cli("inspect", tmp_path).error
    assert "no such folder" in cli("inspect", tmp_path / "absent").error
