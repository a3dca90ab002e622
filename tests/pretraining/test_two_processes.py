"""Two processes (gloo) train as one does, in shards or not; another number of them goes on; none outlives another."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell_lm.pretraining import pretrain
from toy_run import after, finish, rows, start, tensors, toy_cells, toy_config

SCRIPT = """
import os, signal
from cell_lm.errors import CellLMError
from cell_lm.pretraining import pretrain

out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
said = {}

def run(name, *, cells=None, progress=False, stop=None, resume=False, initial=None, **training):
    cells, config = [toy_cells()] if cells is None else cells, toy_config(**training)
    return pretrain(cells, config, out / name, initial=initial, progress=progress, stop=stop, resume=resume)

def refused(*args, **settings):
    try:
        run(*args, **settings)
    except CellLMError as error:
        return [type(error).__name__, str(error)]

def leave():
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(steps):
    asked = after(steps)
    return lambda: asked() and leave()

said["trained"] = run("run", progress=True).train["total"]
said["stopped after"] = run("stopped", stop=after(5) if rank else None).steps
said["occupied"] = refused("run")
said["resumed in shards"] = run("stopped", resume=True, sharding="full").train["total"]
said["sharded"] = run("sharded", sharding="full").train["total"]
said["shards stopped after"] = run("from shards", sharding="full", stop=after(6)).steps
said["begun alone"] = run("begun alone", resume=True).train["total"]
said["begun alone in shards"] = run("begun alone too", resume=True, sharding="full").train["total"]
said["open"] = run("open", token_budget="auto", retain_graphs="auto", memory="64GB").train["total"]
cut = {"token_budget": "auto", "retain_graphs": "auto"}
said["open in shards"] = run("open in shards", sharding="full", **cut).train["total"]
said["extended"] = run("extended", resume=True, steps=12).steps
said["from a model"] = run("from a model", initial=out / "alone").train["total"]
said["frozen"] = run("frozen", freeze_gene_vectors=True).train["total"]
said["frozen in shards"] = run("frozen in shards", freeze_gene_vectors=True, sharding="full").train["total"]
said["different"] = refused("nowhere", seed=rank)
said["no cells on rank 1"] = refused("nowhere", cells=[] if rank else None)
said["lost"] = None
(out / f"rank{rank}.json").write_text(json.dumps(said))
said["lost"] = refused("lost", stop=die_after(6) if rank else None)
(out / f"rank{rank}.json").write_text(json.dumps(said))
"""


def numbers(row: dict[str, Any]) -> dict[str, float]:
    names = {"total", "masked", "discrimination", "contrastive", "masked_accuracy", "learning_rate", "norm"}
    return {name: row[name] for name in names & row.keys()}


def same_losses(run: Path, other: Path) -> None:
    ours, theirs = rows(run), rows(other)
    assert [(row["kind"], row["step"]) for row in ours] == [(row["kind"], row["step"]) for row in theirs]
    for mine, its in zip(ours, theirs, strict=True):
        assert numbers(mine) == pytest.approx(numbers(its), rel=1e-5), mine["step"]


def launch(script: str, folder: Path) -> list[tuple[int, str, str]]:
    """Start two processes as a launcher does, and wait for them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    ranks = [start(script, folder, env=common | {"RANK": str(i), "LOCAL_RANK": str(i)}, anew=True) for i in range(2)]
    return [finish(process) for process in ranks]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that two processes did, one thing after the other, in one pair of them."""
    folder = tmp_path_factory.mktemp("together")
    alone = pretrain([toy_cells()], toy_config(), folder / "alone", progress=False)
    pretrain([toy_cells()], toy_config(freeze_gene_vectors=True), folder / "frozen alone", progress=False)
    pretrain([toy_cells()], toy_config(), folder / "begun alone", progress=False, stop=after(5))
    shutil.copytree(folder / "begun alone", folder / "begun alone too")
    pretrain([toy_cells()], toy_config(steps=7), folder / "extended", progress=False)
    pretrain([toy_cells()], toy_config(), folder / "from a model alone", initial=folder / "alone", progress=False)
    ended = launch(SCRIPT, folder)
    assert all((folder / f"rank{rank}.json").is_file() for rank in range(2)), ended
    said = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    return {"folder": folder, "alone": alone.train["total"], "ended": ended, "said": said}  # type: ignore[union-attr]


@pytest.mark.parametrize("run", ["run", "sharded"])
def test_two_processes_train_as_one_does(run: str, together: dict[str, Any]) -> None:
    same_losses(together["folder"] / run, together["folder"] / "alone")


def test_two_processes_extend_what_one_has_finished(together: dict[str, Any]) -> None:
    assert [said["extended"] for said in together["said"]] == [12, 12]
    assert [row["step"] for row in rows(together["folder"] / "extended", "train")] == list(range(1, 13))


def test_two_processes_begin_from_a_model_as_one_does(together: dict[str, Any]) -> None:
    same_losses(together["folder"] / "from a model", together["folder"] / "from a model alone")


@pytest.mark.parametrize("run", ["frozen", "frozen in shards"])
def test_frozen_gene_vectors_stay_frozen_in_two_processes(run: str, together: dict[str, Any]) -> None:
    same_losses(together["folder"] / run, together["folder"] / "frozen alone")
    name = "encoder.embedding.genes.weight"
    ours, theirs, trained = (tensors(together["folder"] / path, 12) for path in (run, "frozen alone", "run"))
    assert np.array_equal(ours[name], theirs[name])
    assert not np.array_equal(ours[name], trained[name])
    assert not [key for key in ours if key.startswith(f"optimizer/{name}")]
    assert ours.keys() == theirs.keys()


def test_only_the_first_one_speaks(together: dict[str, Any]) -> None:
    (_, _, first), (_, _, second) = together["ended"]
    assert first.count("step 12/12") == 1
    assert second == ""


def test_one_asked_to_stop_stops_both(together: dict[str, Any]) -> None:
    for said in together["said"]:
        assert (said["stopped after"], said["shards stopped after"]) == (5, 6)


@pytest.mark.parametrize("run", ["resumed in shards", "begun alone", "begun alone in shards"])
def test_another_number_of_processes_or_shards_goes_on_with_the_same_losses(run: str, together: dict[str, Any]) -> None:
    for said in together["said"]:
        assert said[run] == pytest.approx(together["alone"], rel=1e-5)
    folder = {"resumed in shards": "stopped", "begun alone in shards": "begun alone too"}.get(run, run)
    same_losses(together["folder"] / folder, together["folder"] / "alone")


@pytest.mark.parametrize("run", ["open", "open in shards"])
def test_two_processes_settle_together_how_steps_are_cut(run: str, together: dict[str, Any]) -> None:
    for said in together["said"]:
        assert said[run] == pytest.approx(together["alone"], rel=1e-4)
    assert json.loads((together["folder"] / run / "config.json").read_text())["training"]["token_budget"] == 65536


def test_one_process_goes_on_with_what_two_left_in_shards(together: dict[str, Any]) -> None:
    folder = together["folder"]
    pretrain([toy_cells()], toy_config(), folder / "from shards", progress=False, resume=True)
    same_losses(folder / "from shards", folder / "alone")


def test_a_checkpoint_of_shards_is_that_of_one_process(together: dict[str, Any]) -> None:
    one, two = (tensors(together["folder"] / run, 12) for run in ("alone", "sharded"))
    assert {name: x.shape for name, x in one.items()} == {name: x.shape for name, x in two.items()}
    whole = np.concatenate([x.ravel() for x in one.values()])
    gathered = np.concatenate([two[name].ravel() for name in one])
    assert np.linalg.norm(gathered - whole) <= 1e-3 * np.linalg.norm(whole)


@pytest.mark.parametrize(
    ("what", "kinds", "found"),
    [
        ("occupied", ["InputError", "OtherRankError"], "the folder holds a run already"),
        ("different", ["ConfigError", "OtherRankError"], "were given different settings or cells"),
        ("no cells on rank 1", ["OtherRankError", "InputError"], "no datasets"),
    ],
)
def test_what_is_refused_is_refused_on_both_and_said_once(
    what: str, kinds: list[str], found: str, together: dict[str, Any]
) -> None:
    said = [ranks[what] for ranks in together["said"]]
    assert [kind for kind, _ in said] == kinds
    failed = kinds.index("InputError" if "InputError" in kinds else "ConfigError")
    assert found in said[failed][1]
    assert said[1 - failed][1] == f"rank {failed} stopped: {said[failed][1]}"
    assert not (together["folder"] / "nowhere").exists()


def test_a_killed_process_ends_the_other_with_one_error_and_the_run_goes_on(together: dict[str, Any]) -> None:
    folder = together["folder"]
    assert [code for code, _, _ in together["ended"]] == [0, -9]
    kind, message = together["said"][0]["lost"]
    assert kind == "TrainingError"
    assert message.startswith("another process of the run ended, or was silent for 600 s (")
    assert ".cc" not in message
    assert f"the checkpoint of step 4 in {folder / 'lost'} is good" in message
    assert "--resume" in message
    pretrain([toy_cells()], toy_config(), folder / "lost", progress=False, resume=True)
    same_losses(folder / "lost", folder / "alone")
