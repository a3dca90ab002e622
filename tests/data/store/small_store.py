"""A store written by hand: what a store is, without the program that makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from cell_lm.data.store import Manifest, ShardWriter, row_hashes
from cell_lm.data.store.layout import VOCABULARY
from cell_lm.data.store.manifest import FileRecord, VocabularyRecord
from cell_lm.data.store.writer import record
from cell_lm.files import sha256
from cell_lm.genes import Vocabulary

WORDS = Vocabulary(tuple(f"G{i}" for i in range(300)), ("",) * 300)


def draw(cells: int, genes: int = 300, seed: int = 0, largest: int | None = None) -> sparse.csr_matrix:
    """Counts, none of the cells empty; one of them is ``largest``."""
    rng = np.random.default_rng(seed)
    X = sparse.csr_matrix(rng.poisson(0.4, (cells, genes)).astype(np.float32))
    if largest is not None:
        X.data[len(X.data) // 2] = largest
    return X


def describe(cells: int, **columns: Any) -> pd.DataFrame:
    malignancy = np.arange(cells) % 3 - 1
    frame = pd.DataFrame({"malignancy": malignancy.astype(np.int8), "source": np.zeros(cells, np.int32)})
    frame["barcode"] = [f"cell{i}" for i in range(cells)]
    return frame.assign(**columns)


def write_store(path: Path, matrices: dict[str, sparse.csr_matrix], vocabulary: Vocabulary = WORDS) -> Path:
    """Write matrices as shards, by the type of their counts."""
    path.mkdir(parents=True)
    records = []
    for number, (kind, X) in enumerate(matrices.items()):
        folder = path / "shards" / f"{number:05d}"
        folder.mkdir(parents=True)
        with ShardWriter(folder, kind) as writer:
            for start in range(0, X.shape[0], 7):
                rows = X[start : start + 7]
                hashes = row_hashes(rows.indices, rows.data, rows.indptr)
                writer.add(rows.indices, rows.data, np.diff(rows.indptr), hashes)
            writer.finish(describe(X.shape[0]))
        records.append(record(folder, folder.name, kind))
    vocabulary.save(path / VOCABULARY)
    file = FileRecord(size=(path / VOCABULARY).stat().st_size, sha256=sha256(path / VOCABULARY))
    Manifest(
        vocabulary=VocabularyRecord(**file.model_dump(), hash=vocabulary.hash, genes=len(vocabulary)),
        settings={},
        cells=sum(shard.cells for shard in records),
        tokens=sum(shard.tokens for shard in records),
        genes_in_any=len(vocabulary),
        genes_in_all=len(vocabulary),
        sources=[],
        duplicates=[],
        shards=records,
    ).write(path)
    return path
