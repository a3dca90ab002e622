"""Build sdist and wheel, look into both, and, with ``--demo``, run the quick demo from a fresh environment.

    python scripts/check_package.py [--out DIR] [--demo]

The environment has nothing but the wheel and what it depends on (the versions of ``constraints.txt``), and is made
anew in a temporary folder; the demo runs there in an empty folder, without the sources.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHEEL = {
    "cell_lm/__init__.py",
    "cell_lm/__main__.py",
    "cell_lm/py.typed",
    "cell_lm/report/template/page.html",
    "cell_lm/resources/LICENSES.md",
    "cell_lm/resources/demo_pancreas.h5ad",
    "cell_lm/resources/gene_vectors.safetensors",
    "cell_lm/resources/hgnc.json.gz",
    "cell_lm/resources/models/small/model.safetensors",
    "cell_lm/resources/annotators/blood/arrays.safetensors",
}
"""Files that a wheel must have."""
SDIST = {
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "constraints.txt",
} | {
    "Makefile",
    "src/cell_lm/resources/models/small/model.safetensors",
    "tests/conftest.py",
}
"""Files that a source distribution must have."""
TOPS = {"src", "tests", "docs"} | {name for name in SDIST if "/" not in name} | {"PKG-INFO", ".gitignore"}
STRAY = ("__pycache__", ".pyc", ".ipynb_checkpoints", ".orig", ".DS_Store", ".partial")
LARGEST = 60e6
"""Most bytes of either file; PyPI takes 100 MB."""


def build(out: Path) -> tuple[Path, Path]:
    """Return the wheel and the source distribution; the wheel is built from the latter."""
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)], check=True)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def wrong_in(names: set[str], needed: set[str], tops: set[str]) -> list[str]:
    """Return what is wrong with the files of an archive."""
    wrong = [f"{name} is missing" for name in sorted(needed - names)]
    wrong += [f"{name} is stray" for name in sorted(names) if any(part in name for part in STRAY)]
    return wrong + [f"{name} does not belong there" for name in sorted(names) if name.split("/")[0] not in tops]


def check(wheel: Path, sdist: Path) -> list[str]:
    """Return what is wrong with the two files."""
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    version = wheel.name.split("-")[1]
    wrong = wrong_in(inside, WHEEL, {"cell_lm", f"cell_lm-{version}.dist-info"})
    with tarfile.open(sdist) as source:
        parts = {member.name.partition("/")[2] for member in source.getmembers() if member.isfile()}
    wrong += wrong_in(parts, SDIST, TOPS)
    python = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "cell_lm").rglob("*.py")}
    wrong += [f"{name} is not in the wheel" for name in sorted(python - inside)]
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
        if path.stat().st_size > LARGEST:
            wrong.append(f"{path.name} is larger than {LARGEST / 1e6:.0f} MB")
    return wrong


def run_demo(wheel: Path) -> None:
    """Install the wheel in a fresh environment and run the quick demo there."""
    with tempfile.TemporaryDirectory() as place:
        folder, began = Path(place), time.monotonic()
        venv.create(folder / "env", with_pip=True)
        binaries = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
        constraints = str(ROOT / "constraints.txt")
        # modules are compiled when they are imported, and only those
        words = ["install", "--quiet", "--no-compile", "--constraint", constraints, str(wheel)]
        subprocess.run([binaries / "python", "-m", "pip", *words], check=True)
        print(f"installed in {time.monotonic() - began:.0f} s", flush=True)
        began = time.monotonic()
        subprocess.run([binaries / "cell-lm", "demo", "--quick", "--out", "demo"], check=True, cwd=folder)
        missing = [name for name in ("report.html", "cells.h5ad", "model") if not (folder / "demo" / name).exists()]
        if missing:
            sys.exit(f"the demo left no {', '.join(missing)}")
        print(f"quick demo in {time.monotonic() - began:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to keep the two files in; default: none")
    parser.add_argument("--demo", action="store_true", help="install the wheel in a fresh environment, run the demo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        wheel, sdist = build(options.out or Path(place))
        wrong = check(wheel, sdist)
        if wrong:
            sys.exit("\n".join(wrong))
        if options.demo:
            run_demo(wheel)


if __name__ == "__main__":
    main()
