"""From single cells to a table of genes by label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse


def choose_cells(labels: NDArray[np.object_], most: int | None, *, seed: int = 0) -> NDArray[np.int64]:
    """Choose at most ``most`` cells of each label at random.

    Parameters
    ----------
    labels
        One label per cell, as text; cells with ``""`` are not chosen.
    most
        Most cells of each label; None: all.
    seed
        Seed of the choice; the choice for one label does not depend on the others.

    Returns
    -------
    ndarray
        int64: indices of the chosen cells, ascending.
    """
    chosen = []
    for label in np.unique(labels[labels != ""]):
        cells = np.flatnonzero(labels == label)
        if most is not None and len(cells) > most:
            cells = np.random.default_rng(seed).choice(cells, most, replace=False)
        chosen.append(cells)
    return np.sort(np.concatenate(chosen)).astype(np.int64) if chosen else np.zeros(0, np.int64)


def gene_table(
    values: sparse.csr_matrix, X: sparse.csr_matrix, labels: NDArray[np.object_], symbols: Sequence[str]
) -> pd.DataFrame:
    """Average attributions over the cells of each label.

    Parameters
    ----------
    values
        Attributions [cells, vocabulary].
    X
        Expression of the same cells [cells, vocabulary].
    labels
        One label per cell, as text.
    symbols
        Gene symbols of the vocabulary.

    Returns
    -------
    DataFrame
        One row for each label and gene that one of its cells expresses, the labels sorted and the genes of each from
        the highest attribution down: ``label`` (categorical), ``gene``, ``attribution`` (float64, mean over all cells
        of the label; 0 for cells that do not express it, and for those where it is beyond the ``max_genes`` that the
        encoder read), ``expressed`` (float64, fraction of the cells that express it, read or not), ``cells`` (int64,
        number of cells).
    """
    names = np.unique(labels)
    tables = [_of_label(values[labels == name], X[labels == name], symbols) for name in names]
    table = pd.concat(tables, keys=names.tolist(), names=["label", None]) if tables else pd.DataFrame()
    table = table.reset_index(level="label").reset_index(drop=True)
    table["label"] = pd.Categorical(table["label"], categories=names.tolist())
    return table


def _of_label(values: sparse.csr_matrix, X: sparse.csr_matrix, symbols: Sequence[str]) -> pd.DataFrame:
    cells = values.shape[0]
    expressed = np.bincount(X.indices, minlength=len(symbols)) / cells
    mean = np.asarray(values.sum(axis=0, dtype=np.float64)).ravel() / cells
    genes = np.flatnonzero(expressed)
    genes = genes[np.argsort(-mean[genes], kind="stable")]
    columns = {"gene": np.asarray(symbols, object)[genes], "attribution": mean[genes], "expressed": expressed[genes]}
    return pd.DataFrame(columns | {"cells": np.full(len(genes), cells, np.int64)})
