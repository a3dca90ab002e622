"""A run is extended, or shortened, when it is resumed with another number of steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell_lm.config import GraphMAEConfig
from cell_lm.engine.schedule import learning_rate
from cell_lm.genes.vectors import GeneVectors
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.folder import KIND
from cell_lm.pretraining.gene_run import FEATURES, pretrain_genes
from community_network import community_network
from toy_run import after, rows, same, tensors, toy_cells, toy_config

CONSTANT = {"warmup": 0.0, "final_rate": 1.0}
GENES = GraphMAEConfig(
    dim=8, hidden=16, steps=10, window=3, pairs=64, checkpoint_every=5, learning_rate=0.01, **CONSTANT
)


def run(path: Path, steps: int, *, resume: bool = False, stop: Any = None, **training: Any) -> Any:
    return pretrain([toy_cells()], toy_config(steps=steps, **training), path, resume=resume, stop=stop, progress=False)


def notes(path: Path) -> list[str]:
    return [row["message"] for row in rows(path, "note")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 steps at once, at a constant learning rate."""
    path = tmp_path_factory.mktemp("whole") / "run"
    run(path, 12, **CONSTANT)
    return path


@pytest.mark.parametrize("cut", [None, 5], ids=["finished", "interrupted"])
def test_an_extended_run_is_to_the_bit_the_one_that_was_that_long_from_the_start(
    tmp_path: Path, whole: Path, cut: int | None
) -> None:
    first = run(tmp_path / "run", 8, stop=after(cut) if cut else None, **CONSTANT)
    assert first.steps == (cut or 8)
    result = run(tmp_path / "run", 12, resume=True, **CONSTANT)
    assert (result.steps, result.resumed_from, result.interrupted) == (12, first.steps, False)
    assert same(tensors(tmp_path / "run", 12), tensors(whole, 12))
    assert rows(tmp_path / "run", "train") == rows(whole, "train")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["steps"] == 12
    assert "training.steps was 8, now 12" in notes(tmp_path / "run")
    assert f"after step {first.steps} the learning rate is that of a run of 12 steps" in notes(tmp_path / "run")


def test_the_learning_rate_after_an_extension_is_that_of_the_new_length(tmp_path: Path) -> None:
    run(tmp_path / "run", 8)
    run(tmp_path / "run", 12, resume=True)
    rates = [row["learning_rate"] for row in rows(tmp_path / "run", "train")]
    old, new = toy_config(steps=8).training, toy_config(steps=12).training
    assert rates == [*(learning_rate(n, old) for n in range(8)), *(learning_rate(n, new) for n in range(8, 12))]


def test_an_extension_holds_out_the_same_cells(tmp_path: Path, whole: Path) -> None:
    run(tmp_path / "run", 8, **CONSTANT)
    before = (tmp_path / "run" / "data.json").read_bytes()
    run(tmp_path / "run", 12, resume=True, **CONSTANT)
    assert (tmp_path / "run" / "data.json").read_bytes() == before == (whole / "data.json").read_bytes()
    ours, theirs = (rows(path, "valid") for path in (tmp_path / "run", whole))
    assert ours == theirs


def test_a_shortened_run_ends_earlier(tmp_path: Path, whole: Path) -> None:
    run(tmp_path / "run", 20, stop=after(5), **CONSTANT)
    result = run(tmp_path / "run", 12, resume=True, **CONSTANT)
    assert (result.steps, result.exit_code) == (12, 0)
    assert same(tensors(tmp_path / "run", 12), tensors(whole, 12))


@pytest.mark.parametrize("steps", [3, 7])
def test_a_run_of_no_more_steps_than_are_done_is_finished_as_it_stands(tmp_path: Path, steps: int) -> None:
    run(tmp_path / "run", 12, stop=after(7))
    before = tensors(tmp_path / "run", 7)
    result = run(tmp_path / "run", steps, resume=True)
    assert (result.steps, result.train, result.interrupted, result.exit_code) == (7, None, False, 0)
    assert same(tensors(tmp_path / "run", 7), before)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["steps"] == 7
    assert "7 of 7 steps" in (tmp_path / "run" / "model" / "README.md").read_text()
    found = "3 steps were asked for, and 7 are done: the run is finished as it stands"
    assert (found in notes(tmp_path / "run")) == (steps == 3)


def test_the_number_of_steps_is_no_part_of_what_a_checkpoint_was_made_under() -> None:
    assert KIND.hash(toy_config(steps=8)) == KIND.hash(toy_config(steps=12)) != KIND.hash(toy_config(seed=1))


def test_gene_vectors_are_extended_to_the_bits_of_the_longer_run(tmp_path: Path) -> None:
    network, _ = community_network()
    longer = GENES.model_copy(update={"steps": 16})
    whole = pretrain_genes([network], longer, tmp_path / "whole", progress=False)
    short = pretrain_genes([network], GENES, tmp_path / "run", progress=False)
    result = pretrain_genes([network], longer, tmp_path / "run", resume=True, progress=False)
    assert (short.run.steps, result.run.steps, result.run.resumed_from) == (10, 16, 10)
    assert whole.vectors is not None
    assert result.vectors is not None
    np.testing.assert_array_equal(result.vectors.values, whole.vectors.values)
    assert GeneVectors.load(result.path).about["settings"] == whole.vectors.about["settings"]
    assert short.vectors is not None
    assert not np.array_equal(short.vectors.values, result.vectors.values)


def test_vectors_of_an_earlier_length_are_not_taken_for_those_of_the_extended_run(tmp_path: Path) -> None:
    """An extension that was killed between its last checkpoint and its vectors."""
    network, _ = community_network()
    short = pretrain_genes([network], GENES, tmp_path, progress=False)
    earlier = short.path.read_bytes()
    longer = GENES.model_copy(update={"steps": 16})
    extended = pretrain_genes([network], longer, tmp_path, resume=True, progress=False)
    short.path.write_bytes(earlier)
    again = pretrain_genes([network], longer, tmp_path, resume=True, progress=False)
    assert extended.vectors is not None
    assert again.vectors is not None
    np.testing.assert_array_equal(again.vectors.values, extended.vectors.values)


def test_gene_vectors_of_an_interrupted_run_can_be_had_as_it_stands(tmp_path: Path) -> None:
    network, _ = community_network()
    cut = pretrain_genes([network], GENES, tmp_path, stop=after(7), progress=False)
    assert (cut.vectors, cut.run.steps, cut.run.interrupted) == (None, 7, True)
    assert (tmp_path / FEATURES).is_file()
    result = pretrain_genes([network], GENES.model_copy(update={"steps": 2}), tmp_path, resume=True, progress=False)
    assert result.vectors is not None
    assert result.run.steps == 7
    assert result.vectors.about["settings"]["steps"] == 7  # type: ignore[index, call-overload]
    assert not (tmp_path / FEATURES).exists()


def test_a_model_can_be_read_from_an_extended_run(tmp_path: Path) -> None:
    run(tmp_path / "run", 4)
    run(tmp_path / "run", 6, resume=True)
    weights = tensors(tmp_path / "run", 6)
    model = CellLM.from_pretrained(tmp_path / "run").state_dict()
    assert all(np.array_equal(model[name].numpy(), weights[name]) for name in model)
