"""One flipped bit anywhere in what is read again is refused, or changes nothing of what is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data import Tokeniser
from cell_lm.data.store import Store
from cell_lm.engine.checkpoint import Checkpoint, Checkpoints
from cell_lm.errors import CellLMError
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.model import CellLM
from cell_lm.prepare import PrepareSettings, prepare

FLIPS = 30
"""Flips a file."""
WORDS = Vocabulary(tuple(f"GENE{i}" for i in range(60)), ("",) * 60)
SMALL = EncoderConfig(width=16, layers=1, heads=2, head_width=8, feedforward=16, gene_width=16, latents=2)


def write_model(path: Path) -> None:
    CellLM(SMALL, WORDS, ObjectivesConfig()).save_pretrained(path)


def read_model(path: Path) -> Any:
    model = CellLM.from_pretrained(path)
    weights = {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}
    return model.config, model.objectives, model.vocabulary, weights


def write_checkpoint(path: Path) -> None:
    tensors = {"weight": torch.arange(40.0), "bias": torch.ones(3)}
    Checkpoints(path, 2).save(7, Checkpoint(tensors, tensors, {"step": 7, "seconds": 1.5, "config": "abc"}))


def read_checkpoint(path: Path) -> Any:
    step, damaged = Checkpoints(path, 2).newest_whole()
    assert step is not None
    assert not damaged
    found = Checkpoints(path, 2).load(step)
    tensors = {f"{name} {number}": x.tolist() for number, of in enumerate(found[:2]) for name, x in of.items()}
    return step, tensors, found.state


def write_vectors(path: Path) -> None:
    path.mkdir()
    values = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    GeneVectors.from_values(values, np.ones(60, bool), WORDS, source="test", about={"a": 1.5}).save(
        path / "v.safetensors"
    )


def read_vectors(path: Path) -> Any:
    found = GeneVectors.load(path / "v.safetensors")
    return found.vocabulary, found.matrix.tobytes(), found.source, found.about


def write_store(path: Path) -> None:
    counts = np.random.default_rng(0).poisson(0.6, (40, 60)).astype(np.float32)
    counts[::5] *= 300
    cells = AnnData(counts)
    cells.var_names, cells.obs["tissue"] = list(WORDS.symbols), "blood"
    file = path.with_suffix(".h5ad")
    cells.write_h5ad(file)
    settings = PrepareSettings(min_genes=1, min_overlap=1, shard_cells=20)
    prepare([file], path, settings=settings, vocabulary=WORDS)


def read_store(path: Path) -> Any:
    """Use a store as pretraining does: all of its cells become tokens."""
    store = Store.open(path)
    batches = [Tokeniser(bins=6, max_genes=100)(shard, np.arange(len(shard))) for shard in store.shards]
    tokens = [(batch.genes.tolist(), batch.values.tolist(), batch.malignancy.tolist()) for batch in batches]
    return store.manifest, store.vocabulary, tokens, store.cells().to_dict(), store.hashes().tolist()


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "model": (write_model, read_model),
    "checkpoint": (write_checkpoint, read_checkpoint),
    "vectors": (write_vectors, read_vectors),
    "store": (write_store, read_store),
}


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, kind: str) -> None:
    write, read = KINDS[kind]
    write(tmp_path / "whole")
    expected, generator = read(tmp_path / "whole"), np.random.default_rng(0)
    files = [path for path in sorted((tmp_path / "whole").rglob("*")) if path.is_file() and path.name != "README.md"]
    refused, harmless = 0, list[str]()
    copy = tmp_path / "copy"
    for file in files:
        bits = 8 * file.stat().st_size
        for bit in generator.choice(bits, min(FLIPS, bits), replace=False).tolist():
            shutil.copytree(tmp_path / "whole", copy)
            flip(copy / file.relative_to(tmp_path / "whole"), bit)
            try:
                found = read(copy)
            except CellLMError:
                refused += 1
            else:
                assert found == expected, f"bit {bit} of {file.name}"
                harmless.append(f"bit {bit} of {file.name}")
            shutil.rmtree(copy)
    assert refused >= FLIPS
    assert all(name.endswith(".json") for name in harmless), harmless
    assert len(harmless) < 0.05 * refused


def test_a_store_that_is_not_verified_says_nothing(tmp_path: Path) -> None:
    """What ``--no-verify`` leaves out; and the proof that the test above would see it."""
    write_store(tmp_path / "store")
    before = Store.open(tmp_path / "store").shards[0].X.data.tolist()
    flip(tmp_path / "store" / "shards" / "00000" / "counts.npy", 8 * 130)
    with pytest.raises(CellLMError, match=r"counts\.npy: it is damaged"):
        _ = Store.open(tmp_path / "store").shards[0].X
    assert Store.open(tmp_path / "store", verify=False).shards[0].X.data.tolist() != before
