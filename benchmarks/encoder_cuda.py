"""The part of :mod:`benchmarks.encoder` that needs a GPU: speed, utilisation and one real step of preset ``base``.

Untested on a GPU. Utilisation is model FLOPs utilisation (MFU): the operations that embedding or forward and backward
need, without those that divide and conquer repeats, over the measured speed of a large product on the same device in
bfloat16, not over a number from a data sheet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

from cell_lm.config import EncoderConfig
from cell_lm.data import CellBatch
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter
from cell_lm.objectives.divide_and_conquer import DivideAndConquer

BUDGET = 131072
BATCH = 4096
Flops = Callable[[], AbstractContextManager[list[float]]]


def autocast() -> AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of one call, the best of some, after one to warm up and with the device waited for."""
    times = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def attention_flops(config: EncoderConfig, batch: CellBatch, passes: int) -> float:
    """Operations of exact attention: two products of n x n a head, forward once and backward twice."""
    inner = config.heads * config.head_width
    return 4.0 * passes * config.layers * inner * float(((batch.lengths + 1.0) ** 2).sum())


def peak_flops() -> float:
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / seconds(lambda: a @ b, 10)


def embed(model: CellLM, batch: CellBatch) -> None:
    with torch.inference_mode(), autocast():
        for chunk in batch.chunks(BUDGET):
            model.encoder(chunk, hidden=None, counter=None, only_cls=True)


def train(model: CellLM, batch: CellBatch) -> None:
    """Forward and backward of masked expression modelling, a chunk at a time."""
    for chunk in batch.chunks(BUDGET):
        hidden = torch.rand(chunk.tokens, device="cuda") < 0.15
        with autocast():
            logits = model(chunk, hidden=hidden, counter=Counter.of(0, 0, chunk.slots, 0)).expression
        F.cross_entropy(logits.float(), chunk.bins[hidden]).backward()
    model.zero_grad()


def on_gpu(config: EncoderConfig, random_cells: Callable[[int], CellBatch], count: Flops) -> dict[str, float]:
    """Return cells a second, utilisation, and the time and memory of one pretraining step at batch 4,096."""
    model = CellLM(config, Vocabulary.human()).to("cuda")
    batch, peak = random_cells(512).to(torch.device("cuda")), peak_flops()
    figures = {"gpu_matmul_tflops_bf16": round(peak / 1e12, 1)}
    for name, work, passes in (("embed", embed, 1), ("train", train, 3)):
        with count() as linear:
            work(model, batch)
        took = seconds(lambda w=work: w(model, batch))
        figures[f"gpu_{name}_cells_per_s_bf16"] = round(len(batch) / took, 1)
        total = linear[0] + attention_flops(config, batch, passes)
        figures[f"gpu_{name}_mfu_bf16"] = round(total / took / peak, 3)
        print(f"{torch.cuda.get_device_name()}: {name} {len(batch) / took:.1f} cells/s, MFU {total / took / peak:.1%}")
    engine = DivideAndConquer(model, model.objectives, seed=0, token_budget=BUDGET, autocast=autocast)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    whole = random_cells(BATCH).to(torch.device("cuda"))
    torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        losses = engine.step(whole, 0)
        optimiser.step()
        optimiser.zero_grad()
        print(f"losses of the step at batch {BATCH}: {losses}")

    figures["gpu_step_4096_s"] = round(seconds(step, 1), 2)
    figures["gpu_step_4096_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return figures
