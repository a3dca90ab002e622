"""Files of cells to prepare, and how to prepare them in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from cell_lm.genes import Vocabulary
from forked import HUNG

MITOCHONDRIAL = ("MT-CO1", "MT-ND1", "MT-RNR1")
OTHERS = ("MALAT1", "NOSUCHGENE1")
GENES = [*Vocabulary.human().symbols[:1_100], "RACK1", "GNB2L1", *MITOCHONDRIAL, *OTHERS]
"""Genes of the vocabulary, RACK1 under two names; RNA genes of mitochondrion and nucleus; and what is no gene."""


def draw(cells: int = 60, *, seed: int = 0, name: str = "", depth: int = 3_000) -> AnnData:
    """Counts of cells with labels; every third one has counts that take two bytes."""
    rng = np.random.default_rng(seed)
    share = np.random.default_rng(9).dirichlet(np.full(len(GENES), 0.5))
    counts = rng.poisson(depth * share, (cells, len(GENES)))
    counts[::3, 7] = 300 + rng.integers(0, 9, len(counts[::3]))
    order = rng.permutation(len(GENES))  # no file has its genes in the order of the vocabulary
    obs = pd.DataFrame(
        {
            "organ": pd.Categorical(["blood", "lung"] * (cells // 2) + ["blood"] * (cells % 2)),
            "patient": np.arange(cells) % 4,
            "malignant": np.where(np.arange(cells) % 5 == 0, "yes", "no"),
        },
        index=[f"{name}cell{i}" for i in range(cells)],
    )
    var = pd.DataFrame(index=[GENES[i] for i in order])
    return AnnData(sparse.csr_matrix(counts[:, order], dtype=np.float32), obs=obs, var=var)


def write(folder: Path, name: str, adata: AnnData) -> Path:
    path = folder / name
    adata.write_h5ad(path)
    return path


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Run a program that prepares stores in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=HUNG)
    return process.returncode, out, err


class Notes:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def progress(self, what: str, total: int) -> Any:
        from contextlib import nullcontext

        return nullcontext(lambda _: None)
