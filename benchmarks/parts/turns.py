"""Shared by the encoder benchmarks: random cells of the usual length, and measuring functions in alternation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import nn

from cell_lm.data import CellBatch
from cell_lm.genes import Vocabulary

GENES = len(Vocabulary.human())
MOST = 5999
Precisions = dict[str, torch.dtype | None]
PRECISIONS: Precisions = {"": None, "_bf16": torch.bfloat16}


def random_cells(cells: int, seed: int = 0) -> CellBatch:
    """Cells of lognormal(median 1,050, sigma 0.45) expressed genes, chosen and binned evenly."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.round(1050 * np.exp(0.45 * rng.standard_normal(cells))), 50, MOST).astype(np.int64)
    genes = np.concatenate([np.sort(rng.choice(GENES, n, replace=False)) for n in lengths])
    bins = torch.from_numpy(rng.integers(0, 6, len(genes)))
    malignancy = torch.from_numpy(rng.integers(0, 2, cells))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    depths = torch.full((cells,), 4000.0)
    return CellBatch(torch.from_numpy(genes), bins, bins.float(), offsets, malignancy, torch.arange(cells), depths)


@dataclass
class Cost:
    """Seconds a cell."""

    cpu: float
    wall: float


def cost(work: Callable[[], object], cells: int) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost((time.process_time() - cpu) / cells, (time.perf_counter() - wall) / cells)


def in_turn(works: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, Cost]:
    """Run each in turn, ``rounds`` times, and return the medians."""
    costs: dict[str, list[Cost]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            costs[name].append(cost(*work))
    return {name: Cost(median(c.cpu for c in found), median(c.wall for c in found)) for name, found in costs.items()}


@contextmanager
def precision(dtype: torch.dtype | None, device: str = "cpu") -> Iterator[None]:
    with nullcontext() if dtype is None else torch.autocast(device, dtype):
        yield


def our_forward(encoder: nn.Module, batch: CellBatch, dtype: torch.dtype | None) -> None:
    with torch.inference_mode(), precision(dtype):
        encoder(batch, hidden=None, counter=None, only_cls=True)
