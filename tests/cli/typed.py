"""The command as a user runs it, and small files of cells for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from cell_lm.genes import Vocabulary
from forked import HUNG

GENES = 1_200


class Said(NamedTuple):
    """What a command left with and said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of error; fails where there is not exactly one, or a traceback."""
        lines = [line for line in self.err.splitlines() if "error: " in line]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].partition("error: ")[2]


Cli = Callable[..., Said]


def shell(*words: object, **environment: str) -> Said:
    """Run a command in a process of its own, piped."""
    done = subprocess.run(
        [sys.executable, "-m", "cell_lm", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=HUNG,
        env=os.environ | environment,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def draw(cells: int = 60, *, seed: int = 0, genes: int = GENES, types: int = 3) -> AnnData:
    """Counts of cells of several types, each with some genes of its own; obs: cell_type, donor, malignant."""
    rng = np.random.default_rng(seed)
    kind = np.arange(cells) % types
    share = np.tile(np.random.default_rng(9).dirichlet(np.full(genes, 0.5)), (types, 1))
    for row, own in enumerate(np.array_split(np.arange(genes), types)):
        share[row, own] *= 8
    share /= share.sum(axis=1, keepdims=True)
    X = sparse.csr_matrix(rng.poisson(2_000 * share[kind]), dtype=np.float32)
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type {k}" for k in kind]),
            "donor": [f"donor{i % 4}" for i in range(cells)],
            "malignant": np.where(kind == 0, "putative", "no"),
        },
        index=[f"cell{i}" for i in range(cells)],
    )
    return AnnData(X, obs=obs, var=pd.DataFrame(index=list(Vocabulary.human().symbols[:genes])))


TINY = [
    "--preset=tiny",
    "--steps=3",
    "--batch-size=8",
    "--set=encoder.layers=1",
    "--set=training.validation=0",
    "--set=encoder.max_genes=128",
    "--set=training.token_budget=65536",
    "--set=training.retain_graphs=0",
]
"""Options of a run that takes a second."""
