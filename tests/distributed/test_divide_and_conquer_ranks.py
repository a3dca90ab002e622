"""Two ranks on the CPU (gloo): the gradient of one, negatives over both, a single gradient all-reduce, no deadlock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from forked import forks_are_safe
from made_reference import made_reference

ATTENTIONS = ("full", "latent", "performer")
CUTS = (5, 0, 17)
"""Cells of rank 0 out of 17: unequal, none at all, and all."""


def cells() -> CellBatch:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 30, 17)
    genes = np.concatenate([np.sort(rng.choice(300, n, replace=False)) for n in lengths])
    bins = torch.from_numpy(rng.integers(0, 6, len(genes)))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    malignancy = torch.from_numpy(rng.integers(-1, 2, 17))
    depths = torch.from_numpy(rng.integers(500, 5000, 17).astype(np.float32))
    return CellBatch(torch.from_numpy(genes), bins, bins.float(), offsets, malignancy, torch.arange(17), depths)


def step(attention: str, batch: CellBatch) -> tuple[Any, torch.Tensor]:
    config = EncoderConfig.model_validate(
        {"attention": attention, "width": 16, "layers": 2, "heads": 2, "head_width": 8, "feedforward": 32}
        | {"gene_width": 8, "latents": 4, "features": 16, "attended_genes": 12, "reference_genes": 64}
    )
    few = ObjectivesConfig.model_validate({"masked": {"most": 2}})  # of the masked genes of a cell two are predicted
    model = CellLM(config, Vocabulary.human(), few, seed=1)
    model.set_reference(made_reference(len(model.vocabulary), 64, 16))
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():  # correction and refinement start at zero
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    losses = DivideAndConquer(model, model.objectives, seed=3, token_budget=100).step(batch, 5)
    grads = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    return losses, torch.cat(grads)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    reduced: list[int] = []
    whole = dist.all_reduce

    def counting(tensor: torch.Tensor, *args: Any, **settings: Any) -> Any:
        reduced.append(tensor.numel())
        return whole(tensor, *args, **settings)

    dist.all_reduce = counting
    for attention in ATTENTIONS:
        for cut in CUTS:
            reduced.clear()
            mine = slice(0, cut) if rank == 0 else slice(cut, 17)
            losses, gradient = step(attention, cells()[mine])
            big = [n for n in reduced if n >= gradient.numel()]
            values = [*(getattr(losses, k) for k in losses.__dataclass_fields__), len(big)]
            name = f"{attention}-{cut}-{rank}.npz"
            np.savez(Path(folder) / name, values=np.array(values, float), gradient=gradient.numpy())
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks")
    method = "fork" if forks_are_safe() else "spawn"
    mp.start_processes(work, args=(str(path),), nprocs=2, join=True, start_method=method)  # type: ignore[no-untyped-call]
    return path


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("cut", CUTS)
def test_two_ranks_give_the_gradient_and_losses_of_one(attention: str, cut: int, folder: Path) -> None:
    losses, expected = step(attention, cells())
    one = np.array([getattr(losses, k) for k in losses.__dataclass_fields__], float)
    for rank in range(2):
        two = np.load(folder / f"{attention}-{cut}-{rank}.npz")
        assert np.linalg.norm(two["gradient"] - expected.numpy()) <= 1e-12 * np.linalg.norm(expected.numpy())
        assert two["values"][:-1] == pytest.approx(one, rel=1e-12)
        assert two["values"][-1] == 1, "exactly one all-reduce of the size of the gradient"
