"""Speed and memory of the encoder against the released configuration of the paper, and of preset ``small`` by itself.

    python -m benchmarks.encoder [--quick] [--only PARTS] [--layers N] [--device cuda]

The peer is the Performer of CellLM's released code (:mod:`benchmarks.parts.released`), padded to 6,000 tokens, eager.
Ours has the same width, depth and number of parameters: ``full`` is preset ``base`` (8 heads of 64, feed-forward
3,072), ``latent`` has 9 layers over 32 latents, one cross-attention to the genes before and one from them after. Cells
have lognormal(median 1,050, sigma 0.45) expressed genes. Peer and ours alternate in one process, with the same threads
and allocator; the peer runs at its faster batch size of 1 and 2, ours on packed cells. A ratio is the peer's median CPU
time per cell over ours (``..._wall``: elapsed time, which on a shared machine also depends on other processes). A
training step here is forward and backward of masked expression modelling, without the optimiser; ours has dropout on,
the peer none, as it was released. Peak memory is that of a training step on the same cell, in separate processes.

The peer's training step needs more than 13 GiB per cell. Time and memory are proportional to the layers, so with less
free memory ``--layers 2`` compares 2 layers of each; the cost of our trained gene vectors is then spread over fewer
layers, so the ratios can only be worse than at 10. ``--quick`` does so, with one round of few cells each, in about a
minute of CPU time: enough to check that all parts run and the direction of the ratios, not to quote them.

On a GPU (``--device cuda``; untested on a GPU): cells per second and model FLOPs utilisation in
bfloat16, and one pretraining step of preset ``base`` at batch 4,096.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.encoder_small import flops, small
from benchmarks.options import data_if_given, parser, run
from benchmarks.parts.released import LENGTH, ReleasedPerformer, pad
from benchmarks.parts.turns import (
    GENES,
    PRECISIONS,
    Cost,
    Precisions,
    cost,
    in_turn,
    our_forward,
    precision,
    random_cells,
)
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import PRESETS, EncoderConfig
from cell_lm.data import CellBatch
from cell_lm.data.loading.batch import concatenate
from cell_lm.errors import ConfigError
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter
from cell_lm.nn.encoder import build_encoder
from cell_lm.nn.linear import Linear

FULL = PRESETS["base"].model_copy(update={"linear_path": False})
"""The paper's encoder, without what ours adds to it."""
LATENT = FULL.model_copy(update={"attention": "latent", "layers": 9, "feedforward": 2704, "latents": 32})
OURS_CELLS, QUICK_CELLS, QUICK_LAYERS = 8, 4, 2
PEER, PARTS_OF_PEER = "performer_pytorch", ("forward", "train", "peaks")
HIDDEN = 0.15


def parameters(model: nn.Module) -> float:
    """Millions of parameters, frozen gene vectors of the peer included."""
    return sum(p.numel() for p in model.parameters()) / 1e6


def peer_forward(peer: ReleasedPerformer, batch: CellBatch, size: int, dtype: torch.dtype | None, length: int) -> None:
    with torch.inference_mode(), precision(dtype):
        for start in range(0, len(batch), size):
            peer(*pad(batch[start : start + size], length))


def hide(batch: CellBatch) -> torch.Tensor:
    return torch.rand(batch.tokens, generator=torch.Generator().manual_seed(0)) < HIDDEN


def peer_train(peer: ReleasedPerformer, batch: CellBatch, dtype: torch.dtype | None) -> None:
    hidden = hide(batch)
    with precision(dtype):
        tokens, genes, mask = pad(batch, LENGTH, hidden)
        states = peer(tokens, genes, mask)[(tokens == peer.hidden) & mask]
        loss = F.cross_entropy(peer.to_out(states).float(), batch.bins[hidden])
    loss.backward()
    peer.zero_grad()


def our_train(encoder: nn.Module, head: nn.Module, batch: CellBatch, dtype: torch.dtype | None) -> None:
    hidden = hide(batch)
    with precision(dtype):
        counter = Counter.of(0, 0, batch.slots, 0)
        states = encoder(batch, hidden=hidden, counter=counter, only_cls=False).hidden
        loss = F.cross_entropy(head(states).float(), batch.bins[hidden])
    loss.backward()
    encoder.zero_grad()


def forward(rounds: int, sizes: tuple[int, ...], layers: int, count: int, precisions: Precisions) -> dict[str, float]:
    """Return the ratios of embedding, ours on so many cells, peer and ours of so many layers."""
    torch.manual_seed(0)
    peer, full = ReleasedPerformer(GENES, layers), build_encoder(cut(layers), GENES)
    latent = build_encoder(cut_latent(layers), GENES)
    for name, model in {"released Performer": peer, "full": full, "latent": latent}.items():
        print(f"{name:20s} {parameters(model):5.1f} M parameters")
    cells, figures = random_cells(count), {"fwd_layers": float(layers)}
    longest = int(cells[:4].lengths.max()) + 1
    for model in (full, latent):
        our_forward(model, cells[:1], None)  # warm
    peer_forward(peer, cells[:1], 1, None, longest)
    for suffix, dtype in precisions.items():
        best = best_size(peer, cells, sizes, dtype)
        works: dict[str, tuple[Callable[[], object], int]] = {
            "peer": (partial(peer_forward, peer, cells[:best], best, dtype, LENGTH), best),
            "peer_padded_to_longest": (partial(peer_forward, peer, cells[:4], 4, dtype, longest), 4),
            "full": (partial(our_forward, full, cells, dtype), len(cells)),
            "latent": (partial(our_forward, latent, cells, dtype), len(cells)),
        }
        figures |= ratios("fwd", suffix, in_turn(works, rounds))
    return figures


def train(rounds: int, layers: int, precisions: Precisions) -> dict[str, float]:
    """Return the ratios of a training step, peer and ours of so many layers."""
    torch.manual_seed(0)
    peer, full = ReleasedPerformer(GENES, layers), build_encoder(cut(layers), GENES)
    head, cells, figures = Linear(FULL.width, FULL.bins), random_cells(4), {"train_layers": float(layers)}
    our_train(full, head, cells[:1], None)  # warm
    for suffix, dtype in precisions.items():
        works: dict[str, tuple[Callable[[], object], int]] = {
            "peer": (partial(peer_train, peer, cells[:1], dtype), 1),
            "full": (partial(our_train, full, head, cells, dtype), len(cells)),
        }
        figures |= ratios("train", suffix, in_turn(works, rounds))
    return figures


def cut(layers: int) -> EncoderConfig:
    return FULL.model_copy(update={"layers": layers})


def cut_latent(layers: int) -> EncoderConfig:
    """One layer fewer: the cross-attentions before and after make up for it."""
    return LATENT.model_copy(update={"layers": max(1, layers - 1)})


def best_size(peer: ReleasedPerformer, cells: CellBatch, sizes: tuple[int, ...], dtype: torch.dtype | None) -> int:
    """Return the batch size at which the peer needs least CPU time a cell."""
    if len(sizes) == 1:
        return sizes[0]
    costs = {size: cost(lambda s=size: peer_forward(peer, cells[:s], s, dtype, LENGTH), size).cpu for size in sizes}
    print(f"CPU seconds a cell of the peer by batch size: {costs}", flush=True)
    return min(costs, key=lambda size: costs[size])


def ratios(what: str, suffix: str, timed: dict[str, Cost]) -> dict[str, float]:
    peer, figures = timed["peer"], {}
    for name, found in timed.items():
        print(f"{what}{suffix or '_float32'} {name:24s} {found.cpu:8.3f} CPU s, {found.wall:8.3f} s a cell", flush=True)
        if name in ("full", "latent"):
            figures[f"{what}_ratio_{name}{suffix}"] = round(peer.cpu / found.cpu, 2)
            figures[f"{what}_ratio_{name}_wall{suffix}"] = round(peer.wall / found.wall, 2)
    if "peer_padded_to_longest" in timed:
        kinder = timed["peer_padded_to_longest"].cpu / timed["full"].cpu
        figures[f"{what}_ratio_full_padded_to_longest{suffix}"] = round(kinder, 2)
    return figures


def resident(line: str = "VmRSS") -> int:
    """Bytes this process holds now, or (``VmHWM``) held at most; ``ru_maxrss`` would count what its parent held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) * 1024


def peak_of(name: str, layers: int) -> None:
    """Print by how many bytes a training step on one cell raises the peak of memory; for a process of its own."""
    keep_large_blocks()
    cell, before = random_cells(1), 0
    if name == "peer":
        peer = ReleasedPerformer(GENES, layers)
        before = resident()
        peer_train(peer, cell, None)
    else:
        encoder, head = build_encoder(cut(layers), GENES), Linear(FULL.width, FULL.bins)
        before = resident()
        our_train(encoder, head, cell, None)
    print(resident("VmHWM") - before)


def peaks(layers: int) -> dict[str, float]:
    found = {}
    for name in ("peer", "full"):
        command = [sys.executable, "-c", f"from benchmarks.encoder import peak_of; peak_of('{name}', {layers})"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = int(printed.split()[-1]) / 2**30
        print(f"peak of a training step on one cell, {layers} layers, {name:5s} {found[name]:6.2f} GiB", flush=True)
    return {"train_peak_ratio": round(found["full"] / found["peer"], 3)}


@torch.inference_mode()
def invariance(layers: int, count: int) -> dict[str, float]:
    """Return the largest relative difference of a cell's embedding over batches, orders and chunks, float32."""
    batch, worst = random_cells(count, seed=1), 0.0
    perform = cut(layers).model_copy(update={"attention": "performer", "heads": 8})
    for config in (cut(layers), cut_latent(layers), perform, PRESETS["small"]):
        model = CellLM(config, Vocabulary.human())
        together = embed(model, batch)
        others = [torch.cat([embed(model, batch[i : i + size]) for i in range(0, count, size)]) for size in (1, 5)]
        reverse = [batch[i : i + 1] for i in reversed(range(count))]
        others.append(embed(model, concatenate(reverse)).flip(0))
        order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)])
        mixed = torch.from_numpy(order.copy())
        fields = batch.genes[mixed], batch.bins[mixed], batch.values[mixed]
        others.append(embed(model, CellBatch(*fields, batch.offsets, batch.malignancy, batch.slots, batch.depths)))
        difference = max(float(((other - together).norm(dim=1) / together.norm(dim=1)).max()) for other in others)
        print(f"invariance {config.attention:10s} {config.width:4d} {difference:.1e}", flush=True)
        worst = max(worst, difference)
    return {"invariance": worst}


def embed(model: CellLM, batch: CellBatch) -> torch.Tensor:
    cls: torch.Tensor = model.encoder(batch, hidden=None, counter=None, only_cls=True).cls
    return cls


def main() -> None:
    arguments = parser(__doc__, quick="one round of each, few cells, 2 layers: a minute or two", reads_data=False)
    arguments.add_argument("--only", nargs="+", choices=("small", "invariance", "forward", "train", "peaks"))
    arguments.add_argument("--layers", type=int, help=f"cut both to so many layers (default: {FULL.layers})")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    options = arguments.parse_args()
    data_if_given(options.data)
    keep_large_blocks()
    if options.device == "cuda":
        from benchmarks.encoder_cuda import on_gpu

        print(json.dumps(on_gpu(FULL, random_cells, flops)))
        return
    wanted = options.only or ("small", "invariance", *PARTS_OF_PEER)
    if any(part in PARTS_OF_PEER for part in wanted) and importlib.util.find_spec(PEER) is None:
        fix = "Install it (pip install performer-pytorch), or name parts without it (--only small invariance)"
        raise ConfigError("the package of the peer, performer-pytorch, is missing", fix=fix)
    rounds, count = (1, QUICK_CELLS) if options.quick else (3, OURS_CELLS)
    precisions: Precisions = {"": None} if options.quick else PRECISIONS
    layers = options.layers or (QUICK_LAYERS if options.quick else FULL.layers)
    parts: dict[str, Callable[[], dict[str, float]]] = {
        "small": lambda: small(rounds, 32 if options.quick else 128, precisions),
        "invariance": lambda: invariance(layers, 6 if options.quick else 12),
        "forward": lambda: forward(rounds, (1,) if options.quick else (1, 2), layers, count, precisions),
        "train": lambda: train(rounds, layers, precisions),
        "peaks": lambda: peaks(layers),
    }
    figures: dict[str, float] = {}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name, part in parts.items():
        if name in wanted:
            figures |= part()
    print(json.dumps(figures))


if __name__ == "__main__":
    run(main)
