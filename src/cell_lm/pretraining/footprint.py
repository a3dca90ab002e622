"""The cost of a step, measured on a few of the user's cells: bytes and seconds per gene in the encoder.

All of it is measured on real training steps, so that it holds for any encoder and precision:

- a step of one chunk gives the memory of its graph, read when the forward pass ends, and the peak of the backward pass,
  which holds gradients as large as the parameters besides;
- the same cells with and without a kept graph give the seconds of the two passes.

On CUDA the allocator reports its peak. On the CPU the size of the process is no measure (it never falls, and includes
other memory), so tensors are counted as they are allocated and freed.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cell_lm.config import ObjectivesConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.model import CellLM
from cell_lm.objectives.contrastive import TILE, info_nce
from cell_lm.objectives.divide_and_conquer import DivideAndConquer

LONGEST_PROBE = 1.0
"""After a step of this many seconds no larger one is tried."""
LARGEST_PROBE = 8_192
"""After a step of this many genes no larger one is tried: the measurement must not need more memory than a chunk."""
_FEWEST, _GROWTH, _ROUNDS = 4, 2, 2
_NEVER = 1 << 62
_SIMILAR = 4 * TILE
"""Views for timing the loss: enough for tiles on and off the diagonal."""


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors allocated inside this context; views of earlier tensors are not counted.

    Attributes
    ----------
    now, peak : int
        Bytes allocated now, and at the peak.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def _release(self, size: int) -> None:
        self.now -= size

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._seen:
            size = self._seen[storage] = storage.nbytes()
            weakref.finalize(storage, self._release, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._count(leaf)
        return result


@dataclass(frozen=True)
class Footprint:
    """The cost of a step.

    A gene of a cell counts once, although each of the two views may contain it.
    """

    chunk_bytes: float
    """Memory of a backward pass that does not depend on the chunk: at most a gradient of all parameters."""
    bytes_per_gene: float
    """Further memory of a chunk, and of a kept graph, per gene."""
    first_seconds_per_gene: float
    """Seconds of the first pass, which a kept graph saves."""
    replay_seconds_per_gene: float
    """Seconds of the pass with a graph, forward and backward."""
    contrast_seconds: float
    """Seconds of the contrastive loss and its gradient for each pair of views."""


class _Probe:
    """Steps on the first cells of a sample; their gradients are discarded."""

    def __init__(
        self, model: CellLM, objectives: ObjectivesConfig, autocast: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.model, self.device = model, next(model.parameters()).device
        self.engine = DivideAndConquer(model, objectives, seed=0, token_budget=_NEVER, autocast=autocast)

    def _step(self, cells: CellBatch, keep: int) -> None:
        self.engine.keep = keep
        self.engine.step(cells, 0)

    def seconds(self, cells: CellBatch, *, keep: int = 0) -> float:
        """Return the time of a step in one chunk."""
        self._synchronise()
        began = time.perf_counter()
        self._step(cells, keep)
        self._synchronise()
        return time.perf_counter() - began

    def passes(self, cells: CellBatch) -> tuple[float, float]:
        """Return the seconds of the first pass and of the one with a graph, each the minimum of some rounds.

        A step that keeps its only graph runs the second pass only.
        """
        rounds = [(self.seconds(cells), self.seconds(cells, keep=1)) for _ in range(_ROUNDS)]
        both, replay = (min(column) for column in zip(*rounds, strict=True))
        return max(0.0, both - replay) if self.engine.contrasts else 0.0, replay

    def memory(self, cells: CellBatch) -> tuple[int, int]:
        """Return the bytes of a graph of all cells, and the peak of a step in one chunk.

        The model itself is not counted.
        """
        if self.device.type != "cuda":
            with TensorMemory() as memory:
                graph = self._watched_step(cells, lambda: memory.now)
            return graph, memory.peak
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        graph = self._watched_step(cells, lambda: torch.cuda.memory_allocated(self.device))
        return graph - before, torch.cuda.max_memory_allocated(self.device) - before

    def _watched_step(self, cells: CellBatch, now: Callable[[], int]) -> int:
        """Run a step, and return the value of ``now`` when its graph was complete."""
        readings = [0]

        def look(*_: object) -> None:
            if torch.is_grad_enabled():
                readings.append(now())

        handle = self.model.register_forward_hook(look)
        try:
            self._step(cells, 0)
        finally:
            handle.remove()
        return readings[-1]

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(
    model: CellLM,
    objectives: ObjectivesConfig,
    sample: CellBatch,
    *,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    slow: Callable[[bool], bool] = bool,
) -> Footprint:
    """Measure the cost of a step.

    Parameters
    ----------
    model
        As it will be trained, on its device; its gradients are cleared, and nothing else is changed.
    objectives
        Objectives of the run.
    sample
        Some dozen training cells, at least 4; cells beyond one second of work are not used.
    autocast
        Makes the autocast context of the model.
    slow
        Given whether a step was slow here, returns whether it was slow on any rank: all ranks must measure the same
        steps, since a step involves all of them.
    """
    probe = _Probe(model, objectives, autocast)
    cells = _enough(probe, sample, slow)
    graph, peak = probe.memory(cells)
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    first, replay = probe.passes(cells)
    model.zero_grad(set_to_none=True)
    return Footprint(
        chunk_bytes=gradients,
        bytes_per_gene=max(graph, peak - gradients) / cells.tokens,
        first_seconds_per_gene=first / cells.tokens,
        replay_seconds_per_gene=replay / cells.tokens,
        contrast_seconds=_contrast_seconds(model) if probe.engine.contrasts else 0.0,
    )


def _enough(probe: _Probe, sample: CellBatch, slow: Callable[[bool], bool]) -> CellBatch:
    """Return as many of the cells as fit into one second; a first step compiles kernels and allocates gradients."""
    cells = sample[:_FEWEST]
    probe.seconds(cells)
    while len(cells) < len(sample) and cells.tokens < LARGEST_PROBE:
        if slow(probe.seconds(cells) > LONGEST_PROBE / 2):
            break
        cells = sample[: _GROWTH * len(cells)]
    return cells


def _contrast_seconds(model: CellLM) -> float:
    none = model.no_projection()
    views = torch.nn.functional.normalize(none.new_ones(_SIMILAR // 2, none.shape[1]), dim=1)
    info_nce(views[:2], views[:2], 1.0)
    began = time.perf_counter()
    loss, *_ = info_nce(views, views, 1.0)
    float(loss)  # waits for a GPU
    return (time.perf_counter() - began) / _SIMILAR**2
