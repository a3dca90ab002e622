"""One way down: every module imports only from the layers under its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cell_lm

ROOT = Path(cell_lm.__file__).parent

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("demo",),
    ("pl", "tl", "pp"),
    ("report",),
    ("tasks",),
    ("training",),
    ("objectives",),
    ("model", "model_folder"),
    ("nn",),
    ("prepare",),
    ("data",),
    ("genes",),
    ("metrics",),
    ("config", "files", "errors", "_version"),
)
"""From the top down: the parts of the package, a folder or a module each. The package itself only names its parts."""

TOGETHER = ({"model", "model_folder"}, {"config", "files", "errors", "_version"})
"""Parts of one layer that may import each other; the façades may not."""

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
        ("cell_lm.evaluation.metrics", "from cell_lm.genes import Vocabulary"),
        ("cell_lm.errors", "from cell_lm.evaluation.metrics import Geometry"),
        ("cell_lm.tl", "from cell_lm import pl"),
        ("cell_lm.report.page", "from cell_lm.cli import main"),
        ("cell_lm.pretraining.run", "from cell_lm.tasks import CellTypeClassifier"),
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
