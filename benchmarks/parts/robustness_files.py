"""Small examples of every kind of file that cell-lm writes: how each is written, and how it is read again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from matplotlib.figure import Figure
from scipy import sparse

from cell_lm import files
from cell_lm.config import EncoderConfig
from cell_lm.data import Tokeniser
from cell_lm.data.formats.readers import read_anndata
from cell_lm.data.h5ad_writer import write_h5ad
from cell_lm.data.store import ShardWriter, Store, row_hashes
from cell_lm.engine.checkpoint import Checkpoint, Checkpoints
from cell_lm.engine.log import RunLog
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.model import CellLM
from cell_lm.pl.canvas import finish
from cell_lm.prepare import PrepareSettings, prepare
from cell_lm.prepare.disk import writing
from cell_lm.tasks import CellTypeClassifier

Write: TypeAlias = Callable[[Path], object]
Read: TypeAlias = Callable[[Path], Any]

GENES = 400
_HUMAN = Vocabulary.human()
WORDS = Vocabulary(_HUMAN.symbols[:GENES], _HUMAN.ensembl[:GENES])
SMALL = EncoderConfig(
    attention="latent", width=32, layers=1, heads=2, head_width=16, feedforward=64, gene_width=32, latents=2
)


def cells(number: int = 40, seed: int = 0) -> AnnData:
    """Return counts of cells of two types, each with genes of its own."""
    rng, kind = np.random.default_rng(seed), np.arange(number) % 2
    high = (np.arange(GENES) < GENES // 2)[None, :] == (kind[:, None] == 1)
    counts = sparse.csr_matrix(rng.poisson(np.where(high, 3.0, 0.3)).astype(np.float32))
    obs = pd.DataFrame({"cell_type": np.where(kind, "B cell", "T cell")}, index=[f"cell{i}" for i in range(number)])
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=list(WORDS.symbols)))


def model() -> CellLM:
    """Return a small model that was not trained."""
    return CellLM(SMALL, WORDS)


def write_model(path: Path) -> None:
    model().save_pretrained(path)


def read_model(path: Path) -> Any:
    read = CellLM.from_pretrained(path)
    return read.config, read.objectives, read.vocabulary, _bytes(read.state_dict())


@cache
def classifier() -> CellTypeClassifier:
    """Return a classifier that was fitted on the cells, once: writing it is what is looked at."""
    return CellTypeClassifier(model()).fit(cells(), "cell_type")


def write_classifier(path: Path) -> None:
    classifier().save(path)


def read_classifier(path: Path) -> Any:
    read = CellTypeClassifier.load(path)
    return _bytes(read.model.state_dict()), read.predict(cells(4, seed=1)).to_dict()


def write_checkpoint(path: Path) -> None:
    tensors = {"weight": torch.arange(20_000.0), "bias": torch.ones(3)}
    Checkpoints(path, 2).save(7, Checkpoint(tensors, tensors, {"step": 7, "seconds": 1.5, "config": "abc"}))


def read_checkpoint(path: Path) -> Any:
    kept = Checkpoints(path, 2)
    step, damaged = kept.newest_whole()
    if step is None or damaged:
        raise damaged[0] if damaged else FileNotFoundError(path)
    found = kept.load(step)
    return step, _bytes(found.model), _bytes(found.optimiser), found.state


def write_vectors(path: Path) -> None:
    path.mkdir(exist_ok=True)
    values = np.random.default_rng(0).normal(size=(GENES, 64)).astype(np.float32)
    GeneVectors.from_values(values, np.ones(GENES, bool), WORDS, source="noise").save(path / "vectors.safetensors")


def read_vectors(path: Path) -> Any:
    read = GeneVectors.load(path / "vectors.safetensors")
    return read.vocabulary, read.directions.tobytes(), read.source, read.about


def write_store(path: Path) -> None:
    source = path.with_name(f"{path.name}.source.h5ad")
    made = cells()
    made.X = sparse.csr_matrix(made.X.multiply(np.where(np.arange(40) % 5, 1, 300)[:, None]).astype(np.float32))
    made.write_h5ad(source)
    settings = PrepareSettings(min_genes=1, min_overlap=1, shard_cells=20)
    prepare([source], path, settings=settings, vocabulary=WORDS)


def read_store(path: Path) -> Any:
    """Use a store as pretraining does: all of its cells become tokens."""
    store = Store.open(path)
    batches = [Tokeniser(bins=6, max_genes=GENES)(shard, np.arange(len(shard))) for shard in store.shards]
    tokens = [(batch.genes.tolist(), batch.values.tolist(), batch.malignancy.tolist()) for batch in batches]
    return store.manifest, store.vocabulary, tokens, store.cells().to_dict(), store.hashes().tolist()


def _bytes(tensors: Any) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def write_cells(path: Path) -> None:
    write_h5ad(cells(200), path)


def read_cells(path: Path) -> Any:
    return read_anndata(path).X.toarray().tolist()


def write_shard(path: Path) -> None:
    made = cells(200).X
    with writing(path), files.atomic_directory(path) as fresh, ShardWriter(fresh, "uint8") as writer:
        writer.add(made.indices, made.data, np.diff(made.indptr), row_hashes(made.indices, made.data, made.indptr))
        writer.finish(pd.DataFrame({"malignancy": np.zeros(200, np.int8)}))


def write_log(path: Path) -> None:
    path.mkdir(exist_ok=True)
    with RunLog(path) as log:
        for step in range(500):
            log.note(step, "a message " * 5)


def draw(path: Path) -> None:
    figure = Figure()
    axes = figure.add_subplot()
    axes.scatter(*np.random.default_rng(0).normal(size=(2, 2_000)))
    finish(axes, shown=False, save=path.with_suffix(".png"))


def write_page(path: Path) -> None:
    with files.atomic_file(path) as temporary:
        temporary.write_text("<p>" * 20_000, encoding="utf-8")


READ_AGAIN: dict[str, tuple[Write, Read]] = {
    "model": (write_model, read_model),
    "classifier": (write_classifier, read_classifier),
    "checkpoint": (write_checkpoint, read_checkpoint),
    "vectors": (write_vectors, read_vectors),
    "store": (write_store, read_store),
}
"""What is read again and computed with: how it is written, and what is read."""

WRITERS: dict[str, Write] = {
    "h5ad": write_cells,
    "packed h5ad": lambda path: write_h5ad(cells(200), path, compression="gzip"),
    "model": write_model,
    "classifier": write_classifier,
    "checkpoint": write_checkpoint,
    "gene vectors": write_vectors,
    "vocabulary": lambda path: _HUMAN.save(path),
    "shard": write_shard,
    "log": write_log,
    "csv": lambda path: files.write_csv(pd.DataFrame({"gene": [f"gene {i}" for i in range(9_000)]}), path),
    "json": lambda path: files.write_json(path, ["x"] * 9_000),
    "page": write_page,
    "figure": draw,
}
"""Everything that writes."""

REWRITTEN: dict[str, tuple[Write, Read]] = {
    "model": READ_AGAIN["model"],
    "checkpoint": READ_AGAIN["checkpoint"],
    "vectors": READ_AGAIN["vectors"],
    "cells": (write_cells, read_cells),
    "shard": (write_shard, lambda path: np.load(path / "counts.npy").tolist()),
}
"""What is written over again and again while the process is killed."""
