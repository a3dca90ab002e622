from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "cell_lm"
PAGE = (ROOT / "docs" / "api.md").read_text()


def modules() -> Iterator[tuple[str, list[str]]]:
    """Yield every module that states its public names, with these names."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
                parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
                yield ".".join(parts).removesuffix(".__init__"), ast.literal_eval(node.value)


def on_the_page() -> set[str]:
    """Return the names that the page lists, each with the module it is listed under."""
    found = set(re.findall(r"^- `([\w.]+)`", PAGE, re.M))
    for block in re.findall(r"```{eval-rst}\n(.*?)```", PAGE, re.S):
        module = re.search(r"currentmodule:: (\S+)", block)
        assert module is not None
        found |= {f"{module[1]}.{name}" for name in re.findall(r"^   (\w+)$", block, re.M)}
    return found


SUBMODULES = {"errors", "genes", "pl", "pp", "tl", "__version__"}
LISTED = on_the_page()


@pytest.mark.parametrize(
    ("module", "names"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_public_name_is_on_the_api_page(module, names):
    unlisted = [name for name in names if f"{module}.{name}" not in LISTED and name not in SUBMODULES]
    elsewhere = {name.rpartition(".")[2] for name in LISTED}
    missing = [name for name in unlisted if name not in elsewhere]
    assert not missing, f"add to docs/api.md: {missing} of {module}"


def test_every_name_on_the_api_page_is_public():
    public = {f"{module}.{name}" for module, names in modules() for name in names}
    assert not LISTED - public


def test_the_page_lists_more_than_the_top_level():
    assert len(list(modules())) > 15
    assert len(LISTED) > 150


PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem not in ("index", "commands"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_in_the_contents(page):
    contents = re.findall(r"```{toctree}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.S)
    assert page in {line.strip() for block in contents for line in block.splitlines()}
