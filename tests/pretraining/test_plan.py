"""A run settles how its steps are cut, writes it down, and goes on by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cell_lm.config import PretrainConfig
from cell_lm.errors import ConfigError
from cell_lm.pretraining import pretrain, run
from cell_lm.pretraining.plan import adopt, forecast, is_settled
from toy_run import after, rows, tensors, toy_cells, toy_config


def open_config(**training: object) -> PretrainConfig:
    return toy_config(token_budget="auto", retain_graphs="auto", **training)


def settled(out: Path) -> dict[str, object]:
    training = json.loads((out / "config.json").read_text())["training"]
    return {name: training[name] for name in ("memory", "token_budget", "retain_graphs")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An open run that was not interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    pretrain([toy_cells()], open_config(memory="64GB"), path, progress=False)
    return path


def test_a_run_writes_down_how_it_was_cut_and_says_so(whole: Path) -> None:
    found = settled(whole)
    assert found == {"memory": 64_000_000_000, "token_budget": 65536, "retain_graphs": 1}
    notes = [row["message"] for row in rows(whole, "note")]
    assert any("chunks of at most 65,536 genes" in note for note in notes)


def test_an_open_run_gives_the_losses_of_a_settled_one(tmp_path: Path) -> None:
    pretrain([toy_cells()], open_config(), tmp_path / "open", progress=False)
    pretrain([toy_cells()], toy_config(), tmp_path / "settled", progress=False)
    for ours, theirs in zip(rows(tmp_path / "open", "train"), rows(tmp_path / "settled", "train"), strict=True):
        assert ours["total"] == pytest.approx(theirs["total"], rel=1e-4)


def test_a_resumed_run_keeps_its_cut_to_the_bit_without_measuring(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = open_config(memory="64GB")
    pretrain([toy_cells()], config, tmp_path / "cut", progress=False, stop=after(5))
    monkeypatch.setattr(run, "plan", lambda *_: pytest.fail("measured again"))
    pretrain([toy_cells()], config, tmp_path / "cut", progress=False, resume=True)
    expected, cut = tensors(whole, 12), tensors(tmp_path / "cut", 12)
    assert all((expected[name] == cut[name]).all() for name in expected)


def test_a_run_goes_on_with_other_memory(tmp_path: Path) -> None:
    pretrain([toy_cells()], open_config(memory="64GB"), tmp_path / "run", progress=False, stop=after(5))
    result = pretrain([toy_cells()], open_config(memory="32GB"), tmp_path / "run", progress=False, resume=True)
    assert (result.resumed_from, result.steps) == (5, 12)
    assert settled(tmp_path / "run")["memory"] == 32_000_000_000


def test_other_memory_is_planned_for_anew() -> None:
    before = toy_config(memory="1GB", token_budget=500, retain_graphs=3)
    assert adopt(open_config(memory="1GB"), before).training.token_budget == 500
    assert adopt(toy_config(memory="1GB", token_budget=9), before).training.token_budget == 9
    assert not is_settled(adopt(open_config(memory="2GB"), before))


def test_too_little_memory_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a step takes"):
        pretrain([toy_cells()], open_config(memory="20MB"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_forecast_tells_cells_cut_and_time() -> None:
    found = forecast([toy_cells()], open_config())
    assert (found.training_cells, found.validation_cells) == (40, 8)
    assert found.budget.chunks == 1
    assert found.seconds(100) == pytest.approx(100 * found.budget.predicted_seconds)
    assert found.budget.predicted_seconds > 0
