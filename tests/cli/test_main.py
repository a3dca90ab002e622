from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any, NoReturn

import pytest
from typed import Cli, shell

from cell_lm._version import __version__
from cell_lm.cli import console
from cell_lm.config import PRESETS
from cell_lm.errors import InputError, OtherRankError

VERBS = [
    ("demo",),
    ("download",),
    ("check",),
    ("prepare",),
    ("inspect",),
    ("pretrain",),
    ("embed",),
    ("annotate", "fit"),
    ("annotate", "predict"),
    ("annotate", "explain"),
    ("malignancy", "fit"),
    ("malignancy", "predict"),
    ("report",),
]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let ``cell-lm report`` meet an error."""

    def fail(*arguments: Any, **named: Any) -> NoReturn:
        raise error

    monkeypatch.setattr("cell_lm.cli.outputs.refuse_output_file", fail)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_every_option(cli: Cli, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = cli(*verb, "--help")
    assert said.code == 0
    assert f"cell-lm {' '.join(verb)}" in said.out
    for line in said.out.splitlines():
        if line.startswith(("│ --", "│ *  --")):
            words = line.strip("│ *").split("  ")
            assert len([word for word in words if word.strip()]) >= 2, line


def test_help_names_every_verb_and_an_example_of_each(cli: Cli) -> None:
    out = cli("--help").out
    for verb in VERBS:
        assert f"cell-lm {' '.join(verb)}" in out or verb == ("report",), verb
    assert cli().out == out


def test_help_names_every_preset(cli: Cli) -> None:
    out = cli("pretrain", "--help").out
    assert all(preset in out for preset in PRESETS)


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys; from cell_lm.cli import main\n"
        "main(['--help']); main(['pretrain', '--help']); main(['--version'])\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'anndata', 'scanpy', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_package() -> None:
    assert shell("--version") == (0, f"cell-lm {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "names", "verb"),
    [
        (["chekc"], "chekc", "cell-lm"),
        (["pretrain", "a.h5ad"], "--out", "cell-lm pretrain"),
        (["pretrain", "--out", "run"], "name at least one file", "cell-lm pretrain"),
        (["pretrain", "a.h5ad", "--out", "run", "--steps", "many"], "--steps", "cell-lm pretrain"),
        (["pretrain", "a.h5ad", "--out", "run", "--input", "tpm"], "tpm", "cell-lm pretrain"),
        (["embed", "a.h5ad", "--model", "run", "--keys", "X"], "--keys", "cell-lm embed"),
        (["report", "run", "--label", "cell_type"], "--cells", "cell-lm report"),
        (["annotate"], "command", "cell-lm annotate"),
    ],
)
def test_a_command_that_cannot_be_understood_exits_2_in_one_line(
    cli: Cli, words: list[str], names: str, verb: str
) -> None:
    said = cli(*words)
    assert said.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert names in said.error
    assert said.error.endswith(f"See {verb} --help")


def test_an_error_is_one_line_whatever_a_name_holds(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, InputError("obs has\nno '\x1b[31m[bold]x'", where="a " + "very " * 60 + "long name"))
    said = cli("report", "run")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "\x1b" not in said.err
    assert "[bold]x" in said.error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (PermissionError(13, "Permission denied", "/data/x.h5ad"), 1, "/data/x.h5ad: Permission denied"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("odd"), 70, f"cell-lm {__version__} has a fault (KeyError: 'odd'). Please report it"),
    ],
)
def test_other_errors_are_one_line_too(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    fail_with(monkeypatch, error)
    said = cli("report", "run")
    assert said.code == code
    assert said.err.count("\n") == 1
    assert says in said.error


def test_debug_adds_the_traceback_wherever_it_stands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyError("odd"))
    for words in (["--debug", "report", "run"], ["report", "run", "--debug"]):
        said = cli(*words)
        assert said.code == 70
        assert "Traceback" in said.err
        assert "error: cell-lm" in said.err


def test_quiet_holds_notes_back_but_not_results(capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        says = console.Messages(quiet=quiet)
        says.result("a result")
        says.note("a note")
        assert capfd.readouterr() == ("a result\n", "" if quiet else "a note\n")


def test_only_the_first_of_several_processes_speaks(
    cli: Cli, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    says = console.Messages()
    says.result("a result")
    says.note("a note")
    says.table(["a"], [["b"]])
    assert capfd.readouterr() == ("", "")
    fail_with(monkeypatch, OtherRankError(0, "said already"))
    assert cli("report", "run") == (1, "", "")
    fail_with(monkeypatch, InputError("no such file", where="a.h5ad"))
    assert cli("report", "run").err == "rank 1: error: a.h5ad: no such file\n"


def test_piped_tables_are_neither_folded_nor_cut(capfd: pytest.CaptureFixture[str]) -> None:
    console.Messages().table(["gene", "cells"], [["A" * 150, "7"], ["B", "1,000"]], numbers=1)
    lines = [line.rstrip() for line in capfd.readouterr().out.splitlines()]
    assert lines[1].split() == ["A" * 150, "7"]
    assert len(lines) == 3
    assert lines[1].endswith("    7")


def test_a_reader_that_goes_away_ends_it_without_a_word() -> None:
    code = (
        "import sys; from cell_lm.cli import console, main\n"
        "import cell_lm.cli.outputs as outputs\n"
        "def talk(*a, **k):\n"
        "    for _ in range(100_000): console.Messages().result('a line')\n"
        "outputs.refuse_output_file = talk\n"
        "sys.exit(main(['report', 'run']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_sigterm_unwinds_and_exits_143(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def wait(*arguments: Any, **named: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            unwound.append(True)

    monkeypatch.setattr("cell_lm.cli.outputs.refuse_output_file", wait)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as leaving:
        cli("report", "run")
    assert leaving.value.code == 143
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_output_that_is_piped_has_no_colour() -> None:
    said = shell("no such verb")
    assert said.code == 2
    assert "\x1b" not in said.err


def test_a_name_that_the_encoding_does_not_know_comes_out_escaped() -> None:
    code = (
        "from cell_lm.cli import console, main\n"
        "import cell_lm.cli.outputs as outputs\n"
        "def talk(*a, **k):\n"
        "    console.Messages().result('a – b')\n"
        "    raise FileNotFoundError(2, 'not there', 'no – run')\n"
        "outputs.refuse_output_file = talk\n"
        "main(['report', 'run'])"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "a \\u2013 b\n"
    assert "no \\u2013 run" in done.stderr
