"""Cells of two kinds that a tiny model learns in a few steps, and runs on them in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file
from scipy import sparse

from cell_lm.config import PretrainConfig, resolve_config
from cell_lm.data.cells import CellData
from cell_lm.data.obs.malignancy import NORMAL, TUMOUR, UNKNOWN
from cell_lm.genes import GeneAudit, Vocabulary
from forked import HUNG, Forked, forks_are_safe

GENES = 40
VOCABULARY = Vocabulary(tuple(f"GENE{i:02d}" for i in range(GENES)), ("",) * GENES)
TIMES = ("seconds", "cells_per_second")
HERE = Path(__file__).parent


def toy_cells(n: int = 48, *, seed: int = 0, name: str = "toy", malignancy: str = "both") -> CellData:
    """Cells whose malignancy decides which half of the genes is high."""
    generator = np.random.default_rng(seed)
    tumour = np.arange(n) % 2
    high = (np.arange(GENES) < GENES // 2)[None, :] == (tumour[:, None] == 1)
    X = sparse.csr_matrix(generator.poisson(np.where(high, 6.0, 0.4)).astype(np.float32))
    malignancies = {"both": np.where(tumour, TUMOUR, NORMAL), "none": np.full(n, UNKNOWN), "one": np.full(n, TUMOUR)}
    symbols = {"gene": VOCABULARY.symbols, "symbol": VOCABULARY.symbols}
    table = pd.DataFrame(symbols | {"index": range(GENES), "status": "matched", "how": ""})
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(n)])
    return CellData(
        name, X, "counts", obs, GeneAudit(table, GENES), VOCABULARY, malignancies[malignancy].astype(np.int8)
    )


def toy_config(encoder: dict[str, Any] | None = None, objectives: Any = None, **training: Any) -> PretrainConfig:
    """A run of 12 steps of 8 cells."""
    settings = {
        "steps": 12,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "validation": 0.2,
        "validate_every": 4,
        "checkpoint_every": 4,
        "token_budget": 65536,
        "retain_graphs": 0,
    }
    small = {"width": 16, "layers": 1, "feedforward": 16, "gene_width": 16, "head_width": 8}
    sections = {"encoder": small | (encoder or {}), "objectives": objectives or {}, "training": settings | training}
    return resolve_config("tiny", overrides=sections)


def after(steps: int) -> Any:
    """Return a ``stop`` that asks to stop after so many steps."""
    left = iter([False] * (steps - 1))
    return lambda: next(left, True)


def rows(run: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the rows of the log without the times."""
    wanted = kinds or ("train", "valid")
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found if row["kind"] in wanted]


def tensors(run: Path, step: int) -> dict[str, Any]:
    """Return the tensors of a checkpoint, weights and moments."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    moments = load_file(folder / "optimizer.safetensors")
    return load_file(folder / "model.safetensors") | {f"optimizer/{name}": x for name, x in moments.items()}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two sets of tensors are equal bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def partials(run: Path) -> list[Path]:
    """Return whatever half-written folders there are."""
    return list(run.rglob("*.partial"))


def start(
    code: str, *arguments: object, env: dict[str, str] | None = None, anew: bool = False
) -> subprocess.Popen[str] | Forked:
    """Start a Python process that has this module at hand: a fork of this one, or with ``anew`` a new interpreter."""
    head = f"import sys; sys.path.insert(0, {str(HERE)!r})\nfrom toy_run import *\n"
    if not anew and forks_are_safe():
        return Forked(head + code, [*map(str, arguments)], env or {})
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error::UserWarning", "-c", head + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # as many threads as here: the order of a sum depends on it
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | (env or {}),
    )


def finish(process: subprocess.Popen[str] | Forked) -> tuple[int, str, str]:
    """Wait for a process; return its exit code and what it said."""
    try:
        out, err = process.communicate(timeout=HUNG)
    finally:
        process.kill()
    return process.returncode, out, err
