from __future__ import annotations

import json

import pytest

from cell_lm.cli.console import as_json
from cell_lm.terminal import escaped, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("T cell, CD4+ ä 細胞", "T cell, CD4+ ä 細胞"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("a\u202etxt.exe", "a\\u202etxt.exe"),
        ("\u2066isolated\u2069", "\\u2066isolated\\u2069"),
        ("bell\x07 delete\x7f", "bell\\u0007 delete\\u007f"),
        ("tag \U000e0041", "tag \\udb40\\udc41"),
        ("\udc80", "\\udc80"),
        ("20.9\u00a0MB", "20.9 MB"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert escaped(text) == one_line(text) == shown
    assert shown.isprintable()


def test_lines_are_joined_to_one() -> None:
    assert one_line("a\n  b\r\nc\u2028d") == "a b c d"


def test_json_shows_every_character_and_reads_back_as_it_was() -> None:
    value = {"label \u202e": ["\x1b[31m", "ä", "a\u2028b", "\U000e0041", "new\nline"], "n": 1.5}
    shown = as_json(value)
    assert json.loads(shown) == value
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "ä" in shown
