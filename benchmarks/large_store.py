"""A store of millions of cells in minutes: real cells, each drawn many times with new thinning, so that none are equal.

    python -m benchmarks.large_store --data DIR --out STORE [--cells 2000000]
    python -m benchmarks.large_store --quick

Every cell is a real one of ``DIR/cells`` (without ``--data``: of the packaged cells) whose counts were thinned: each
molecule is kept with one probability per cell, drawn from 0.3 to 0.95, which leaves some 1,070 genes per cell; genes,
correlations and the spread of counts stay real. Prints cells, genes per cell and size, and ends with one line of JSON.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np
import pandas as pd
from anndata import read_h5ad
from scipy import sparse

from benchmarks.options import data_if_given, parser, run
from cell_lm.data import CellData, MalignancyColumn, from_anndata, read_cells
from cell_lm.data.demo import demo_cells
from cell_lm.data.store import Manifest, ShardWriter, SourceRecord, row_hashes
from cell_lm.data.store.layout import SHARDS, VOCABULARY
from cell_lm.data.store.manifest import CellsRecord, GenesRecord, VocabularyRecord
from cell_lm.data.store.writer import record
from cell_lm.errors import ConfigError, InputError
from cell_lm.files import sha256 as file_hash
from cell_lm.genes import Vocabulary

SHARD, CHUNK, LEAST_GENES = 65_536, 8_192, 200
QUICK = 20_000
KEPT = (0.3, 0.95)
MALIGNANCY = MalignancyColumn("malignant", {"putative": "tumour"})


@numba.njit(cache=True, nogil=True)
def _thin(data, indices, indptr, rows, kept, rng, genes, counts, lengths):
    """Keep each molecule of each row with the row's probability; return the entries written."""
    at = 0
    for r in range(rows.size):
        start = at
        for k in range(indptr[rows[r]], indptr[rows[r] + 1]):
            n, left = int(data[k]), 0
            if n > 24:
                left = rng.binomial(n, kept[r])
            else:
                for _ in range(n):
                    left += rng.random() < kept[r]
            if left:
                genes[at], counts[at] = indices[k], left
                at += 1
        if at - start < LEAST_GENES:
            at = start
        lengths[r] = at - start
    return at


def real_cells(folder: Path | None) -> list[CellData]:
    """Read every file of counts, with the malignancy that it tells; without a folder the packaged cells."""
    if folder is None:
        return [from_anndata(one, name=name, malignancy=MALIGNANCY) for name, one in demo_cells().items()]
    cells = []
    for path in sorted((folder / "cells").glob("*.h5ad")):
        if "tirosh" not in path.name:  # RSEM, no counts
            column = MALIGNANCY if read_h5ad(path, backed="r").obs["malignant"].notna().any() else None
            cells.append(read_cells(path, malignancy=column, min_genes=LEAST_GENES))
    return cells


class Thinned:
    """Cells without end: block after block of real cells, thinned."""

    def __init__(self, cells: list[CellData], seed: int) -> None:
        self.X = sparse.vstack([one.X for one in cells], format="csr")
        self.malignancy = np.concatenate([one.malignancy for one in cells])
        self.tissue = np.concatenate([one.obs["tissue"].astype(str).to_numpy(object) for one in cells])
        self.donor = np.concatenate([one.name + ":" + one.obs["donor"].astype(str).to_numpy(object) for one in cells])
        self.source = np.repeat(np.arange(len(cells)), [len(one) for one in cells])
        self.rng = np.random.default_rng(seed)

    def block(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return genes, counts, lengths and the real cell of each."""
        rows = self.rng.integers(0, self.X.shape[0], CHUNK)
        most = int(np.diff(self.X.indptr)[rows].sum())
        genes, counts, lengths = np.empty(most, np.uint16), np.empty(most, np.int32), np.empty(CHUNK, np.int64)
        kept = self.rng.uniform(*KEPT, CHUNK)
        used = _thin(self.X.data, self.X.indices, self.X.indptr, rows, kept, self.rng, genes, counts, lengths)
        full = lengths > 0
        return genes[:used], counts[:used], lengths[full], rows[full]


def blocks(thinned: Thinned, cells: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield blocks for shards of bytes and of 16 bits, as many cells as asked for."""
    left = cells
    while left:
        genes, counts, lengths, rows = thinned.block()
        ends = np.cumsum(lengths)
        wide = np.maximum.reduceat(counts, ends - lengths) > 255
        of = np.repeat(np.arange(len(lengths)), lengths)
        for kind, mine in (("uint8", ~wide), ("uint16", wide)):
            mine = np.flatnonzero(mine)[:left]
            entries = np.isin(of, mine)
            left -= len(mine)
            if len(mine):
                yield kind, genes[entries], counts[entries], lengths[mine], rows[mine]


def write(thinned: Thinned, out: Path, cells: int) -> Manifest:
    """Write the store."""
    open_: dict[str, tuple[str, ShardWriter, list[np.ndarray]]] = {}
    records, malignancies = [], np.zeros(3, np.int64)

    def finish(kind: str) -> None:
        name, writer, rows = open_.pop(kind)
        real = np.concatenate(rows)
        about = {
            "malignancy": thinned.malignancy[real],
            "source": np.int32(0),
            "row": np.arange(len(real)),
        }
        labels = {"barcode": [f"{name}-{n}" for n in range(len(real))], "tissue": thinned.tissue[real]}
        writer.finish(pd.DataFrame(about | labels | {"donor": thinned.donor[real]}))
        records.append(record(out / SHARDS / name, name, kind))
        malignancies[:] += np.bincount(thinned.malignancy[real].astype(int) + 1, minlength=3)

    for number, (kind, genes, counts, lengths, rows) in enumerate(blocks(thinned, cells)):
        if kind not in open_:
            name = f"{len(records) + len(open_):05d}"
            (out / SHARDS / name).mkdir(parents=True)
            open_[kind] = name, ShardWriter(out / SHARDS / name, kind), []
        name, writer, drawn = open_[kind]
        writer.add(genes, counts, lengths, row_hashes(genes, counts, np.concatenate([[0], np.cumsum(lengths)])))
        drawn.append(rows)
        if len(writer) >= SHARD:
            finish(kind)
        if number % 32 == 0:
            print(f"{sum(r.cells for r in records) + sum(len(w) for _, w, _ in open_.values()):,} cells", flush=True)
    for kind in list(open_):
        finish(kind)
    return _manifest(out, sorted(records, key=lambda one: one.name), malignancies)


def _manifest(out: Path, records: list, malignancies: np.ndarray) -> Manifest:
    vocabulary = Vocabulary.human()
    vocabulary.save(out / VOCABULARY)
    path, cells = out / VOCABULARY, sum(one.cells for one in records)
    described = {"unknown": int(malignancies[0]), "normal": int(malignancies[1]), "tumour": int(malignancies[2])}
    genes = GenesRecord(given=len(vocabulary), found=len(vocabulary), counts={}, listed={}, mitochondrial=0)
    kept = CellsRecord(given=cells, few_genes=0, mitochondrial=0, duplicates=0, kept=cells, malignancy_counts=described)
    source = SourceRecord(
        name="resampled", path="resampled", size=0, sha256=sha256(b"resampled").hexdigest(), files={}, place="X",
        evidence="thinned counts", settings={"input": "counts"}, genes=genes, cells=kept,
    )  # fmt: skip
    about = VocabularyRecord(
        size=path.stat().st_size, sha256=file_hash(path), hash=vocabulary.hash, genes=len(vocabulary)
    )
    manifest = Manifest(
        vocabulary=about, settings={"resampled": True}, cells=cells, tokens=sum(one.tokens for one in records),
        genes_in_any=len(vocabulary), genes_in_all=len(vocabulary), sources=[source], duplicates=[], shards=records,
    )  # fmt: skip
    manifest.write(out)
    return manifest


def make_store(data: Path | None, out: Path, cells: int, seed: int = 0) -> Path:
    """Write a store of so many cells, say how large it is, and return where it is."""
    if out.exists():
        raise InputError("there is something already", where=str(out), fix="Give --out a new folder")
    began = time.perf_counter()
    manifest = write(Thinned(real_cells(data), seed), out, cells)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    genes = manifest.tokens / manifest.cells
    seconds = time.perf_counter() - began
    print(f"{manifest.cells:,} cells, {genes:,.0f} genes a cell, {size / 1e9:.2f} GB in {seconds:.0f} s")
    print(json.dumps({"cells": manifest.cells, "genes_per_cell": round(genes), "gb": round(size / 1e9, 2)}), flush=True)
    return out


def main() -> None:
    arguments = parser(__doc__, quick=f"{QUICK:,} cells, into a folder that is removed where --out is not given")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--cells", type=int, default=2_000_000)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    data = data_if_given(options.data)
    if options.out is None and not options.quick:
        raise ConfigError("there is no folder to write the store to", fix="Give --out, or run with --quick alone")
    with tempfile.TemporaryDirectory() as scratch:
        out = options.out or Path(scratch) / "store"
        make_store(data, out, QUICK if options.quick else options.cells, options.seed)


if __name__ == "__main__":
    run(main)
