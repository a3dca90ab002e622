"""Fixtures that several areas share: small random batches and models of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

if "OMP_NUM_THREADS" in os.environ:
    # Else the first use of numba, by scanpy say, gives torch and scikit-learn as many threads as there are cores for
    # the rest of the process, and where other processes have the cores, threads wait for each other busily.
    os.environ.setdefault("NUMBA_NUM_THREADS", os.environ["OMP_NUM_THREADS"])

import numpy as np
import pandas as pd
import pytest
import torch

from cell_lm.config import EncoderConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.genes.vocabulary import Vocabulary

ATTENTIONS = ("full", "latent", "performer")


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered of stores out of the cache folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Leave out ``fsync``, which protects from a loss of power only; tests/test_files.py checks that it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_trees() -> Iterator[None]:
    """Let the annotators of the tests grow 20 trees, not 100: hundreds of them are fitted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cell_lm.tasks.annotation.trees.TREES", 20)
        yield


@pytest.fixture
def make_batch() -> Callable[..., CellBatch]:
    """Cells of unequal length with random genes, bins and malignancy (some unknown)."""

    def make(cells: int = 17, genes: int = 300, longest: int = 30, seed: int = 0) -> CellBatch:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(3, longest, cells)
        chosen = [np.sort(rng.choice(genes, length, replace=False)) for length in lengths]
        values = torch.from_numpy(rng.uniform(0.2, 6.0, lengths.sum()).astype(np.float32))
        return CellBatch(
            genes=torch.from_numpy(np.concatenate(chosen)),
            bins=values.round().long().clamp(max=5),
            values=values,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            malignancy=torch.from_numpy(rng.integers(-1, 2, cells)),
            slots=torch.arange(cells),
            depths=torch.from_numpy(rng.integers(500, 5000, cells).astype(np.float32)),
        )

    return make


@pytest.fixture
def make_config() -> Callable[..., EncoderConfig]:
    """A small encoder of any kind."""

    def make(attention: str = "full", **changes: object) -> EncoderConfig:
        small = {
            "attention": attention,
            "width": 32,
            "layers": 2,
            "heads": 2,
            "head_width": 16,
            "feedforward": 64,
            "gene_width": 24,
            "latents": 8,
            "features": 24,
            "attended_genes": 16,
            "reference_genes": 64,
        }
        return EncoderConfig.model_validate(small | changes)

    return make


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """The packaged vocabulary."""
    return Vocabulary.human()


def make_history(steps: int = 60) -> pd.DataFrame:
    rng, step = np.random.default_rng(0), np.arange(1, steps + 1)
    fall = np.exp(-step / 20)
    train = pd.DataFrame(
        {
            "kind": "train",
            "step": step,
            "total": 2 + 3 * fall + rng.normal(0, 0.01, steps),
            "masked": 1 + fall,
            "masked_accuracy": 0.6 - 0.2 * fall,
            "learning_rate": 1e-3 * fall,
            "cells_per_second": 800.0 + step,
            "seconds": 0.5 * step,
        }
    )
    valid = train.iloc[9::10].assign(kind="valid", learning_rate=np.nan, cells_per_second=np.nan)
    return pd.concat([train, valid]).sort_values(["step", "kind"], ignore_index=True)


@pytest.fixture(scope="session")
def history() -> pd.DataFrame:
    return make_history()
