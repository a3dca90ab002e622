"""The part of :mod:`benchmarks.encoder` about preset ``small``: cells per second, and what limits them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch
from torch import nn

from benchmarks.parts.pretraining_cells import ALL_MASKED
from benchmarks.parts.turns import Precisions, cost, in_turn, our_forward, precision, random_cells
from cell_lm.config import PRESETS, ContrastiveConfig, MaskedConfig, ObjectivesConfig, ReconstructionConfig
from cell_lm.data import CellBatch
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn.linear import Linear
from cell_lm.objectives.divide_and_conquer import DivideAndConquer

EARLIER = PRESETS["small"].model_copy(update={"linear_path": False, "attended_genes": 16_384, "latents": 32})
"""The encoder of the preset before decision 18; only its decoder was wider."""
EARLIER_OBJECTIVES = ObjectivesConfig(
    masked=MaskedConfig(most=ALL_MASKED),
    contrastive=ContrastiveConfig(temperature=0.05, thinning=False, gene_fraction=0.5),
    reconstruction=ReconstructionConfig(weight=0.0),
)


def small(rounds: int, cells: int, precisions: Precisions) -> dict[str, float]:
    """Return the cells a second of preset ``small``, embedding and pretraining, and say what bounds it.

    ``train_speed_ratio`` is its training cells per CPU second, over those of the preset before decision 18.
    """
    model, figures = CellLM(PRESETS["small"], Vocabulary.human()), dict[str, float]()
    batches = [random_cells(cells, seed) for seed in range(3)]
    for suffix, dtype in precisions.items():
        found = small_in(model, batches, dtype, rounds)
        figures |= {f"{name}{suffix}": value for name, value in found.items()}
    return figures


def small_in(model: CellLM, batches: list[CellBatch], dtype: torch.dtype | None, rounds: int) -> dict[str, float]:
    engine = DivideAndConquer(model, model.objectives, seed=0, token_budget=65536, autocast=lambda: precision(dtype))
    earlier_model = CellLM(EARLIER, model.vocabulary, EARLIER_OBJECTIVES)
    earlier = DivideAndConquer(
        earlier_model, EARLIER_OBJECTIVES, seed=0, token_budget=65536, autocast=lambda: precision(dtype)
    )
    for each in (engine, earlier):
        each.step(batches[0][:8], 0)
    works: dict[str, tuple[Callable[[], object], int]] = {}
    for i, batch in enumerate(batches):
        works[f"train-{i}"] = (partial(engine.step, batch, i), len(batch))
        works[f"earlier-{i}"] = (partial(earlier.step, batch, i), len(batch))
        works[f"forward-{i}"] = (partial(forward_all, model, batch, dtype), len(batch))
    timed, figures = in_turn(works, rounds), dict[str, float]()
    for what in ("forward", "train"):
        mine = [found for name, found in timed.items() if name.startswith(what)]
        figures[f"small_{what}_cells_per_s"] = round(1 / median(found.wall for found in mine), 1)
        figures[f"small_{what}_cells_per_cpu_s"] = round(1 / median(found.cpu for found in mine), 1)
    cpu = [median(found.cpu for name, found in timed.items() if name.startswith(kind)) for kind in ("earlier", "train")]
    figures["train_speed_ratio"] = round(cpu[0] / cpu[1], 2)
    return figures | bounds(engine, batches[0], dtype)


def forward_all(model: CellLM, batch: CellBatch, dtype: torch.dtype | None) -> None:
    for chunk in batch.chunks(65536):
        our_forward(model.encoder, chunk, dtype)


PARTS = {
    "products": ("linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm"),
    "attention": ("scaled_dot_product",),
    "dropout": ("_CounterDropout", "_AddDropped", "bitwise", "rshift"),
    "normalisation and GELU": ("layer_norm", "gelu"),
    "embedding": ("embedding", "index"),
    "copies": ("copy_", "aten::cat", "fill_"),
}


def bounds(engine: DivideAndConquer, batch: CellBatch, dtype: torch.dtype | None) -> dict[str, float]:
    """Print the share of each part of a training step; return the speed of its products against a large one's."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, flops() as count:
        engine.step(batch, 0)
    events = profile.key_averages()
    total, rest = sum(event.self_cpu_time_total for event in events), 1.0
    for part, names in PARTS.items():
        times = [event.self_cpu_time_total for event in events if any(name in event.key for name in names)]
        rest -= sum(times) / total
        print(f"  {part:24s} {sum(times) / total:6.1%}")
        if part == "products":
            achieved = count[0] / sum(times) / 1e3
    print(f"  {'everything else':24s} {rest:6.1%}")
    x = torch.randn(4096, 1024, dtype=dtype or torch.float32)
    layer = Linear(1024, 4096, bias=False, dtype=x.dtype).requires_grad_(False)
    best = 2 * 4096**2 * 1024 / median(cost(lambda: layer(x), 1).wall for _ in range(5)) / 1e9
    print(f"  products of the step {achieved:.0f} GFLOP/s, of one 4096 x 1024 x 4096 {best:.0f} GFLOP/s", flush=True)
    return {"small_train_gflops": round(achieved), "matmul_gflops": round(best)}


@contextmanager
def flops() -> Iterator[list[float]]:
    """Count the operations of linear layers: one pass without a gradient, three with one."""
    count = [0.0]

    def add(module: nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        if isinstance(module, nn.Linear):
            passes = 3 if torch.is_grad_enabled() else 1
            count[0] += 2.0 * passes * inputs[0].numel() * module.out_features

    handle = nn.modules.module.register_module_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()
