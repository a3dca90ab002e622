"""The processes of a run, one or several of torchrun or accelerate: their devices and collectives.

Uses accelerate's ``PartialState``, which finds the device and the launcher and starts the process group.
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
    """A process of the run, and its communication with the others.

    Parameters
    ----------
    timeout
        Seconds that a process waits for the others before the run ends with an error. A process that dies is noticed at
        once if its machine still runs; the timeout is for machines and networks that stop responding.

    Attributes
    ----------
    rank, size : int
        Number of this process, and how many there are.
    device : torch.device
        A CUDA device if there is one, else the CPU (``ACCELERATE_USE_CPU=true`` forces the CPU).

    Raises
    ------
    TrainingError
        The launched processes cannot connect to each other.
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
        """Turn errors of gloo or NCCL about a lost or silent process into one :class:`TrainingError`.

        Parameters
        ----------
        fix
            Returns the advice of the error.
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
        """Return for each flag whether it is true on any rank; all ranks get the same result."""
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
        """Run an action on every rank and return its result; if it fails on one rank, all ranks stop.

        Raises
        ------
        CellLMError
            On the first rank where the action failed, its error; on the others an
            :class:`~cell_lm.errors.OtherRankError`, so that an error of all ranks is reported once.
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
            On the main rank the error of the action; on the others an :class:`~cell_lm.errors.OtherRankError`, so that
            no rank waits for one that has failed.
        """
        return self.max(self.run_on_all(lambda: (action() or 0) if self.is_main else 0))

    def broadcast(self, tensor: Tensor) -> None:
        """Overwrite a tensor with the main rank's, in place."""
        if self.size > 1:
            dist.broadcast(tensor.detach(), src=0)


class OneProcess(Ranks):
    """A process that trains alone, even if several were launched."""

    def __init__(self) -> None:
        self.timeout, self.rank, self.size, self.device = 0.0, 0, 1, choose_device()


def _join(*, cpu: bool, timeout: float) -> PartialState:
    try:
        return PartialState(cpu=cpu, timeout=timedelta(seconds=timeout))
    except ValueError as error:
        found = f"the environment of this process does not say how to find the others ({error})"
        raise ConfigError(found, fix="Launch all of them by torchrun or accelerate launch") from None


def _is_communication_error(error: RuntimeError) -> bool:
    """Whether the process group raised an error: gloo has no error class of its own."""
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
    """End the threads of the process group before Python shuts down, since they still hold tensors."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of a message of gloo or NCCL, without the line number of their source code."""
    sentence = str(error).strip().splitlines()[0].partition(". ")[0]
    return re.sub(r"^\[[^]]*\.(cc|cpp|h):\d+\] *", "", sentence).rstrip(".")
