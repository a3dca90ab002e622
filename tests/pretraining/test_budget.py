"""Chunks and kept graphs fit the memory named, use what there is, and too little is refused with what would do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cell_lm.errors import ConfigError
from cell_lm.pretraining import budget as module
from cell_lm.pretraining.budget import BUSY, SLACK, Budget, Work, find_budget, free_memory
from cell_lm.pretraining.footprint import Footprint

MEGA = 1_000_000
COST = Footprint(
    chunk_bytes=5 * MEGA,
    bytes_per_gene=6000,
    first_seconds_per_gene=1e-6,
    replay_seconds_per_gene=3e-6,
    contrast_seconds=1e-9,
)
WORK = Work(cells=1000, genes=MEGA, longest=3000, all_cells=1000, width=128, views=2, held=500 * MEGA)


def find(limit: float, **changes: int) -> Budget:
    return find_budget(COST, WORK, int(limit), "cpu", **changes)


@pytest.mark.parametrize("limit", [0.56e9, 0.6e9, 1e9, 2e9, 5e9, 1e11])
def test_what_is_predicted_fits(limit: float) -> None:
    found = find(limit)
    assert found.predicted_bytes <= limit
    assert found.token_budget <= BUSY["cpu"]


def test_more_memory_keeps_more_graphs_and_takes_less_time() -> None:
    found = [find(limit) for limit in (1e9, 2e9, 4e9, 1e11)]
    assert [one.retain_graphs for one in found] == sorted({one.retain_graphs for one in found})
    assert [one.predicted_seconds for one in found] == sorted((one.predicted_seconds for one in found), reverse=True)
    assert found[-1].retain_graphs == found[-1].chunks


def test_memory_left_over_is_not_left_unused() -> None:
    found = find(2e9)
    graph = SLACK["cpu"] * COST.bytes_per_gene * found.token_budget / 2
    assert 0 < found.retain_graphs < found.chunks
    assert 2e9 - found.predicted_bytes < graph


def test_the_time_saved_is_the_first_pass_of_the_chunks_kept() -> None:
    none, every = find(1e11, keep=0), find(1e11)
    assert none.predicted_seconds - every.predicted_seconds == pytest.approx(COST.first_seconds_per_gene * WORK.genes)
    contrast = COST.contrast_seconds * (2 * 1000) ** 2
    assert every.predicted_seconds == pytest.approx(COST.replay_seconds_per_gene * WORK.genes + contrast)


def test_little_memory_cuts_smaller_chunks_down_to_the_longest_cell() -> None:
    found = find(0.56e9)
    assert found.token_budget < BUSY["cpu"]
    assert found.token_budget // 2 >= WORK.longest


def test_too_little_memory_says_how_much_would_do() -> None:
    with pytest.raises(
        ConfigError, match=r"0\.51 GB of memory, and a step takes 0\.55 GB at least.*3,000 genes.*--memory"
    ):
        find(0.51e9)
    assert find(0.56e9).predicted_bytes <= 0.56e9


def test_what_the_user_settled_is_kept() -> None:
    assert find(1e9, token_budget=4096).token_budget == 4096
    assert find(0.4e9, token_budget=4096, keep=7).retain_graphs == 7


def test_kept_graphs_that_the_user_settled_leave_smaller_chunks() -> None:
    for keep in (1, 5, 8):
        found = find(0.8e9, keep=keep)
        assert found.retain_graphs == keep
        assert found.predicted_bytes <= 0.8e9


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 8000

    monkeypatch.setattr(module.psutil, "virtual_memory", Memory)
    monkeypatch.setattr(module, "_container_limit", lambda: None)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert free_memory(torch.device("cpu")) == 8000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(torch.device("cpu")) == 2000
    monkeypatch.setattr(module, "_container_limit", lambda: 4000)
    assert free_memory(torch.device("cpu")) == 1000


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "1000\n", "memory.current": "400\n"}, 600),
        ({"memory.max": "max\n", "memory.current": "400\n"}, None),
        ({"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "1500"}, 0),
        ({"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory/memory.usage_in_bytes": "1"}, None),
        (
            {
                "memory.max": "1000",
                "memory.current": "900",
                "memory.stat": "active_file 200\ninactive_file 300\nanon 400",
            },
            600,
        ),
        ({"job/memory.max": "500", "job/memory.current": "100", "memory.max": "max", "memory.current": "1"}, 400),
        ({"memory.max": "300", "memory.current": "100", "job/memory.max": "500", "job/memory.current": "100"}, 200),
        ({}, None),
    ],
)
def test_the_limit_of_a_container_counts(files: dict[str, str], left: int | None, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    groups = tmp_path / "groups"
    groups.write_text("9:name=systemd:/\n8:memory:/\n0::/job\n")
    assert module._container_limit(tmp_path, groups) == left
    assert module._container_limit(tmp_path, tmp_path / "not Linux") is None
