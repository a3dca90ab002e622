"""Two workers of a Ray on this machine; left out where the extra is not installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from test_two_processes import same_losses
from toy_run import finish, start, toy_cells, toy_config

from cell_lm.errors import ConfigError
from cell_lm.training import pretrain
from cell_lm.training.ray_launch import pretrain_on_ray

installed = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")

SCRIPT = """
import os
import ray
from cell_lm.errors import CellLMError
from cell_lm.training.ray_launch import pretrain_on_ray

out = Path(sys.argv[1])
# the functions below belong to no module that a worker could import
ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)

def dying():
    return os.kill(os.getpid(), 9) if os.environ["RANK"] == "1" else [toy_cells()]

def refused(read, workers=2):
    try:
        pretrain_on_ray(read, toy_config(), out / "nowhere", workers=workers)
    except CellLMError as error:
        return [type(error).__name__, str(error)]

result = pretrain_on_ray(lambda: [toy_cells()], toy_config(), out / "ray", workers=2)
said = {"trained": result.train.total, "steps": result.steps, "path": str(result.path)}
said["cells on one worker"] = refused(lambda: [toy_cells()][: 1 - int(os.environ["RANK"])])
said["lost"] = refused(dying)
said["too many"] = refused(lambda: [toy_cells()], workers=3)
said["still there"] = ray.is_initialized()
(out / "said.json").write_text(json.dumps(said))
ray.shutdown()
"""


@installed
@pytest.mark.slow
def test_workers_of_ray_train_as_one_process_does_and_tell_what_went_wrong(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    # Ray would kill its workers where other programs fill the machine's memory
    env = {"PYTHONPATH": ":".join([here, *sys.path]), "RAY_memory_monitor_refresh_ms": "0"}
    code, _, err = finish(start(SCRIPT, tmp_path, env=env), seconds=500)
    assert code == 0, err
    said = json.loads((tmp_path / "said.json").read_text())
    alone = pretrain([toy_cells()], toy_config(), tmp_path / "alone", progress=False)
    assert alone.train is not None
    same_losses(tmp_path / "ray", tmp_path / "alone")
    assert said["trained"] == pytest.approx(alone.train.total, rel=1e-5)
    assert (said["steps"], said["path"]) == (12, str(tmp_path / "ray"))
    kind, message = said["cells on one worker"]
    assert kind == "OtherRankError"
    assert message.startswith("rank 1 stopped: ")
    kind, message = said["lost"]
    assert kind == "TrainingError"
    assert "--resume" in message
    assert said["too many"][0] == "ConfigError"
    assert "3 workers were asked for, and Ray has 2 CPUs" in said["too many"][1]
    assert said["still there"]
    assert {path.name for path in tmp_path.iterdir()} == {"ray", "alone", "said.json"}


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'cell-lm\[ray\]'"):
        pretrain_on_ray(lambda: [toy_cells()], toy_config(), tmp_path / "run", workers=2)
    assert not (tmp_path / "run").exists()
