"""Tables on a terminal."""

from __future__ import annotations

import re

import pytest

from cell_lm.cli.console import Messages

HEADER = ["source", "cells", "few genes", "mito", "twice", "kept", "normal", "tumour", "unknown", "genes"]
NUMBERS = ["1,557", "0", "0", "0", "1,557", "0", "0", "1,557", "15,553"]


def shown(name: str, numbers: list[str], columns: int, patch: pytest.MonkeyPatch, capsys: object) -> list[str]:
    patch.setenv("FORCE_COLOR", "1")  # how rich is told that the output is a terminal
    patch.setenv("COLUMNS", str(columns))
    Messages().table(HEADER, [[name, *numbers]], numbers=9)
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def test_a_table_of_a_store_fits_into_80_columns(monkeypatch, capsys):
    lines = shown("pancreas.h5ad", NUMBERS, 80, monkeypatch, capsys)
    assert lines[1].split() == ["source", "cells", "genes", *HEADER[3:]]
    assert lines[3].split() == ["pancreas.h5ad", *NUMBERS]
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80


def test_a_long_name_folds_and_numbers_do_not(monkeypatch, capsys):
    large = ["12,001,557", *NUMBERS[1:]]
    lines = shown("a_long_name_of_a_file.h5ad", large, 80, monkeypatch, capsys)
    assert lines[3].split() == ["a_long_name_", *large]
    assert lines[4:] == ["of_a_file.h5", "ad"]


def test_headings_stay_on_one_line_where_there_is_room(monkeypatch, capsys):
    lines = shown("pancreas.h5ad", NUMBERS, 120, monkeypatch, capsys)
    assert re.split(r"\s{2,}", lines[0]) == HEADER
    assert lines[2].split() == ["pancreas.h5ad", *NUMBERS]
