"""One way down: every module imports only from the layers under its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cell_lm

ROOT = Path(cell_lm.__file__).parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("demo",),
    ("report",),
    ("pl", "tl", "pp"),
    ("explorer",),
    ("tasks",),
    ("pretraining",),
    ("evaluation", "engine"),
    ("objectives",),
    ("model", "model_folder", "model_card", "hub"),
    ("nn",),
    ("prepare",),
    ("data",),
    ("genes",),
    ("plots",),
    ("config", "reading", "remedies", "files", "partials", "terminal", "errors", "_version"),
)
"""From the top down: the rooms of the package, a folder or a module each. The package itself only names its parts."""

TOGETHER = ({"model", "model_folder", "model_card", "hub"}, set(LAYERS[-1]))
"""Rooms of one layer that may import each other; the façades, evaluation and engine may not."""

DEPTH = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}


def imported(source: str, module: str) -> Iterator[str]:
    """Yield the dotted name of every module of the package that a source imports, wherever in it the import stands."""
    parent = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "cell_lm")
        elif isinstance(node, ast.ImportFrom):
            base = parent[: len(parent) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            if origin == "cell_lm":
                yield from (f"cell_lm.{alias.name}" for alias in node.names)
            elif origin.startswith("cell_lm."):
                yield origin


def upward(module: str, source: str) -> list[str]:
    """Return what is wrong with the imports of a module (``cell_lm.data.cells``)."""
    part, wrong = module.split(".")[1], []
    for target in imported(source, module):
        below = target.split(".")[1] if "." in target else ""
        if below not in DEPTH:
            wrong.append(f"{module} imports {target}, which stands in no layer")
        elif below != part and not any({part, below} <= group for group in TOGETHER) and DEPTH[below] <= DEPTH[part]:
            wrong.append(f"{module} imports {target} of a layer that is not under its own")
    return wrong


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        if parts != ("cell_lm", "__init__"):
            yield ".".join(parts), path


def file_of(name: str) -> str:
    """Return the module whose file an imported name lives in: that of a module itself, else that of its parent."""
    path = ROOT.parent.joinpath(*name.split("."))
    if path.with_suffix(".py").is_file():
        return name
    return f"{name}.__init__" if path.is_dir() else file_of(name.rsplit(".", 1)[0])


def targets(source: str, module: str) -> Iterator[str]:
    """Yield the module of the package behind every name that a source imports, file by file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "cell_lm":
            yield from (file_of(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (file_of(name) for name in imported(ast.unparse(node), module))


def files() -> dict[str, set[str]]:
    """Return the modules that each module imports; a package's ``__init__`` is a module of its own."""
    every = dict(modules())
    return {name: set(targets(path.read_text(encoding="utf-8"), name)) - {name} for name, path in every.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of an import cycle; none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_imports_itself_by_way_of_others():
    graph = files()
    assert len(graph) > 200
    assert sum(map(len, graph.values())) > 700
    assert circle(graph) == []


def test_a_cycle_of_files_is_found():
    graph = files()
    assert "cell_lm.genes.vocabulary" in graph["cell_lm.genes.vectors"]
    graph["cell_lm.genes.vocabulary"] |= set(targets("from cell_lm.genes.vectors import GeneVectors", "x.y"))
    assert {"cell_lm.genes.vectors", "cell_lm.genes.vocabulary"} <= set(circle(graph))


def test_every_part_stands_in_a_layer():
    parts = {name.split(".")[1] for name, _ in modules()}
    assert parts <= set(DEPTH), f"to be put into LAYERS: {sorted(parts - set(DEPTH))}"
    assert len(parts) > 10


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_go_down(module, path):
    assert not upward(module, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cell_lm.data.cells", "from cell_lm.model import CellLM"),
        ("cell_lm.data.cells", "import cell_lm.tasks.annotation as a"),
        ("cell_lm.data.cells", "from cell_lm import tl"),
        ("cell_lm.data.cells", "from cell_lm import CellLM"),
        ("cell_lm.data.cells", "import cell_lm"),
        ("cell_lm.data.cells", "def f():\n    from cell_lm.nn import encoder"),
        ("cell_lm.data.cells", "if TYPE_CHECKING:\n    from cell_lm.nn import encoder"),
        ("cell_lm.data.cells", "from ..nn import encoder"),
        ("cell_lm.data.cells", "from .. import nn"),
        ("cell_lm.genes.audit", "from cell_lm.data import CellData"),
        ("cell_lm.plots.figures", "from cell_lm.genes import Vocabulary"),
        ("cell_lm.errors", "from cell_lm.evaluation.geometry import Geometry"),
        ("cell_lm.tl", "from cell_lm import pl"),
        ("cell_lm.report.page", "from cell_lm.cli import main"),
        ("cell_lm.pretraining.run", "from cell_lm.tasks import CellTypeClassifier"),
        ("cell_lm.engine.log", "from cell_lm.evaluation.geometry import Geometry"),
        ("cell_lm.pl.cells", "from cell_lm.report.page import write_report"),
        ("cell_lm.nn.encoder", "from cell_lm.model_folder import write"),
    ],
)
def test_an_upward_import_is_found(module, source):
    assert len(upward(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cell_lm.data.cells", "from cell_lm.data.scale.check import Scale\nfrom cell_lm.genes import Vocabulary"),
        ("cell_lm.data.cells", "from .counts import Scale\nfrom . import state\nfrom ..genes import Vocabulary"),
        ("cell_lm.data.cells", "import numpy, cell_lmx\nfrom collections import abc"),
        ("cell_lm.model", "from cell_lm import model_folder"),
        ("cell_lm.config", "from cell_lm.errors import ConfigError"),
        ("cell_lm.cli.embed", "from cell_lm import tl"),
        (
            "cell_lm.tl",
            "from cell_lm._version import __version__\nfrom cell_lm.tasks.annotation import CellTypeClassifier",
        ),
    ],
)
def test_imports_within_a_part_and_downwards_are_fine(module, source):
    assert upward(module, source) == []
