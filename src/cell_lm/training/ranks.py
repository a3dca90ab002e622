"""The processes of a run, one or those that torchrun or accelerate launched: their devices, what they agree on.

Uses accelerate's ``PartialState``, the part of accelerate that finds device and launcher and starts the process group.
The gradients are all-reduced by the engine, so there is no model to wrap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from cell_lm.errors import CellLMError, TrainingError


class Ranks:
    """The process among the processes of the run.

    Attributes
    ----------
    rank, size : int
        Number of this process, and how many there are.
    device : torch.device
        A CUDA device where there is one, else the CPU (``ACCELERATE_USE_CPU=true`` forces the CPU).
    """

    def __init__(self) -> None:
        force = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
        state = PartialState(cpu=force or not torch.cuda.is_available())
        self.rank: int = state.process_index
        self.size: int = state.num_processes
        self.device: torch.device = state.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether any rank raised it, the same on all ranks."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(list(flags), dtype=torch.int32, device=self.device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in raised.tolist()]

    def on_first(self, action: Callable[[], int | None]) -> int:
        """Run an action on the first rank alone and return its number (None counts as 0) on all ranks.

        Raises
        ------
        CellLMError
            On the first rank what the action raised; on the others a :class:`TrainingError` that says so, so that no
            rank waits for one that has given up.
        """
        if self.size == 1:
            return action() or 0
        failure: Exception | None = None
        answer = torch.zeros(2, dtype=torch.int64, device=self.device)
        if self.first:
            try:
                answer[1] = action() or 0
            except (CellLMError, OSError) as error:
                failure, answer[0] = error, 1
        dist.broadcast(answer, src=0)
        if failure is not None:
            raise failure
        failed, number = answer.tolist()
        if failed:
            raise TrainingError("the first rank stopped", fix="Its message says why")
        return int(number)

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrite a tensor by the first rank's, in place."""
        if self.size > 1:
            dist.broadcast(tensor.detach(), src=0)
