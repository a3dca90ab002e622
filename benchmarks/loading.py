"""Loading speed: our store in true random order, against AnnLoader and scDataset on an h5ad of the same cells.

    python -m benchmarks.loading --store STORE [--data DIR] [--work DIR]
    python -m benchmarks.loading --quick

STORE is the output of ``python -m benchmarks.large_store --data DIR --out STORE`` (2 million cells). A missing store is
made first; ``--quick`` alone makes a small one and removes it. All loaders give the same tokens, by our tokeniser, and
are measured in CPU time of the whole process, warm, in interleaved rounds; medians. AnnLoader is measured with its
defaults (dense tensors) and with sparse matrices, scDataset with its recommended blocks of 16 cells and 16,384 cells
per fetch, and in true random order as ours.

Figures: ``tokens_cells_per_cpu_s`` (cells tokenised per CPU-second, true random from the whole store), ``ratio_...``
(ours over the peer's, on the same cells), ``anon_mb`` and ``fds`` (anonymous memory and file descriptors of a process
that loads, after hundreds of batches; ``anon_growth_mb`` and ``fds_growth`` within the last half of them),
``prepare_cells_per_s``, ``prepare_peak_mb`` and ``disk_gb_per_million`` (``cell-lm prepare`` on the h5ad of the peers).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import torch
from scipy import sparse

from benchmarks.large_store import QUICK, make_store
from benchmarks.options import data_if_given, need_packages, parser, run
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import resolve_config
from cell_lm.data import ConcatCells, EpochSampler, Tokeniser
from cell_lm.data.backed import ReadCells
from cell_lm.data.store import Shard, Store
from cell_lm.errors import ConfigError
from cell_lm.pretraining.batches import Batches

BATCH, PEER_CELLS, BLOCK, FETCH = 256, 131_072, 16, 16_384
TOKENISE = Tokeniser(6, 4096)
ALONE = SimpleNamespace(rank=0, size=1, device=torch.device("cpu"))
Loader = Callable[[], Iterator[int]]


def memory() -> tuple[float, int]:
    """Return the anonymous memory of this process in MB, and its file descriptors."""
    status = Path("/proc/self/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(anonymous.split()[1]) / 1024, len(list(Path("/proc/self/fd").iterdir()))


def store_batches(store: Store, steps: int) -> Iterator[int]:
    """Yield the cells of each batch of a pretraining, made ahead in its thread."""
    config = resolve_config("small", overrides={"training": {"batch_size": BATCH, "steps": steps, "validation": 0.0}})
    batches = Batches([store], config, ALONE)  # type: ignore[arg-type]
    with batches.prefetch(0):
        for step in range(steps):
            yield len(batches.train(step))


def shard_batches(shards: list[Shard]) -> Iterator[int]:
    pool = ConcatCells(shards, TOKENISE)
    sampler, step = EpochSampler(len(pool), BATCH, seed=0), 0
    while True:
        yield len(pool.tokenise(sampler.batch(step)))
        step += 1


def _tokenised(X: sparse.csr_matrix, shard: Shard) -> int:
    cells = ReadCells("h5ad", shard.vocabulary, np.zeros(X.shape[0], np.int8), X)
    return len(TOKENISE(cells, np.arange(X.shape[0])))


def annloader_batches(adata: ad.AnnData, shard: Shard, *, dense: bool) -> Iterator[int]:
    from anndata.experimental import AnnLoader

    while True:
        for batch in AnnLoader([adata], batch_size=BATCH, shuffle=True, use_default_converter=dense):
            yield _tokenised(sparse.csr_matrix(batch.X.numpy() if dense else batch.X), shard)


def scdataset_batches(adata: ad.AnnData, shard: Shard, block: int) -> Iterator[int]:
    from scdataset import BlockShuffling, scDataset

    loader = scDataset(
        adata,
        BlockShuffling(block_size=block),
        batch_size=BATCH,
        fetch_factor=FETCH // BATCH,
        fetch_transform=lambda fetched: sparse.csr_matrix(fetched.to_memory().X),
        seed=0,
    )
    while True:
        for X in loader:
            yield _tokenised(X, shard)


def per_cpu_second(batches: Iterator[int], cells: int) -> float:
    """Return cells per CPU-second over at least so many cells."""
    began, done = time.process_time(), 0
    while done < cells:
        done += next(batches)
    return done / (time.process_time() - began)


def write_h5ad(shards: list[Shard], path: Path) -> None:
    """Write the cells of shards as anndata does by default."""
    matrices = [
        sparse.csr_matrix(
            (np.asarray(s.X.data, np.float32), s.X.indices.astype(np.int32), s.X.indptr),
            shape=(len(s), len(s.vocabulary)),
        )
        for s in shards
    ]
    adata = ad.AnnData(sparse.vstack(matrices, format="csr"))
    adata.var_names = list(shards[0].vocabulary.symbols)
    adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
    adata.write_h5ad(path)


def compare(store: Store, work: Path, rounds: int) -> dict[str, float]:
    """Measure ours and the peers on the same cells, round by round."""
    shards = list(store.shards[: max(1, round(PEER_CELLS / len(store.shards[0])))])
    path = work / "peers.h5ad"
    if not path.exists():
        write_h5ad(shards, path)
    adata = ad.read_h5ad(path, backed="r")
    one = shards[0]
    loaders = {
        "ours, true random": (shard_batches(shards), 200 * BATCH),
        "AnnLoader as it comes (dense)": (annloader_batches(adata, one, dense=True), 4 * BATCH),
        "AnnLoader, sparse": (annloader_batches(adata, one, dense=False), 8 * BATCH),
        f"scDataset, blocks of {BLOCK}": (scdataset_batches(adata, one, BLOCK), FETCH),
        "scDataset, true random": (scdataset_batches(adata, one, 1), FETCH),
    }
    for batches, cells in loaders.values():
        per_cpu_second(batches, cells)  # compiled, and warm
    speeds = {name: [] for name in loaders}
    for _ in range(rounds):
        for name, (batches, cells) in loaders.items():
            speeds[name].append(per_cpu_second(batches, cells))
    middle = {name: median(values) for name, values in speeds.items()}
    print(f"\n{adata.n_obs:,} cells, cells per CPU-second (median of {rounds} rounds)")
    ours, *peers = middle.values()
    for name, speed in middle.items():
        print(f"  {name:30} {speed:12,.0f}   ours x {ours / speed:.1f}")
    keys = ("ratio_annloader", "ratio_annloader_sparse", "ratio_scdataset_h5ad", "ratio_scdataset_h5ad_random")
    ratios = {key: round(ours / speed, 1) for key, speed in zip(keys, peers, strict=True)}
    return {"subset_cells_per_cpu_s": round(ours), **ratios}


def whole(store: Store, rounds: int) -> dict[str, float]:
    """Measure true random order over the whole store, and the memory of the process."""
    steps = 400 if len(store) > QUICK else 40
    batches = store_batches(store, steps * (rounds + 1) + 1)
    per_cpu_second(batches, steps * BATCH)
    before = memory()
    speeds = [per_cpu_second(batches, steps * BATCH) for _ in range(rounds)]
    after = memory()
    print(
        f"\n{len(store):,} cells, true random: {median(speeds):,.0f} cells per CPU-second, {after[0]:.0f} MB anonymous"
    )
    return {
        "tokens_cells_per_cpu_s": round(median(speeds)),
        "anon_mb": round(after[0]),
        "anon_growth_mb": round(after[0] - before[0], 1),
        "fds": after[1],
        "fds_growth": after[1] - before[1],
    }


def child(what: str, store: Path, *more: str) -> dict[str, Any]:
    """Run a part in a process of its own; its last line is its result."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.loading", "--part", what, "--store", str(store), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    *said, last = done.stdout.strip().splitlines()
    print("\n".join(said), flush=True)
    result: dict[str, Any] = json.loads(last)
    return result


def prepare(path: Path, work: Path) -> dict[str, float]:
    """Make a store of an h5ad by the command line, in a process of its own."""
    out, cells = work / "prepared", ad.read_h5ad(path, backed="r").n_obs
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "cell_lm", "prepare", str(path), "--out", str(out), "--quiet"], check=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    size = Store.open(out).size
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"\ncell-lm prepare: {cells / seconds:,.0f} cells/s, {cells / cpu:,.0f} per CPU-second, "
        f"peak {after.ru_maxrss / 1024:.0f} MB"
    )
    return {
        "prepare_cells_per_s": round(cells / seconds),
        "prepare_cells_per_cpu_s": round(cells / cpu),
        "prepare_peak_mb": round(after.ru_maxrss / 1024),
        "disk_gb_per_million": round(size / cells / 1e3, 2),
    }


def hashing(path: Path, work: Path) -> dict[str, float]:
    """Hash all files of a store, as happens once before it is used, with nothing remembered from earlier."""
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    store, began, cpu = Store.open(path), time.perf_counter(), time.process_time()
    store.refuse_damaged()
    rate = store.size / (time.perf_counter() - began) / 1e9
    per_cpu = store.size / (time.process_time() - cpu) / 1e9
    print(f"\nhashing the store: {rate:.2f} GB/s, {per_cpu:.2f} GB per CPU-second")
    return {"hash_gb_per_s": round(rate, 2), "hash_gb_per_cpu_s": round(per_cpu, 2)}


def main() -> None:
    arguments = parser(__doc__, quick=f"a store of {QUICK:,} cells, where none is given; one round")
    arguments.add_argument("--store", type=Path)
    arguments.add_argument("--work", type=Path, help="where the cells of the peers are written, and removed again")
    arguments.add_argument("--part", choices=["whole", "compare"], help=argparse.SUPPRESS)
    options = arguments.parse_args()
    data = data_if_given(options.data)
    if options.store is None and not options.quick:
        raise ConfigError("no store was given", fix="Give --store, or run with --quick alone")
    need_packages({"scdataset": "scdataset"})
    rounds = 1 if options.quick else 7
    keep_large_blocks()
    torch.set_num_threads(1)
    if options.part:
        store = Store.open(options.store, verify=False)
        result = whole(store, rounds) if options.part == "whole" else compare(store, options.work, rounds)
        print(json.dumps(result))
        return
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        work = Path(scratch)
        path = options.store or work / "store"
        if not path.exists():
            make_store(data, path, QUICK if options.quick else 2_000_000)
        measure(path, work, ["--quick"] if options.quick else [])


def measure(store: Path, work: Path, quick: list[str]) -> None:
    figures = child("whole", store, *quick)
    figures |= child("compare", store, "--work", str(work), *quick)
    figures |= prepare(work / "peers.h5ad", work)
    figures |= hashing(store, work)
    print("annbatch needs Python >= 3.12: not measured")
    print(json.dumps({"cells": len(Store.open(store)), **figures}))


if __name__ == "__main__":
    run(main)
