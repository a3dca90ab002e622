"""Divide and conquer against one end-to-end graph, GradCache and sentence-transformers' cached loss.

    python -m benchmarks.divide_and_conquer [--data DIR] [--cells 256] [--rounds 3] [--quick]
    python -m benchmarks.divide_and_conquer --large 65536 --memory 8GB [--data DIR]

Preset ``small`` on real cells (those of DIR, or the packaged ones). The methods alternate round by round in one
process; ratios are ours over theirs, of the medians of CPU seconds. Peaks are measured in new processes, as the growth
of the peak resident size over the step, and as that size itself. :mod:`benchmarks.parts.peers` calls the other methods.
Ends with one line of JSON:

``grad_rel_err_f64``, ``grad_rel_err_f32``
    Largest relative error of the gradient against the end-to-end one over the three encoders and chunks of 1, 5, 8, all
    cells, dropout on, two ranks aside (``pytest tests/distributed``).
``time_ratio_e2e``, ``time_ratio_e2e_half_kept``
    A step of all three objectives with no graph kept, and with those of half the chunks.
``time_ratio_gradcache``, ``time_ratio_sentence_transformers``
    The same step, nothing kept. Their engines compute only the contrastive loss, so masked LM and discrimination need
    separate passes. ``..._contrastive`` is the contrastive loss alone on both sides, nothing kept;
    ``..._contrastive_half_kept`` with half the graphs kept, which theirs do not support.
``mlm_ratio_separate``
    The three objectives in one replay over contrastive replay plus separate passes, both ours.
``peak_ratio_e2e``, ``peak_4096_over_64``, ``peak_process_4096_over_64``
    Growth over a step against end-to-end at ``--cells``; batch 4,096 over batch 64 at one token budget, by growth, and
    by the size of the whole process.
``nce_time_ratio``, ``nce_mem_ratio``
    Tiles over the full softmax of 8,192 views, loss and gradient; memory is that of the tensors.
    ``nce_time_ratio_same_product`` is against a full softmax with the same matrix product as ours
    (:mod:`cell_lm.nn.linear`) instead of PyTorch's.
``allreduces_per_step``
    All-reduces as large as the gradient, of two ranks.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from benchmarks.options import data_if_given, need_packages, parser, run
from benchmarks.parts.peers import (
    PACKAGES,
    SEED,
    STEP,
    GradCachePeer,
    SentenceTransformersPeer,
    end_to_end,
    local_losses,
    nt_xent,
)
from benchmarks.parts.pretraining_cells import ALL_MASKED
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import PRESETS, EncoderConfig, ObjectivesConfig
from cell_lm.data import CellBatch, CellData, ConcatCells, MalignancyColumn, Tokeniser, from_anndata, read_cells
from cell_lm.data.demo import demo_cells
from cell_lm.model import CellLM
from cell_lm.nn.linear import linear
from cell_lm.objectives.contrastive import info_nce
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from cell_lm.pretraining.footprint import TensorMemory

BUDGET = 65_536
PAPER = {"linear_path": False, "attended_genes": 4096, "max_genes": 4096, "latents": 32}
"""The paper's encoder reads all genes by attention; its three objectives compare views by the genes that they read."""
SMALL = PRESETS["small"].model_copy(update=PAPER)
VIEWS = {"thinning": False, "gene_fraction": 0.5, "temperature": 0.05}
THREE = {"contrastive": VIEWS, "reconstruction": {"weight": 0.0}, "masked": {"most": ALL_MASKED}}
OBJECTIVES = ObjectivesConfig.model_validate(THREE)
CONTRASTIVE = ObjectivesConfig.model_validate(THREE | {"masked": {"weight": 0.0}, "discrimination": {"weight": 0.0}})
KINDS = ("full", "latent", "performer")
FILES = (
    "baron_human",
    "qian2020_ovarian",
    "pbmc_frozen_donorA",
    "malt_lymphoma",
    "zheng_facs10",
    "pbmc3k",
    "kang_pbmc",
    "pc9_erlotinib",
)


def read(data: Path | None) -> list[CellData]:
    column = MalignancyColumn("malignant", {"putative": "tumour"})
    if data is None:
        return [from_anndata(adata, malignancy=column) for adata in demo_cells().values()]
    return [read_cells(data / "cells" / f"{name}.h5ad", malignancy=column, min_genes=200) for name in FILES]


def draw(datasets: Sequence[CellData], cells: int, seed: int = 0) -> CellBatch:
    """Return so many of the cells; where there are not enough, thinned copies of them, no two of them alike."""
    rng, there = np.random.default_rng(seed), sum(map(len, datasets))
    copies = [thin(each, rng) for _ in range(1, -(-cells // there)) for each in datasets]
    pool = ConcatCells([*datasets, *copies], Tokeniser(SMALL.bins, SMALL.max_genes))
    return pool.tokenise(rng.permutation(len(pool))[:cells])


def thin(cells: CellData, rng: np.random.Generator) -> CellData:
    """Keep each molecule with probability .8, as if the cells had been sequenced once more, less deeply."""
    X = cells.X.copy()
    X.data = rng.binomial(X.data.astype(np.int64), 0.8).astype(np.float32)
    X.eliminate_zeros()
    return replace(cells, X=X)


def gradient(model: CellLM) -> Tensor:
    parts = [torch.zeros(p.numel(), dtype=p.dtype) if p.grad is None else p.grad.flatten() for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return torch.cat(parts)


# --- exactness ---


def gradient_errors(datasets: Sequence[CellData]) -> dict[str, float]:
    shape = {"width": 32, "layers": 2, "heads": 2, "head_width": 16, "feedforward": 64, "gene_width": 24}
    batch, errors = draw(datasets, 16), {}
    for dtype, name in ((torch.float64, "grad_rel_err_f64"), (torch.float32, "grad_rel_err_f32")):
        found = []
        for kind in KINDS:
            config = EncoderConfig.model_validate(PAPER | shape | {"attention": kind, "latents": 8, "features": 24})
            model = CellLM(config, datasets[0].vocabulary, OBJECTIVES, seed=1).to(dtype)
            with torch.no_grad():
                for parameter in model.parameters():  # some start at zero, and would hide much
                    parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
            end_to_end(model, batch)
            expected = gradient(model)
            for cells in (1, 5, 8, len(batch)):
                budget = 1 if cells == 1 else 2 * int(batch.lengths.mean() * cells)
                engine(model, budget if cells < len(batch) else 10**9).step(batch, STEP)
                found.append(float((gradient(model) - expected).norm() / expected.norm()))
        errors[name] = max(found)
    return errors


def engine(model: CellLM, budget: int = BUDGET, keep: int = 0) -> DivideAndConquer:
    return DivideAndConquer(model, model.objectives, seed=SEED, token_budget=budget, keep=keep)


# --- time ---


def seconds(paths: dict[str, Callable[[], object]], rounds: int, clean: Callable[[], object]) -> dict[str, float]:
    """Return the median CPU seconds of each path, the paths in turn."""
    taken: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(rounds + 1):
        for name, path in paths.items():
            began = time.process_time()
            path()
            if turn:  # the first one warms up
                taken[name].append(time.process_time() - began)
            clean()
    return {name: median(values) for name, values in taken.items()}


def step_times(datasets: Sequence[CellData], cells: int, rounds: int) -> dict[str, float]:
    batch = draw(datasets, cells)
    model = CellLM(SMALL, datasets[0].vocabulary, OBJECTIVES, seed=1)
    alone = CellLM(SMALL, datasets[0].vocabulary, CONTRASTIVE, seed=1)
    chunks = len(list(batch.chunks(BUDGET // 2)))
    a_chunk = 2 * -(-cells // chunks)  # of one view: as many tokens as our chunk of two
    gradcache, transformers = GradCachePeer(alone, batch, a_chunk), SentenceTransformersPeer(alone, batch, a_chunk)
    paths = {
        "end to end": lambda: end_to_end(model, batch),
        "ours": lambda: engine(model).step(batch, STEP),
        "ours, half kept": lambda: engine(model, keep=chunks // 2).step(batch, STEP),
        "masked LM + discrimination alone": lambda: local_losses(model, batch, BUDGET),
        "contrastive alone: ours": lambda: engine(alone).step(batch, STEP),
        "contrastive alone: ours, half kept": lambda: engine(alone, keep=chunks // 2).step(batch, STEP),
        "contrastive alone: gradcache": gradcache.step,
        "contrastive alone: sentence-transformers": transformers.step,
    }
    gradcache.step()
    theirs = gradient(alone)
    engine(alone).step(batch, STEP)
    ours = gradient(alone)
    assert float((theirs - ours).norm() / ours.norm()) < 1e-5, "GradCache computes the same gradient"
    taken = seconds(paths, rounds, lambda: (model.zero_grad(), alone.zero_grad()))
    for name, value in taken.items():
        print(f"{name:45s} {value:7.2f} CPU s a step of {cells} cells in {chunks} chunks", flush=True)
    local = taken["masked LM + discrimination alone"]
    ratios = {
        "time_ratio_e2e": taken["ours"] / taken["end to end"],
        "time_ratio_e2e_half_kept": taken["ours, half kept"] / taken["end to end"],
        "mlm_ratio_separate": taken["ours"] / (taken["contrastive alone: ours"] + local),
    }
    for name, key in (("gradcache", "gradcache"), ("sentence-transformers", "sentence_transformers")):
        theirs = taken[f"contrastive alone: {name}"]
        ratios[f"time_ratio_{key}"] = taken["ours"] / (theirs + local)
        ratios[f"time_ratio_{key}_contrastive"] = taken["contrastive alone: ours"] / theirs
        ratios[f"time_ratio_{key}_contrastive_half_kept"] = taken["contrastive alone: ours, half kept"] / theirs
    return ratios


def contrastive_ratios(rounds: int, views: int = 8192, width: int = 128) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    first, second = (F.normalize(torch.randn(views // 2, width, generator=generator), dim=1) for _ in range(2))

    def full(product: Callable[[Tensor, Tensor], Tensor] = F.linear) -> None:
        leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
        nt_xent(*leaves, 0.05, product).backward()

    def tiles() -> None:
        info_nce(first, second, 0.05)

    fast = partial(full, partial(linear, bias=None))
    taken = seconds({"full": full, "full, our product": fast, "tiles": tiles}, max(3, rounds), lambda: None)
    peaks = []
    for path in (tiles, full):
        with TensorMemory() as memory:
            path()
        peaks.append(memory.peak)
    for name, value in taken.items():
        print(f"contrastive loss of {views} views, {name}: {value:.3f} CPU s", flush=True)
    return {
        "nce_time_ratio": taken["tiles"] / taken["full"],
        "nce_time_ratio_same_product": taken["tiles"] / taken["full, our product"],
        "nce_mem_ratio": peaks[0] / peaks[1],
    }


# --- memory ---


def resident() -> int:
    """Return the largest resident size of this process so far (or since it was made to begin anew), in bytes."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def peak_of(path: str, cells: int, data: Path | None) -> None:
    """Print growth and size at the peak of one step; runs in a process of its own."""
    batch, vocabulary = draw(read(data), cells), read(None)[0].vocabulary
    model = CellLM(SMALL, vocabulary, OBJECTIVES, seed=1)
    engine(model, 2000).step(batch[:4], STEP)  # compiles, and makes the gradients
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = resident()
    _ = end_to_end(model, batch) if path == "end to end" else engine(model).step(batch, STEP)
    print(json.dumps([resident() - before, resident()]))


def child(call: str) -> Any:
    # the larger of parent's and child's sizes is what a forked child reports, so this process must be small
    code = f"from pathlib import Path\nfrom benchmarks.divide_and_conquer import *\nkeep_large_blocks()\n{call}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peaks(cells: int, large: int, data: Path | None) -> dict[str, float]:
    where = f"Path({str(data)!r})" if data is not None else "None"
    ours, whole = (child(f"peak_of({path!r}, {cells}, {where})")[0] for path in ("ours", "end to end"))
    few, many = (child(f"peak_of('ours', {n}, {where})") for n in (64, large))
    print(f"peak at {cells} cells: end to end {whole / 1e6:.0f} MB, ours {ours / 1e6:.0f} MB", flush=True)
    print(f"peak of batch 64 {few[0] / 1e6:.0f} MB, of {large} {many[0] / 1e6:.0f} MB", flush=True)
    return {
        "peak_ratio_e2e": ours / whole,
        f"peak_{large}_over_64": many[0] / few[0],
        f"peak_process_{large}_over_64": many[1] / few[1],
    }


# --- ranks ---


def count_allreduces() -> int:
    """Return how many all-reduces of the size of the gradient two ranks make in a step."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, args=(folder,), nprocs=2)
        counted = {int(path.read_text()) for path in Path(folder).glob("counted-*")}
    assert len(counted) == 1, counted
    return counted.pop()


def _rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    datasets = read(None)
    small = EncoderConfig.model_validate(PAPER | {"width": 32, "gene_width": 32, "layers": 1})
    model = CellLM(small, datasets[0].vocabulary, OBJECTIVES, seed=1)
    batch, sizes, whole = draw(datasets, 12), [], dist.all_reduce

    def counting(tensor: Tensor, *args: Any, **settings: Any) -> Any:
        sizes.append(tensor.numel())
        return whole(tensor, *args, **settings)

    dist.all_reduce = counting
    engine(model, 8000).step(batch[slice(0, 4) if rank == 0 else slice(4, 12)], STEP)
    large = sum(size >= model.parameter_count() for size in sizes)
    (Path(folder) / f"counted-{rank}").write_text(str(large))
    dist.barrier()
    dist.destroy_process_group()


# --- a batch that no peer can do here ---


def large_step(cells: int, memory: int, data: Path | None) -> None:
    """Do one step on so many cells in the memory named, as ``cell-lm pretrain`` cuts it, and print what it took."""
    from cell_lm.pretraining.budget import Work, find_budget, held_memory
    from cell_lm.pretraining.footprint import measure

    datasets = read(data)
    batch, there = draw(datasets, cells), sum(map(len, datasets))
    del datasets
    model = CellLM(SMALL, read(None)[0].vocabulary, OBJECTIVES, seed=1)
    held = held_memory(torch.device("cpu"))
    cost = measure(model, model.objectives, batch[:64])
    width = model.no_projection().shape[1]
    work = Work(cells, batch.tokens, int(batch.lengths.max()), cells, width, 2, held + 4 * model.parameter_count())
    budget = find_budget(cost, work, memory, "cpu")
    print(f"{cells:,} cells, {batch.tokens:,} genes: {budget}", flush=True)
    began, used = time.perf_counter(), time.process_time()
    losses = engine(model, budget.token_budget, budget.retain_graphs).step(batch, STEP)
    took, used = time.perf_counter() - began, time.process_time() - used
    figures = {
        "cells": cells,
        "distinct_real_cells": min(cells, there),
        "views": 2 * cells,
        "seconds": round(took, 1),
        "cpu_seconds": round(used, 1),
        "predicted_seconds": round(budget.predicted_seconds, 1),
        "peak_gb": round(resident() / 1e9, 2),
        "predicted_gb": round(budget.predicted_bytes / 1e9, 2),
        "limit_gb": round(memory / 1e9, 2),
        "chunks": budget.chunks,
        "kept": budget.retain_graphs,
        "contrastive_loss": round(losses.contrastive, 4),
        "full_softmax_would_take_gb": round((2 * cells) ** 2 * 4 / 1e9, 1),
    }
    print(json.dumps(figures))


def main() -> None:
    arguments = parser(__doc__, quick="64 cells, one round, batch 512 over 64")
    arguments.add_argument("--cells", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--large", type=int, help="only this: one step on so many cells")
    arguments.add_argument("--memory", default="8GB", help="with --large: what the process may take")
    options = arguments.parse_args()
    data = data_if_given(options.data, [f"cells/{name}.h5ad" for name in FILES])
    keep_large_blocks()
    if options.large:
        from pydantic import ByteSize, TypeAdapter

        large_step(options.large, TypeAdapter(ByteSize).validate_python(options.memory), data)
        return
    need_packages(PACKAGES)
    cells, rounds, large = (64, 1, 512) if options.quick else (options.cells, options.rounds, 4096)
    figures: dict[str, float] = peaks(cells, large, data)
    figures |= contrastive_ratios(rounds)
    figures["allreduces_per_step"] = count_allreduces()
    datasets = read(data)
    figures |= gradient_errors(datasets)
    figures |= step_times(datasets, cells, rounds)
    print(json.dumps({name: float(f"{value:.3g}") for name, value in sorted(figures.items())}))


if __name__ == "__main__":
    run(main)
