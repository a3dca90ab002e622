"""Small files of JSON and TOML: whatever they hold, they are read within bounds or refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cell_lm.errors import InputError, ModelError
from cell_lm.reading import (
    UnreadableError,
    parse_json,
    parse_toml,
    read_json,
    read_json_object,
    read_toml,
    refuse_irregular,
    refuse_other_format,
)


def test_what_is_json_is_read():
    assert parse_json('{"a": [1, -2.5, null, true, "é"]}') == {"a": [1, -2.5, None, True, "é"]}
    assert parse_json(str(2**128)) == 2**128


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("1" * 5_000, "a number of 5,000 digits"),
        ("1e999", "too large"),
        ("NaN", "NaN, which is no JSON"),
        ("-Infinity", "-Infinity"),
        ("{", "line 1"),
        ("", "line 1"),
    ],
    ids=lambda text: text[:20],
)
def test_json_that_would_break_whoever_reads_it_is_refused(text: str, why: str):
    with pytest.raises(UnreadableError, match=why):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = " + "[" * 50_000, "nested too deeply"),
        (".".join(["a"] * 50_000) + " = 1", "line 1 has more than 64 parts"),
        ("b = 1\n[" + ".".join(["a"] * 5_000) + "]", "line 2 has more than 64 parts"),
        ("x = {" + " . ".join(['"a"'] * 5_000) + " = 1}", "more than 64 parts"),
        ("a = " + "1" * 5_000, "too many digits"),
        ("a", "Expected '='"),
    ],
    ids=lambda text: text[:20],
)
def test_toml_that_would_break_whoever_reads_it_is_refused(text: str, why: str):
    with pytest.raises(UnreadableError, match=why):
        parse_toml(text)


def test_toml_with_many_dots_that_are_no_key_is_read():
    numbers = ", ".join(["0.5"] * 500)
    names = ", ".join(['"CD4.T"'] * 500)
    assert len(parse_toml(f"a = [{numbers}]\nb = [\n{names}\n]\nc.d = 1")["b"]) == 500


def test_a_file_that_is_too_large_or_no_text_or_no_object_is_refused(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(b'"\xff"')
    with pytest.raises(UnreadableError, match="byte 2 is not UTF-8"):
        read_json(path)
    path.write_text("[1, 2]")
    with pytest.raises(UnreadableError, match="more than 3 bytes"):
        read_json(path, most=3)
    with pytest.raises(UnreadableError, match="not a JSON object"):
        read_json_object(path)
    assert read_json(path) == [1, 2]


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path):
    pipe, loop, end = tmp_path / "pipe", tmp_path / "loop", tmp_path / "end"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(end))
        kinds = {pipe: "named pipe", end: "socket", tmp_path: "folder", Path("/dev/zero"): "device"}
        for path, kind in kinds.items():
            with pytest.raises(InputError, match=kind):
                refuse_irregular(path)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(UnreadableError, match="not a file"):
            read_toml(path)
    with pytest.raises(InputError, match="symbolic links"):
        refuse_irregular(loop)
    with pytest.raises(InputError, match="no such file"):
        refuse_irregular(tmp_path / "absent")
    with pytest.raises(InputError, match="null byte"):
        refuse_irregular(Path("a\0b"))


@pytest.mark.parametrize("found", [-3, 0, True, None, "1", 1.0, [1]])
def test_a_format_that_is_no_positive_number_is_damage(found: object):
    with pytest.raises(ModelError, match=r"which is none\. Copy it again"):
        refuse_other_format(found, 2, where="f", error=ModelError, damaged="Copy it again")


def test_a_newer_format_asks_for_an_upgrade_and_a_known_one_passes():
    with pytest.raises(ModelError, match=r"format 3, and this release reads up to format 2\. Upgrade"):
        refuse_other_format(3, 2, where="f", error=ModelError, damaged="Copy it again")
    refuse_other_format(2, 2, where="f", error=ModelError, damaged="Copy it again")
