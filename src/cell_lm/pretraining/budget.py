"""How a step is split: the largest useful chunks and as many kept graphs as fit into memory.

Chunks that already keep the device busy gain nothing from being larger; kept graphs do make a step faster, so they get
the rest of the memory. Neither changes a result by more than rounding.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from cell_lm.errors import ConfigError
from cell_lm.pretraining.footprint import Footprint

BUSY = {"cpu": 65_536, "cuda": 524_288}
"""Genes over both views (before subsampling) with which a chunk keeps a device busy: more gain nothing."""
SHARE = {"cpu": 0.5, "cuda": 0.9}
"""Fraction of the free memory to use by default: a laptop runs other programs, too."""
SLACK = {"cpu": 1.9, "cuda": 1.15}
"""Memory of a process in steady state, relative to its tensors: allocators round sizes and leave gaps.

Measured on the CPU (docs/decisions/0014); a guess on CUDA.
"""
_ROUND = 1024
_COPIES = 6
"""Matrices of the size of all embeddings that the contrastive loss holds at once."""


@dataclass(frozen=True)
class Work:
    """The work of a step on one rank, and the other memory of the process.

    Attributes
    ----------
    cells, genes : int
        Cells and genes in this rank's part of a batch; a gene counts once, not for each view.
    longest : int
        Most genes of one cell: a cell is never split.
    all_cells, width : int
        Cells of the batch over all ranks, and width of the embeddings that are compared.
    views : int
        Views of each cell.
    held : int
        Bytes that the process holds outside the chunks, from before the first step on: weights, their gradients
        and moments, data, batches.
    """

    cells: int
    genes: int
    longest: int
    all_cells: int
    width: int
    views: int
    held: int

    @property
    def fixed(self) -> int:
        """Bytes used outside the chunks, embeddings included."""
        embeddings = _COPIES * 4 * self.width * self.views * self.all_cells if self.views == 2 else 0
        return self.held + embeddings


@dataclass(frozen=True)
class Budget:
    """How a step is split, and its predicted cost."""

    token_budget: int
    """Most genes over all views in a chunk, before subsampling (``gene_fraction``)."""
    retain_graphs: int
    """Chunks whose graph is kept."""
    chunks: int
    """Approximate number of chunks of a step."""
    limit: int
    """Memory limit, bytes."""
    predicted_bytes: int
    """Predicted peak memory of the process, bytes."""
    held_bytes: int
    """The part of it outside the chunks and their graphs, bytes."""
    predicted_seconds: float
    """Seconds per step, for the two passes and the contrastive loss."""

    def __str__(self) -> str:
        cut = f"chunks of at most {self.token_budget:,} genes: {self.chunks:,} a step"
        kept = f"graphs kept: {min(self.retain_graphs, self.chunks):,}"
        return f"{cut}; {kept}; predicted: {gigabytes(self.predicted_bytes)}, {self.predicted_seconds:.2g} s a step"


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process could still use; on the CPU, processes of one machine share them."""
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    limit = _container_limit()
    return min(free, limit) // neighbours if limit is not None else free // neighbours


def _container_limit(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the least memory left under the limits of this process's control groups; None if there is no limit.

    Version 2 and 1 of Linux's control groups: containers, systemd and SLURM set such limits, on any level.
    """
    left = []
    for line in groups.read_text().splitlines() if groups.is_file() else []:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, names = root, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        inner = top / path.lstrip("/")
        folders = [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
        left += [found for folder in folders if (found := _left_of(folder, *names)) is not None]
    return min(left, default=None)


def _left_of(group: Path, most: str, used: str, prefix: str) -> int | None:
    """Return what is left of a group's limit; the page cache counts as free, since the kernel can drop it."""
    try:
        limit, taken = (group / most).read_text().strip(), int((group / used).read_text())
        if not limit.isdigit() or int(limit) >= 1 << 60:
            return None
        lines = (group / "memory.stat").read_text().splitlines() if (group / "memory.stat").is_file() else []
    except OSError:
        return None
    files = {f"{prefix}active_file", f"{prefix}inactive_file"}
    cached = sum(int(size) for name, size in (line.split() for line in lines) if name in files)
    return max(0, int(limit) - max(0, taken - cached))


def held_memory(device: torch.device) -> int:
    """Return the bytes that this process holds now: resident memory, or the memory of CUDA's allocator."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def memory_limit(device: torch.device, named: int | None) -> int:
    """Return the memory limit of the process in bytes: the user's, or a fraction of the free memory."""
    return named if named is not None else held_memory(device) + int(SHARE[device.type] * free_memory(device))


def find_budget(
    cost: Footprint, work: Work, limit: int, device: str, *, token_budget: int | None = None, keep: int | None = None
) -> Budget:
    """Split a step so that it fits, and predict its cost.

    Parameters
    ----------
    cost
        Measured on cells like those of the step.
    work
        The work of the step.
    limit
        Memory limit of the process, bytes.
    device
        ``cpu`` or ``cuda``.
    token_budget, keep
        Values that are given; the other one is chosen so that both fit. If both are given nothing is refused.

    Raises
    ------
    ConfigError
        Not even the longest cell fits; the message says how much memory is enough.
    """
    if token_budget is None:
        token_budget = _largest_chunk(cost, work, limit, device, 1 if keep is None else max(1, keep))
    whole = max(token_budget // work.views, work.longest)
    chunks = max(1, -(-work.genes // whole))
    genes = min(whole, work.genes)
    chunk = SLACK[device] * (cost.chunk_bytes + cost.bytes_per_gene * genes)
    graph = SLACK[device] * cost.bytes_per_gene * genes if work.views == 2 else 0.0  # one view needs no first pass
    if keep is None:  # the chunk being computed is one of the kept ones, so the first one is free
        keep = min(chunks, 1 + max(0, int((limit - work.fixed - chunk) / graph))) if graph else 0
    fraction = min(1.0, keep / chunks)
    seconds = work.genes * (cost.first_seconds_per_gene * (1 - fraction) + cost.replay_seconds_per_gene)
    return Budget(
        token_budget=token_budget,
        retain_graphs=keep,
        chunks=chunks,
        limit=limit,
        held_bytes=work.fixed,
        predicted_bytes=int(work.fixed + chunk + graph * max(0, min(keep, chunks) - 1)),
        predicted_seconds=seconds + cost.contrast_seconds * 4 * work.cells * work.all_cells,
    )


def _largest_chunk(cost: Footprint, work: Work, limit: int, device: str, graphs: int) -> int:
    """Return the largest token budget with which ``graphs`` chunks fit at once, at most that of a busy device."""
    left = (limit - work.fixed) / SLACK[device] - cost.chunk_bytes
    graphs = graphs if work.views == 2 else 1
    genes = int(left / (graphs * cost.bytes_per_gene)) if cost.bytes_per_gene else BUSY[device]
    if genes < work.longest:
        needed = work.fixed + SLACK[device] * (cost.chunk_bytes + graphs * cost.bytes_per_gene * work.longest)
        found = f"{gigabytes(limit)} of memory, and a step takes {gigabytes(needed)} at least"
        held = f"{gigabytes(work.fixed)} for data, weights, optimiser and embeddings, the rest for the longest cell"
        raise ConfigError(
            f"{found}: {held} ({work.longest:,} genes)",
            fix="Give it more (--memory), or a smaller encoder, batch_size or encoder.max_genes",
        )
    tokens = min(genes * work.views, BUSY[device])
    return max(tokens // _ROUND * _ROUND, min(tokens, _ROUND))


def gigabytes(size: float) -> str:
    """Format a number of bytes for a message."""
    return f"{size / 1e9:.2f} GB"
