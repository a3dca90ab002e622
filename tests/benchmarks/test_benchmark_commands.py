"""The command line of every benchmark and study: help, and one line where a folder or a package is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from cell_lm.errors import CellLMError, ConfigError, InputError

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
import benchmarks
from benchmarks import options

ROOT = Path(benchmarks.__file__).parents[1]
MODULES = [f"benchmarks.{name}" for name in benchmarks.COMMANDS]
STUDIES = ["studies.batch_size", "studies.gene_inputs", "studies.gene_vectors"]
READS = ["annotation", "attribution", "divide_and_conquer", "evaluation", "rivals"]


def refused(module: str, *arguments: str, patch: pytest.MonkeyPatch) -> str:
    """Return the one line that a benchmark ends with."""
    patch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit) as ended:
        options.run(importlib.import_module(module).main)
    assert isinstance(ended.value.code, str), "the exit code is not 1"
    assert "\n" not in ended.value.code
    return ended.value.code


def test_every_file_that_can_be_run_is_named_as_a_command() -> None:
    run = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert run == set(benchmarks.COMMANDS)
    assert not [path for path in (ROOT / "benchmarks" / "parts").glob("*.py") if "__main__" in path.read_text()]


@pytest.mark.parametrize("module", [*MODULES, *STUDIES])
def test_help_names_data_and_quick(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "--data DATA" in said
    assert "--quick" in said
    assert f"python -m {module}" in said


@pytest.mark.parametrize("module", [*MODULES, *STUDIES])
def test_a_folder_that_is_not_there_is_one_line(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused(module, "--quick", "--data", "nowhere", patch=monkeypatch)
    assert said == "nowhere: no such folder. Give --data the folder that holds cells/, drug/ and genes/."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", [*(f"benchmarks.{name}" for name in READS), *STUDIES])
def test_the_folder_of_the_cells_themselves_is_answered_with_its_parent(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = tmp_path / "cells"
    cells.mkdir()
    said = refused(module, "--data", str(cells), patch=monkeypatch)
    assert said.startswith(f"{cells}: ")
    assert "missing: " in said
    assert said.endswith(f"Give --data its parent, {tmp_path}.")


@pytest.mark.parametrize("module", ["benchmarks.annotation", "benchmarks.attribution", "benchmarks.rivals", *STUDIES])
def test_without_data_that_it_needs_a_benchmark_says_so(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no data were given" in refused(module, patch=monkeypatch)


@pytest.mark.parametrize(
    ("module", "option"), [("loading", "--store"), ("streaming", "--store"), ("large_store", "--out")]
)
def test_a_store_is_asked_for_by_its_option(module: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"Give {option}, or run with --quick alone" in refused(f"benchmarks.{module}", patch=monkeypatch)


@pytest.mark.parametrize(
    ("module", "package"),
    [("loading", "scdataset"), ("encoder", "performer-pytorch"), ("divide_and_conquer", "sentence-transformers")],
)
def test_a_missing_package_is_named_before_any_work(module: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = refused(f"benchmarks.{module}", "--quick", patch=monkeypatch)
    assert "pip install" in said
    assert package in said


def test_as_a_command_a_wrong_folder_ends_with_one_line_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.threads", "--data", str(tmp_path / "x")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'x'}: no such folder. Give --data the folder that holds cells/, drug/ and genes/."
    ]


def test_a_folder_with_all_that_is_needed_is_returned(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a.h5ad").touch()
    assert options.data_folder(tmp_path) == options.data_folder(tmp_path, ["cells/a.h5ad"]) == tmp_path
    with pytest.raises(
        InputError, match=r"2 of 3 files or folders are missing: cells/b\.h5ad, genes/m\.parquet\. Give"
    ):
        options.data_folder(tmp_path, ["cells/a.h5ad", "cells/b.h5ad", "genes/m.parquet"])
    with pytest.raises(InputError, match="is not a folder"):
        options.data_folder(tmp_path / "cells" / "a.h5ad")
    with pytest.raises(ConfigError, match="no data were given"):
        options.data_folder(None)
    assert options.data_if_given(None) is None


def test_an_error_that_is_not_of_ours_is_not_hidden() -> None:
    def fails() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        options.run(fails)

    def refuses() -> None:
        raise CellLMError("found", where="here", fix="Do this")

    with pytest.raises(SystemExit, match=r"here: found\. Do this\."):
        options.run(refuses)
