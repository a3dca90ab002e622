"""The tutorials are committed as they ran, and use only what exists; they are not run here (``make tutorials``)."""

from __future__ import annotations

import ast
import base64
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import cell_lm
from cell_lm.cli import build_app
from cell_lm.data.read_options import ReadKeywords

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 100_000
MACHINE = re.compile(r"/(tmp|home|root|work|Users)/|site-packages|0x[0-9a-f]{8}")
NOISE = re.compile(r"Warning:|Traceback|\r|it/s\]")
every_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def texts(path: Path) -> Iterator[str]:
    """Yield what the outputs of a tutorial say."""
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            data = output.get("data", {})
            yield from ("".join(part) for part in (output.get("text", ""), *map(data.get, data)) if part)


def shown_texts(path: Path) -> Iterator[str]:
    images = {
        "".join(output["data"]["image/png"])
        for cell in cells(path, "code")
        for output in cell["outputs"]
        if "image/png" in output.get("data", {})
    }
    yield from (text for text in texts(path) if text not in images)


def test_there_are_seven_and_the_index_lists_them_all():
    assert [path.name[:2] for path in TUTORIALS] == ["01", "02", "03", "04", "05", "06", "07"]
    assert re.findall(r"\((\d\d_\w+\.ipynb)\)", (FOLDER / "index.md").read_text()) == [path.name for path in TUTORIALS]


@every_tutorial
def test_a_tutorial_ran_from_top_to_bottom(path):
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= (path.name[:2] != "06")


@every_tutorial
def test_outputs_are_small_and_hold_neither_machine_nor_noise(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            image = output.get("data", {}).get("image/png")
            assert image is None or len(base64.b64decode("".join(image))) < MOST_BYTES
    for text in shown_texts(path):
        assert not MACHINE.search(text), text
        assert not NOISE.search(text), text


@every_tutorial
def test_a_tutorial_says_what_one_needs_to_know(path):
    told = "\n".join(map(source, cells(path, "markdown")))
    for heading in ("**What you will do.**", "**How long it takes.**", "## What can go wrong", "## Where to go next"):
        assert heading in told
    for link in re.findall(r"\]\((?!http)([^)#]+)", told):
        assert (FOLDER / link).exists(), link


def python_cells(path: Path) -> Iterator[ast.Module]:
    yield from (ast.parse(source(cell)) for cell in cells(path, "code") if not source(cell).startswith("%%"))


def resolved(node: ast.expr) -> Any:
    """Return the object of the package that a dotted name stands for; None if it is none of the package."""
    if isinstance(node, ast.Name):
        return cell_lm if node.id == "cell_lm" else None
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value)
        return None if owner is None else getattr(owner, node.attr)
    return None


@every_tutorial
def test_names_and_keywords_exist(path):
    found = 0
    for tree in python_cells(path):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cell_lm"):
                assert all(hasattr(importlib.import_module(node.module), name.name) for name in node.names)
                found += 1
            if isinstance(node, ast.Attribute):
                found += resolved(node) is not None
            if isinstance(node, ast.Call) and (called := resolved(node.func)) is not None:
                known = {*inspect.signature(called).parameters, *ReadKeywords.__annotations__}
                assert {keyword.arg for keyword in node.keywords} <= known
    assert found


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words after ``cell-lm`` of every command in cells of bash and in blocks of Markdown."""
    blocks = [source(cell) for cell in cells(path, "code") if source(cell).startswith("%%bash")]
    for cell in cells(path, "markdown"):
        blocks += re.findall(r"^```\n(.*?)^```", source(cell), re.DOTALL | re.MULTILINE)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            start = next((words.index(name) for name in ("cell-lm", "cell_lm") if name in words), None)
            if start is not None:
                yield words[start + 1 :]


@every_tutorial
def test_verbs_and_options_exist(path):
    for words in commands(path):
        command = typer.main.get_command(build_app())
        options = {name for option in command.params for name in option.opts}
        for word in words:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
                options |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            elif word.startswith("--"):
                assert word in options, words
        assert not getattr(command, "commands", {}), words
