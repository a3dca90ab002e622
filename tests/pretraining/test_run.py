from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cell_lm.config import PretrainConfig
from cell_lm.errors import CellLMError, ConfigError, InputError
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from toy_run import VOCABULARY, after, rows, toy_cells, toy_config


def run(path: Path, *, cells: Any = None, config: PretrainConfig | None = None, **settings: Any) -> Any:
    return pretrain(cells or [toy_cells()], config or toy_config(), path, progress=False, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("whole") / "deep" / "run"
    datasets = [toy_cells(), toy_cells(20, seed=1, name="more", malignancy="none")]
    return path, pretrain(datasets, toy_config(), path, progress=False)


def test_the_result_says_what_was_done(whole: tuple[Path, Any]) -> None:
    path, result = whole
    assert (result.path, result.steps, result.skipped, result.resumed_from) == (path, 12, 0, None)
    assert (result.interrupted, result.signal, result.exit_code) == (False, None, 0)
    assert result.seconds > 0
    assert result.examples_per_second > 0
    assert result.train["total"] == rows(path, "train")[-1]["total"]
    assert result.validation["total"] == rows(path, "valid")[-1]["total"]
    assert result.best_validation == min(row["total"] for row in rows(path, "valid"))


def test_the_folder_holds_what_it_should(whole: tuple[Path, Any]) -> None:
    path, _ = whole
    assert {p.name for p in path.iterdir()} == {
        "config.json",
        "data.json",
        "log.jsonl",
        "tensorboard",
        "checkpoints",
        "model",
    }
    assert sorted(p.name for p in (path / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]
    values = json.loads((path / "config.json").read_text())
    del values["checksum"]
    assert PretrainConfig.model_validate(values) == toy_config()


def test_the_data_are_described(whole: tuple[Path, Any]) -> None:
    data = json.loads((whole[0] / "data.json").read_text())
    assert data["vocabulary"] == VOCABULARY.hash
    assert (data["cells"], data["training"], data["validation"]) == (68, 60, 8)
    first, second = data["datasets"]
    assert (first["name"], first["cells"], first["scale"]) == ("toy", 48, "counts")
    assert first["malignancy"] == {"normal": 24, "tumour": 24, "unknown": 0}
    assert second["malignancy"] == {"normal": 0, "tumour": 0, "unknown": 20}
    assert first["audit"]["counts"]["matched"] == 40
    assert first["hash"] != second["hash"]


def test_the_state_of_the_run_is_in_its_checkpoint(whole: tuple[Path, Any]) -> None:
    state = json.loads((whole[0] / "checkpoints" / "step-00000012" / "state.json").read_text())
    assert (state["step"], state["examples"], state["ranks"]) == (12, 96, 1)
    assert state["vocabulary"] == VOCABULARY.hash
    assert state["best_validation"] == whole[1].best_validation


def test_the_model_folder_is_that_of_the_last_checkpoint(whole: tuple[Path, Any]) -> None:
    from safetensors.torch import load_file

    model = CellLM.from_pretrained(whole[0]).state_dict()
    saved = load_file(whole[0] / "checkpoints" / "step-00000012" / "model.safetensors")
    assert model.keys() == saved.keys()
    assert all((model[name] == saved[name]).all() for name in saved)


@pytest.mark.parametrize("malignancy", ["none", "one"])
def test_cells_of_no_or_one_state_train_without_discrimination(tmp_path: Path, malignancy: str) -> None:
    result = run(tmp_path / "run", cells=[toy_cells(malignancy=malignancy)])
    assert math.isnan(result.train["discrimination"])
    assert math.isfinite(result.train["total"])
    assert rows(tmp_path / "run", "train")[-1]["discrimination"] is None
    assert sum("discrimination" in row["message"] for row in rows(tmp_path / "run", "note")) == 1


def test_a_run_is_not_begun_in_the_folder_of_another(whole: tuple[Path, Any]) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole[0].rglob("*")}
    with pytest.raises(InputError, match=r"holds a run already.*--resume"):
        run(whole[0])
    assert {p: p.stat().st_mtime_ns for p in whole[0].rglob("*")} == before


def test_a_folder_with_other_files_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose")
    with pytest.raises(InputError, match="holds other files already"):
        run(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        run(tmp_path / "thesis.txt")
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", stop=after(1)).steps == 1


@pytest.mark.parametrize(
    ("cells", "settings", "kind"),
    [
        ([], {}, InputError),
        ([toy_cells(8)], {"batch_size": 9}, ConfigError),
        ([toy_cells(1)], {}, ConfigError),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    tmp_path: Path, cells: Any, settings: Any, kind: type[CellLMError]
) -> None:
    with pytest.raises(kind):
        pretrain(cells, toy_config(**settings), tmp_path / "run", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_after_the_step_and_leaves(tmp_path: Path, number: int, code: int) -> None:
    steps = iter(range(1, 100))

    def strike() -> bool:
        if next(steps) == 5:
            os.kill(os.getpid(), number)
        return False

    former = signal.getsignal(number)
    result = run(tmp_path / "run", stop=strike)
    assert (result.steps, result.interrupted, result.signal, result.exit_code) == (5, True, number, code)
    assert (tmp_path / "run" / "checkpoints" / "step-00000005" / "manifest.json").is_file()
    assert rows(tmp_path / "run", "note")[-1]["message"] == "stopped after step 5 of 12; all is saved"
    assert signal.getsignal(number) == former


def test_being_asked_to_stop_at_the_last_step_is_no_interruption(tmp_path: Path) -> None:
    assert not run(tmp_path / "run", stop=after(12)).interrupted


def test_lines_go_to_standard_error_and_nothing_to_standard_output(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pretrain([toy_cells(malignancy="none")], toy_config(), tmp_path / "loud", stop=after(3))
    out, err = capfd.readouterr()
    assert out == ""
    assert "step 1/12: loss" in err
    assert "the discrimination objective needs both" in err
    assert "stopped after step 3 of 12" in err
    run(tmp_path / "quiet")
    assert capfd.readouterr() == ("", "")
