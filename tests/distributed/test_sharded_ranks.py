"""Two ranks that each hold half of the parameters: the gradient of one process, reduced once a step, no deadlock."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_divide_and_conquer_ranks import cells

from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.engine.sharding import gather, shard, whole
from cell_lm.errors import ConfigError
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn.encoder import Layer
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from cell_lm.objectives.ranks import cut_alike
from forked import forks_are_safe
from made_reference import made_reference

BUDGET = 120
VOCABULARY = Vocabulary(tuple(f"GENE{i:03d}" for i in range(300)), ("",) * 300)
CASES: dict[str, dict[str, Any]] = {
    "full": {"attention": "full"},
    "latent": {"attention": "latent"},
    "performer redrawn": {"attention": "performer", "step": 1500},
    "graphs kept": {"attention": "full", "keep": 2},
    "single precision": {"attention": "full", "dtype": "float32"},
    "one rank has two cells": {"attention": "full", "cut": 2},
    "labels on one rank only": {"attention": "full", "objectives": {"masked": {"weight": 0}}, "unknown": True},
    "one view": {"attention": "latent", "objectives": {"contrastive": {"weight": 0}, "reconstruction": {"weight": 0}}},
    "without contrasts": {"attention": "latent", "objectives": {"contrastive": {"weight": 0}}},
    "without the linear path": {"attention": "latent", "encoder": {"linear_path": False}},
    "accumulated": {"attention": "full", "accumulate": True},
    "frozen gene vectors": {"attention": "full", "frozen": True},
    "frozen gene vectors, graphs kept": {"attention": "latent", "frozen": True, "keep": 2},
}


def build(case: dict[str, Any]) -> CellLM:
    config = EncoderConfig.model_validate(
        {"attention": case["attention"], "width": 16, "layers": 2, "heads": 2, "head_width": 8, "feedforward": 32}
        | {"gene_width": 8, "latents": 4, "features": 16, "attended_genes": 12, "reference_genes": 64}
        | case.get("encoder", {})
    )
    objectives = ObjectivesConfig.model_validate(case.get("objectives", {}))
    model = CellLM(config, VOCABULARY, objectives, seed=1)
    model.set_reference(made_reference(len(VOCABULARY), 64, 16))
    model.to(getattr(torch, case.get("dtype", "float64")))
    with torch.no_grad():
        for parameter in model.parameters():  # correction and refinement start at zero
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    model.encoder.embedding.genes.weight.requires_grad_(not case.get("frozen"))
    return model


def batch_of(case: dict[str, Any]) -> CellBatch:
    batch = cells()
    if case.get("unknown"):
        batch.malignancy[: case.get("cut", 5)] = -1
    return batch


def steps(case: dict[str, Any], model: CellLM, batch: CellBatch) -> tuple[dict[str, float], dict[str, float]]:
    """One step (or two that are added up) and an evaluation."""
    engine = DivideAndConquer(model, model.objectives, seed=3, token_budget=BUDGET, keep=case.get("keep", 0))
    if case.get("accumulate"):
        engine.step(batch, 4, loss_scale=0.5, synchronise=False)
    losses = engine.step(batch, case.get("step", 5), loss_scale=0.5 if case.get("accumulate") else 1.0)
    return asdict(losses), asdict(engine.evaluate(batch, 7))


def gradient(model: CellLM) -> np.ndarray:
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([whole(grad).flatten() for grad in grads]).numpy()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    calls = {"reduce_scatter_single": 0}
    reduce_scatter = dist.reduce_scatter_single

    def counting(*args: Any, **settings: Any) -> Any:
        calls["reduce_scatter_single"] += 1
        return reduce_scatter(*args, **settings)

    dist.reduce_scatter_single = counting
    said: dict[str, Any] = {}
    for name, case in CASES.items():
        model, cut = build(case), case.get("cut", 5)
        mine = batch_of(case)[slice(0, cut) if rank == 0 else slice(cut, 17)]
        shard(model, torch.device("cpu"), 2)
        calls["reduce_scatter_single"] = 0
        trained, evaluated = steps(case, model, mine)
        chunks = cut_alike(mine, BUDGET // 2, None)
        said[name] = {
            "trained": trained,
            "evaluated": evaluated,
            "reductions": calls["reduce_scatter_single"],
            "units": 1 + sum(isinstance(module, Layer) for module in model.modules()),
            "chunks": [[len(chunk), chunk.tokens] for chunk in chunks],
            "held": sum(p.to_local().numel() for p in model.parameters()),
            "weights": list(gather(model.state_dict(), keep=rank == 0)),
            "without gradient": [key for key, p in model.named_parameters() if p.grad is None],
        }
        np.save(Path(folder) / f"{name}-{rank}.npy", gradient(model))
    try:
        steps(CASES["full"], model, batch_of({})[slice(0, 0) if rank == 0 else slice(0, 17)])
    except ConfigError as error:
        said["no cell"] = str(error)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    method = "fork" if forks_are_safe() else "spawn"
    mp.start_processes(work, args=(str(path),), nprocs=2, join=True, start_method=method)  # type: ignore[no-untyped-call]
    return path


@pytest.fixture(scope="module")
def said(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_shards_give_the_gradient_and_losses_of_one_process(name: str, folder: Path, said: Any) -> None:
    case = CASES[name]
    model = build(case)
    trained, evaluated = steps(case, model, batch_of(case))
    expected, tolerance = gradient(model), 1e-12 if case.get("dtype") is None else 1e-6
    assert np.linalg.norm(expected) > 0
    for rank in range(2):
        found = np.load(folder / f"{name}-{rank}.npy")
        assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)
        assert said[rank][name]["trained"] == pytest.approx(trained, rel=tolerance, nan_ok=True)
        assert said[rank][name]["evaluated"] == pytest.approx(evaluated, rel=tolerance, nan_ok=True)


def test_frozen_gene_vectors_get_no_gradient_in_any_shard(said: Any) -> None:
    for rank in range(2):
        assert said[rank]["frozen gene vectors"]["without gradient"] == ["encoder.embedding.genes.weight"]
        assert said[rank]["full"]["without gradient"] == []


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_reduced_once_a_step_and_a_unit_however_many_chunks(name: str, said: Any) -> None:
    for rank in range(2):
        assert said[rank][name]["reductions"] == said[rank][name]["units"] > 1


def test_ranks_make_equally_many_chunks_within_the_budget(said: Any) -> None:
    first, second = (said[rank]["full"]["chunks"] for rank in range(2))
    assert len(first) == len(second) > 2
    assert [sum(size for size, _ in chunks) for chunks in (first, second)] == [5, 12]
    assert all(size and (genes <= BUDGET // 2 or size == 1) for size, genes in [*first, *second])


def test_a_rank_with_too_few_cells_for_that_makes_as_many_chunks_as_it_has_cells(said: Any) -> None:
    first, second = (said[rank]["one rank has two cells"]["chunks"] for rank in range(2))
    assert [size for size, _ in first] == [1, 1]
    assert len(second) == 2
    assert sum(size for size, _ in second) == 15


def test_each_rank_holds_half_of_the_parameters_and_the_first_can_gather_them(said: Any) -> None:
    total = sum(p.numel() for p in build(CASES["full"]).parameters())
    held = [said[rank]["full"]["held"] for rank in range(2)]
    assert sum(held) == total
    assert max(held) < 0.51 * total
    assert said[0]["full"]["weights"] == list(build(CASES["full"]).state_dict())
    assert said[1]["full"]["weights"] == []


def test_a_rank_without_a_cell_is_refused_on_all_ranks(said: Any) -> None:
    assert said[0]["no cell"] == said[1]["no cell"]
    assert said[0]["no cell"].startswith("1 of 2 ranks hold no cell of the batch")
