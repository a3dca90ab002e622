"""The command as a user runs it, and small files of cells for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anndata import AnnData
from typed import TINY, Cli, Said, draw

from cell_lm.cli import main


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def run(*words: object) -> Said:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Said(code, *capfd.readouterr())

    return run


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """Write an h5ad file of cells; ``change`` may spoil them first."""

    def make(name: str = "cells.h5ad", change: Callable[[AnnData], object] | None = None, **arguments: Any) -> Path:
        adata = draw(**arguments)
        if change is not None:
            changed = change(adata)
            adata = changed if isinstance(changed, AnnData) else adata
        path = tmp_path / name
        adata.write_h5ad(path)
        return path

    return make


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model that saw a few cells."""
    folder = tmp_path_factory.mktemp("pretrained")
    draw().write_h5ad(folder / "cells.h5ad")
    options = [*TINY, "--malignancy-column=malignant", "--tumour=putative", "--no-report", "--quiet"]
    assert main(["pretrain", str(folder / "cells.h5ad"), "--out", str(folder / "run"), *options]) == 0
    return folder / "run"
