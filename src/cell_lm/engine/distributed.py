"""The processes of a run, one or those that torchrun or accelerate launched: their devices, what they agree on.

Uses accelerate's ``PartialState``, the part of accelerate that finds device and launcher and starts the process group.
The gradients are all-reduced by the engine, so there is no model to wrap.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from cell_lm.engine.device import choose_device
from cell_lm.errors import CellLMError, ConfigError, OtherRankError, TrainingError

_Result = TypeVar("_Result")
_Op = dist.ReduceOp.RedOpType


class Ranks:
    """The process among the processes of the run.

    Parameters
    ----------
    timeout
        Seconds that a process waits for the others before it gives the run up. A process that dies is noticed at once
        wherever its machine lives on; this is for machines and networks that go silent.

    Attributes
    ----------
    rank, size : int
        Number of this process, and how many there are.
    device : torch.device
        A CUDA device where there is one, else the CPU (``ACCELERATE_USE_CPU=true`` forces the CPU).

    Raises
    ------
    TrainingError
        The processes that were launched do not find each other.
    ConfigError
        accelerate started one process in place of several, or the environment lacks what a launcher sets.
    """

    def __init__(self, timeout: float = 600.0) -> None:
        self.timeout = timeout
        with self.lost_rank_errors(lambda: "They did not find each other: check the address and port of the launch"):
            state = _join(cpu=choose_device().type == "cpu", timeout=timeout)
        self.rank: int = state.process_index
        self.size: int = state.num_processes
        self.device: torch.device = state.device
        if self.size == 1:
            _refuse_lone_start()
        else:
            atexit.unregister(_leave_group)
            atexit.register(_leave_group)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @contextmanager
    def lost_rank_errors(self, fix: Callable[[], str]) -> Iterator[None]:
        """Turn what gloo or NCCL raise when another process is gone or silent into one :class:`TrainingError`.

        Parameters
        ----------
        fix
            Returns what the user can do now.
        """
        try:
            yield
        except RuntimeError as error:
            if not _is_communication_error(error):
                raise
            found = f"another process of the run ended, or was silent for {self.timeout:g} s ({_reason(error)})"
            raise TrainingError(found, fix=fix()) from error

    def _reduce(self, numbers: Sequence[int], operation: _Op) -> list[int]:
        if self.size == 1:
            return list(numbers)
        shared = torch.tensor(list(numbers), dtype=torch.int64, device=self.device)
        dist.all_reduce(shared, op=operation)
        return [int(number) for number in shared.tolist()]

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether any rank raised it, the same on all ranks."""
        return [bool(flag) for flag in self._reduce(flags, dist.ReduceOp.MAX)]

    def max(self, number: int) -> int:
        """Return the largest of the ranks' numbers."""
        return self._reduce([number], dist.ReduceOp.MAX)[0]

    def min(self, number: int) -> int:
        """Return the smallest of the ranks' numbers."""
        return self._reduce([number], dist.ReduceOp.MIN)[0]

    def all_equal(self, number: int) -> bool:
        """Whether all ranks have the same number."""
        return self._reduce([number], dist.ReduceOp.MAX) == self._reduce([number], dist.ReduceOp.MIN)

    def run_on_all(self, action: Callable[[], _Result]) -> _Result:
        """Run an action on every rank and return its answer; if it fails on one, no rank goes on.

        Raises
        ------
        CellLMError
            On the first of the ranks where it failed what the action raised, on the others an
            :class:`~cell_lm.errors.OtherRankError`: what all have found is reported once.
        """
        if self.size == 1:
            return action()
        results, failure = [], None
        try:
            results.append(action())
        except (CellLMError, OSError) as error:
            failure = error
        first = self._reduce([self.size if failure is None else self.rank], dist.ReduceOp.MIN)[0]
        if first < self.size:
            message = self._broadcast_text(str(failure), first)
            raise failure if failure is not None and first == self.rank else OtherRankError(first, message)
        return results[0]

    def _broadcast_text(self, text: str, source: int) -> str:
        """Return the text of one rank on all ranks."""
        letters = text.encode() if self.rank == source else b""
        shared = torch.zeros(self.max(len(letters)), dtype=torch.uint8, device=self.device)
        if self.rank == source:
            shared.copy_(torch.frombuffer(bytearray(letters), dtype=torch.uint8))
        dist.broadcast(shared, src=source)
        return bytes(shared.tolist()).decode()

    def run_on_main(self, action: Callable[[], int | None]) -> int:
        """Run an action on the main rank, the first, and return its number (None counts as 0) on all ranks.

        Raises
        ------
        CellLMError
            On the main rank what the action raised; on the others an :class:`~cell_lm.errors.OtherRankError`, so that
            no rank waits for one that has given up.
        """
        return self.max(self.run_on_all(lambda: (action() or 0) if self.is_main else 0))

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrite a tensor by the main rank's, in place."""
        if self.size > 1:
            dist.broadcast(tensor.detach(), src=0)


class OneProcess(Ranks):
    """A process that shares no step with others, even where several were launched."""

    def __init__(self) -> None:
        self.timeout, self.rank, self.size, self.device = 0.0, 0, 1, choose_device()


def _join(*, cpu: bool, timeout: float) -> PartialState:
    try:
        return PartialState(cpu=cpu, timeout=timedelta(seconds=timeout))
    except ValueError as error:
        found = f"the environment of this process does not say how to find the others ({error})"
        raise ConfigError(found, fix="Launch all of them by torchrun or accelerate launch") from None


def _is_communication_error(error: RuntimeError) -> bool:
    """Whether the process group raised an error: gloo has no class of its own for them."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _refuse_lone_start() -> None:
    """Refuse what ``accelerate launch --cpu --num_processes 2`` does without MPI: it starts one process.

    It then names an address to meet at, as for several, but no rank.
    """
    if {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys() and "RANK" not in os.environ:
        raise ConfigError(
            "accelerate was asked to start several processes and started one: it starts several on the CPU by MPI only",
            fix="Launch by torchrun, or set ACCELERATE_USE_CPU=true and use --multi_gpu in place of --cpu",
        )


def _leave_group() -> None:
    """End the threads of the process group while there is a Python they can give their tensors back to."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of a message of gloo or NCCL, without the line of their sources."""
    sentence = str(error).strip().splitlines()[0].partition(". ")[0]
    return re.sub(r"^\[[^]]*\.(cc|cpp|h):\d+\] *", "", sentence).rstrip(".")
