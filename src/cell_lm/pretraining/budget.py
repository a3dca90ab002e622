"""How a step is cut: the largest chunks worth having and as many kept graphs as fit into the memory there is.

Larger chunks make no step faster once a chunk keeps the machine busy, and kept graphs do, so what is left of the memory
goes to those. Neither changes a result by more than rounding.
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
"""Genes over both views (before they leave some out) with which a chunk keeps a device busy: more gain nothing."""
SHARE = {"cpu": 0.5, "cuda": 0.9}
"""Of the free memory that is taken where the user names none: on a laptop other programs live, too."""
SLACK = {"cpu": 1.9, "cuda": 1.15}
"""What a process takes for its tensors, in steady state, over what those take: allocators round and leave gaps.

On the CPU it was measured (docs/decisions/0014); on CUDA it is a guess.
"""
_ROUND = 1024
_COPIES = 6
"""Matrices of the size of all embeddings that the contrastive loss holds at once."""


@dataclass(frozen=True)
class Work:
    """What a step has to do on one rank, and what the process holds besides.

    Attributes
    ----------
    cells, genes : int
        Of this rank's share of a batch; a gene counts once, not for each view.
    longest : int
        Most genes of one cell: a cell is not cut.
    all_cells, width : int
        Cells of the batch over all ranks, and width of the embeddings that are compared.
    views : int
        Of each cell.
    held : int
        Bytes that the process holds before the first step, and will hold beside the chunks: weights, their gradients
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
        """Bytes taken beside the chunks, embeddings included."""
        embeddings = _COPIES * 4 * self.width * self.views * self.all_cells if self.views == 2 else 0
        return self.held + embeddings


@dataclass(frozen=True)
class Budget:
    """How a step is cut, and what it is predicted to cost."""

    token_budget: int
    """Genes over all views that a chunk may hold, before a view leaves some out (``gene_fraction``)."""
    retain_graphs: int
    """Chunks whose graph is kept."""
    chunks: int
    """Chunks of a step, about."""
    limit: int
    """Bytes that may be taken."""
    predicted_bytes: int
    """Bytes that the process is predicted to take at most."""
    held_bytes: int
    """Of those, what is held beside the chunks and their graphs."""
    predicted_seconds: float
    """Seconds a step, of the two passes and the contrastive loss."""

    def __str__(self) -> str:
        cut = f"chunks of at most {self.token_budget:,} genes: {self.chunks:,} a step"
        kept = f"graphs kept: {min(self.retain_graphs, self.chunks):,}"
        return f"{cut}; {kept}; predicted: {gigabytes(self.predicted_bytes)}, {self.predicted_seconds:.2g} s a step"


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process could still take, its share where several run on this machine."""
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    limit = _container_limit()
    return min(free, limit) // neighbours if limit is not None else free // neighbours


def _container_limit(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the least that is left of the limits of the control groups this process is in; None where none has one.

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
    """Return what is left of a group's limit; pages of files count as free, since the kernel gives them up."""
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
    """Return the bytes that this process holds now: resident memory, or what the CUDA allocator gave out."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def memory_limit(device: torch.device, named: int | None) -> int:
    """Return the bytes that the process may take: what the user named, or a share of what is free."""
    return named if named is not None else held_memory(device) + int(SHARE[device.type] * free_memory(device))


def find_budget(
    cost: Footprint, work: Work, limit: int, device: str, *, token_budget: int | None = None, keep: int | None = None
) -> Budget:
    """Cut a step so that it fits, and predict what it costs.

    Parameters
    ----------
    cost
        Measured on cells like those of the step.
    work
        What the step has to do.
    limit
        Bytes that the process may take.
    device
        ``cpu`` or ``cuda``.
    token_budget, keep
        What is settled already; the other is found so that both fit. Where both are settled nothing is refused.

    Raises
    ------
    ConfigError
        Not even the longest cell fits; the message says how much would do.
    """
    if token_budget is None:
        token_budget = _largest_chunk(cost, work, limit, device, 1 if keep is None else max(1, keep))
    whole = max(token_budget // work.views, work.longest)
    chunks = max(1, -(-work.genes // whole))
    genes = min(whole, work.genes)
    chunk = SLACK[device] * (cost.chunk_bytes + cost.bytes_per_gene * genes)
    graph = SLACK[device] * cost.bytes_per_gene * genes if work.views == 2 else 0.0  # one view needs no first pass
    if keep is None:  # a chunk that is computed is one of those kept, so that the first of them costs nothing more
        keep = min(chunks, 1 + max(0, int((limit - work.fixed - chunk) / graph))) if graph else 0
    share = min(1.0, keep / chunks)
    seconds = work.genes * (cost.first_seconds_per_gene * (1 - share) + cost.replay_seconds_per_gene)
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
    """Return the token budget of chunks of which ``graphs`` fit at once, or of one that keeps the device busy."""
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
    """Write a number of bytes as a user reads it."""
    return f"{size / 1e9:.2f} GB"
