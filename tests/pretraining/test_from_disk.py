"""Pretraining from stores and files: the same batches as from memory, and one clear line where the data are spoilt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

from cell_lm.data.backed import open_backed
from cell_lm.data.store import Manifest, ShardWriter, Store, row_hashes
from cell_lm.data.store.layout import VOCABULARY as NAMES
from cell_lm.data.store.manifest import FileRecord, VocabularyRecord
from cell_lm.data.store.writer import record
from cell_lm.errors import InputError
from cell_lm.files import sha256
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.batches import Batches
from toy_run import GENES, VOCABULARY, after, rows, same, tensors, toy_cells, toy_config

ALONE: Any = SimpleNamespace(rank=0, size=1, device=torch.device("cpu"))


def write_store(path: Path, n: int = 48, *, shards: int = 3, seed: int = 0) -> Path:
    """A store of the toy cells, with a tissue for each."""
    cells, records = toy_cells(n, seed=seed), []
    for number, mine in enumerate(np.array_split(np.arange(n), shards)):
        folder = path / "shards" / f"{number:05d}"
        folder.mkdir(parents=True)
        X = cells.X[mine]
        with ShardWriter(folder, "uint8") as writer:
            writer.add(X.indices, X.data, np.diff(X.indptr), row_hashes(X.indices, X.data, X.indptr))
            tissue = np.where(mine % 6 == 0, "rare", "common")
            writer.finish(pd.DataFrame({"malignancy": cells.malignancy[mine], "source": np.int32(0), "tissue": tissue}))
        records.append(record(folder, folder.name, "uint8"))
    VOCABULARY.save(path / NAMES)
    file = FileRecord(size=(path / NAMES).stat().st_size, sha256=sha256(path / NAMES))
    Manifest(
        vocabulary=VocabularyRecord(**file.model_dump(), hash=VOCABULARY.hash, genes=GENES),
        settings={},
        cells=n,
        tokens=sum(shard.tokens for shard in records),
        genes_in_any=GENES,
        genes_in_all=GENES,
        sources=[],
        duplicates=[],
        shards=records,
    ).write(path)
    return path


def with_data(config: Any, **data: Any) -> Any:
    return config.model_copy(update={"data": config.data.model_copy(update=data)})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_store(tmp_path / "store")


def test_a_run_from_a_store_is_bitwise_that_from_memory(store: Path, tmp_path: Path) -> None:
    config = toy_config()
    pretrain([Store.open(store)], config, tmp_path / "a", progress=False)
    pretrain([toy_cells()], with_data(config, prefetch=0), tmp_path / "b", progress=False)
    assert same(tensors(tmp_path / "a", 12), tensors(tmp_path / "b", 12))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_run_from_a_file_on_disk_stopped_in_a_window_goes_on_bit_for_bit(tmp_path: Path) -> None:
    cells = toy_cells()
    adata = AnnData(cells.X, obs=cells.obs, var=pd.DataFrame(index=list(VOCABULARY.symbols)))
    adata.write_h5ad(tmp_path / "cells.h5ad")

    def data() -> Any:
        return [replace(open_backed(tmp_path / "cells.h5ad", vocabulary=VOCABULARY), malignancy=cells.malignancy)]

    config = with_data(toy_config(), block=4, window=16)
    pretrain(data(), config, tmp_path / "whole", progress=False)
    assert pretrain(data(), config, tmp_path / "cut", progress=False, stop=after(5)).interrupted
    pretrain(data(), config, tmp_path / "cut", progress=False, resume=True)
    assert same(tensors(tmp_path / "whole", 12), tensors(tmp_path / "cut", 12))


@pytest.mark.parametrize("data", [{}, {"order": "blocks", "block": 4, "window": 16}, {"balance": "tissue"}])
def test_batches_made_ahead_are_those_made_when_asked_for(store: Path, data: dict[str, Any]) -> None:
    batches = Batches([Store.open(store)], with_data(toy_config(), **data), ALONE)
    asked = [batches.train(step) for step in range(12)]
    for first in (0, 7):
        with batches.prefetch(first):
            made = [batches.train(step) for step in range(first, 12)]
        for one, other in zip(made, asked[first:], strict=True):
            assert torch.equal(one.genes, other.genes)
            assert torch.equal(one.slots, other.slots)


def test_a_store_is_balanced_over_a_column_and_it_is_said(store: Path) -> None:
    batches = Batches([Store.open(store), toy_cells(8, seed=5)], with_data(toy_config(), balance="tissue"), ALONE)
    assert "balanced over 'tissue', 2 groups: common 4" in batches.notes[0]
    assert "without a value" in batches.notes[0]
    with pytest.raises(InputError, match=r"no data have a column 'tisue' to balance by\. Did you mean 'tissue'"):
        Batches([Store.open(store)], with_data(toy_config(), balance="tisue"), ALONE)
    with pytest.raises(InputError, match="nothing to balance"):
        Batches([toy_cells(malignancy="one")], with_data(toy_config(), balance="malignancy"), ALONE)


def spoil(store: Path, name: str, value: int) -> None:
    array = np.load(store / "shards" / "00001" / name, mmap_mode="r+")
    array[:] = value


def test_a_shard_damaged_during_training_ends_it_in_one_line_and_the_last_checkpoint_is_good(
    store: Path, tmp_path: Path
) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        if asked == 6:
            spoil(store, "genes.npy", 60_000)
        return False

    with pytest.raises(InputError, match=r"store/00001: cell .* is damaged.*cell-lm inspect"):
        pretrain([Store.open(store)], toy_config(), tmp_path / "run", progress=False, stop=stop)
    notes = [row["message"] for row in rows(tmp_path / "run", "note")]
    assert any("step 4 is saved" in note and "is damaged" in note for note in notes)
    shutil.rmtree(store)
    result = pretrain([Store.open(write_store(store))], toy_config(), tmp_path / "run", progress=False, resume=True)
    assert (result.resumed_from, result.steps) == (4, 12)


def test_a_run_is_not_resumed_on_a_store_that_has_changed(store: Path, tmp_path: Path) -> None:
    config = toy_config()
    pretrain([Store.open(store)], config, tmp_path / "run", progress=False, stop=after(5))
    other = write_store(tmp_path / "other" / "store", seed=1)
    with pytest.raises(InputError, match=r"'store' \(48 cells\) is not what the run was begun on"):
        pretrain([Store.open(other)], config, tmp_path / "run", progress=False, resume=True)
    with pytest.raises(InputError, match=r"begun on 1 stores, and 0 are given"):
        pretrain([toy_cells()], config, tmp_path / "run", progress=False, resume=True)


def test_what_a_run_was_begun_on_names_the_store_by_its_hash(store: Path, tmp_path: Path) -> None:
    pretrain([Store.open(store)], toy_config(), tmp_path / "run", progress=False, stop=after(1))
    told = json.loads((tmp_path / "run" / "data.json").read_text())["stores"]
    where = str(store.resolve())
    assert told == [{"name": "store", "path": where, "cells": 48, "hash": sha256(store / "manifest.json")}]


STEADY = """
import sys
from pathlib import Path
sys.path[:0] = {here!r}
from test_from_disk import *

def now():
    status = Path("/proc/self/status").read_text().split("RssAnon:")[1]
    return int(status.split()[0]), len(list(Path("/proc/self/fd").iterdir()))

batches = Batches([Store.open(sys.argv[1])], toy_config(steps=900, validation=0.0), ALONE)
with batches.prefetch(0):
    for step in range(300):
        batches.train(step)
    before = now()
    for step in range(300, 900):
        batches.train(step)
    after = now()
print(after[0] - before[0], after[1] - before[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_file_descriptors_are_flat_over_hundreds_of_batches(store: Path) -> None:
    code = STEADY.format(here=[str(folder) for folder in Path(__file__).parents[:2]])
    done = subprocess.run([sys.executable, "-c", code, str(store)], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    grown, opened = map(int, done.stdout.split())
    assert grown < 2_000
    assert opened == 0


def test_rows_are_announced_after_a_batch_that_waited_for_the_disk(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter([0, 0, 0, 40, 40, 40, 40, 40])
    monkeypatch.setattr("cell_lm.data.loading.readahead._major_faults", lambda: next(faults))
    batches, told = Batches([Store.open(store)], toy_config(), ALONE), list[int]()
    plain = batches.pool.parts[0].announce
    monkeypatch.setattr(type(batches.pool.parts[0]), "announce", lambda self, rows: told.append(len(rows)))
    once = batches.train(0)
    batches.train(1)
    assert told == []
    again = batches.train(0)
    assert sum(told) == 8
    assert torch.equal(once.genes, again.genes)
    plain(np.arange(5))
