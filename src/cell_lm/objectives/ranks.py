"""The three things that ranks tell each other: sums of counts, the embeddings, and (once a step) the gradient."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

Group = dist.ProcessGroup | None


def world_size(group: Group) -> int:
    """Return the number of ranks; 1 where ``torch.distributed`` is not initialised."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def _device(group: Group) -> torch.device:
    on_gpu = dist.get_backend(group) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def sum_over_ranks(values: Tensor, group: Group) -> Tensor:
    """Return the sum of small tensors over the ranks, on the CPU."""
    if world_size(group) == 1:
        return values
    shared = values.to(_device(group), copy=True)
    dist.all_reduce(shared, group=group)
    return shared.cpu()


def gather_rows(rows: Tensor, group: Group) -> tuple[Tensor, slice]:
    """Join a matrix [n, width] over the ranks, in order of rank; ranks may hold unequally many rows.

    Returns
    -------
    joined, mine
        [N, width], and which rows are this rank's.
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


def all_reduce_gradients(parameters: Iterable[nn.Parameter], group: Group) -> None:
    """Sum ``.grad`` of all parameters over the ranks in a single all-reduce; a missing gradient counts as zero."""
    if world_size(group) == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, group=group)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
