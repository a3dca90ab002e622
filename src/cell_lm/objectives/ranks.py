"""Communication of ranks in a step: sums of counts, the embeddings, and (once) the gradient.

Where the model is sharded (``fully_shard`` of torch, FSDP2), parameters are gathered for every pass over a chunk and
the gradient is reduced into shards by the last backward pass. All ranks must then run the same number of passes.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cell_lm.data.loading.batch import CellBatch
from cell_lm.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

Group = dist.ProcessGroup | None


def world_size(group: Group) -> int:
    """Return the number of ranks; 1 where ``torch.distributed`` is not initialised."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def _device(group: Group) -> torch.device:
    on_gpu = dist.get_backend(group) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def sum_over_ranks(values: Tensor, group: Group) -> Tensor:
    """Return the sum of small tensors over the ranks; on the CPU if there are several."""
    if world_size(group) == 1:
        return values
    shared = values.to(_device(group), copy=True)
    dist.all_reduce(shared, group=group)
    return shared.cpu()


def gather_rows(rows: Tensor, group: Group) -> tuple[Tensor, slice]:
    """Concatenate a matrix [n, width] over the ranks, by rank; the numbers of rows may differ.

    Returns
    -------
    joined, mine
        [N, width], and the slice of this rank's rows.
    """
    if world_size(group) == 1:
        return rows, slice(0, len(rows))
    sizes = torch.zeros(world_size(group), dtype=torch.int64)
    sizes[dist.get_rank(group)] = len(rows)
    sizes = sum_over_ranks(sizes, group)
    start = int(sizes[: dist.get_rank(group)].sum())
    padded = rows.new_zeros(int(sizes.max()), rows.shape[1])
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded, group=group)
    joined = torch.cat([part[:size] for part, size in zip(received, sizes.tolist(), strict=True)])
    return joined, slice(start, start + len(rows))


def is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds only a part of the parameters."""
    return _as_sharded(model) is not None


def _as_sharded(model: nn.Module) -> FSDPModule | None:
    """Return the model if it is sharded; the import takes seconds, and where nobody needed it nothing is sharded."""
    if "torch.distributed.fsdp" not in sys.modules:
        return None
    from torch.distributed.fsdp import FSDPModule

    return model if isinstance(model, FSDPModule) else None


def all_reduce_gradients(model: nn.Module, group: Group) -> None:
    """Sum ``.grad`` of all parameters over the ranks in a single all-reduce; a missing gradient counts as zero.

    This also runs on one rank, so that a parameter that no loss depends on is treated the same on any number of ranks.
    A sharded model reduces its gradient itself, see :func:`reduce_with_this_pass`.
    """
    if is_sharded(model):
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if world_size(group) == 1:
        return
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=group)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def reduce_with_this_pass(model: nn.Module, last: bool) -> None:
    """Set whether the next backward pass of a sharded model reduces the gradient, or only accumulates it."""
    if (sharded := _as_sharded(model)) is not None:
        sharded.set_requires_gradient_sync(last)
        sharded.set_is_last_backward(last)


def reshard(model: nn.Module) -> None:
    """Free the parameters that a sharded model gathered for forward passes without a backward pass."""
    if (sharded := _as_sharded(model)) is not None:
        sharded.reshard()


def cut_alike(batch: CellBatch, token_budget: int, group: Group) -> list[CellBatch]:
    """Cut a rank's cells into the same number of chunks as on every other rank.

    The number is that of the rank with the most genes; the others halve their largest chunks. If a rank has fewer cells
    than that, the number is its number of cells, and the others exceed the budget.

    Raises
    ------
    ConfigError
        A rank holds no cell. It is raised on all ranks.
    """
    chunks = list(batch.chunks(token_budget))
    sizes = torch.zeros(world_size(group), 2, dtype=torch.int64)
    sizes[dist.get_rank(group) if len(sizes) > 1 else 0] = torch.tensor([len(chunks), len(batch)])
    sizes = sum_over_ranks(sizes, group)
    number, fewest = int(sizes[:, 0].max()), int(sizes[:, 1].min())
    if not fewest:
        found = f"{int((sizes[:, 1] == 0).sum())} of {len(sizes)} ranks hold no cell of the batch"
        raise ConfigError(found, fix="Sharding needs a cell on every rank: use fewer ranks or a larger batch")
    if fewest < number:
        bounds = [len(batch) * i // fewest for i in range(fewest + 1)]
        return [batch[start:stop] for start, stop in pairwise(bounds)]
    while len(chunks) < number:
        largest = max((i for i, chunk in enumerate(chunks) if len(chunk) > 1), key=lambda i: chunks[i].tokens)
        chunk = chunks[largest]
        chunks[largest : largest + 1] = [chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]]
    return chunks
