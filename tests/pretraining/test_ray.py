"""Two workers of a Ray on this machine; left out where the extra is not installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from test_two_processes import same_losses

from cell_lm.errors import ConfigError
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.ray import _lost, pretrain_on_ray
from toy_run import finish, start, toy_cells, toy_config

installed = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")

SCRIPT = """
import ray
from cell_lm.errors import ConfigError
from cell_lm.pretraining.ray import pretrain_on_ray

out = Path(sys.argv[1])
ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)

result = pretrain_on_ray(lambda: [toy_cells()], toy_config(), out / "ray", workers=2)
said = {"trained": result.train["total"], "steps": result.steps, "path": str(result.path)}
try:
    pretrain_on_ray(lambda: [toy_cells()], toy_config(), out / "nowhere", workers=3)
except ConfigError as error:
    said["too many"] = str(error)
said["still there"] = ray.is_initialized()
(out / "said.json").write_text(json.dumps(said))
ray.shutdown()
"""


@installed
@pytest.mark.slow
def test_workers_of_ray_train_as_one_process_does(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    # Ray would kill its workers where other programs fill the machine's memory
    # and they yield to all other programs unless told otherwise, for minutes on a busy machine
    env = {"PYTHONPATH": ":".join([here, *sys.path]), "RAY_memory_monitor_refresh_ms": "0", "RAY_worker_niceness": "0"}
    code, _, err = finish(start(SCRIPT, tmp_path, env=env, anew=True))
    assert code == 0, err
    said = json.loads((tmp_path / "said.json").read_text())
    alone = pretrain([toy_cells()], toy_config(), tmp_path / "alone", progress=False)
    assert alone.train is not None
    same_losses(tmp_path / "ray", tmp_path / "alone")
    assert said["trained"] == pytest.approx(alone.train["total"], rel=1e-5)
    assert (said["steps"], said["path"]) == (12, str(tmp_path / "ray"))
    assert "3 workers were asked for, and Ray has 2 CPUs" in said["too many"]
    assert said["still there"]
    assert {path.name for path in tmp_path.iterdir()} == {"ray", "alone", "said.json"}


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'cell-lm\[ray\]'"):
        pretrain_on_ray(lambda: [toy_cells()], toy_config(), tmp_path / "run", workers=2)
    assert not (tmp_path / "run").exists()


def test_a_lost_worker_is_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    said = "Training failed:\n[Rank 1 Error Snippet]:\n  ActorDiedError: The actor died unexpectedly\n"
    error = _lost(RuntimeError(said), tmp_path)
    assert str(error).startswith(
        f"{tmp_path}: a worker of Ray was lost (ActorDiedError: The actor died unexpectedly). "
    )
    assert "--resume" in str(error)
    assert "(ValueError)" in str(_lost(ValueError(""), tmp_path))
