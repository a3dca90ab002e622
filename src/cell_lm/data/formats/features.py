"""Features of 10x files other than the expression of human genes, which are left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.formats.transpose import Blocks
from cell_lm.errors import GeneError, InputError
from cell_lm.genes.spelling import human_prefix, other_prefix

_EXPRESSION = "Gene Expression"


def kept_features(var: pd.DataFrame, where: str) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Return which features are the expression of human genes, and a remark on the others.

    Parameters
    ----------
    var
        One row per feature; ``feature_types`` and ``genome`` if the file has them.
    where
        The file, for messages.

    Raises
    ------
    InputError
        No feature is the expression of a gene.
    GeneError
        None is of a human genome.
    """
    kept, remarks = np.ones(len(var), bool), []
    if "feature_types" in var:
        types = var["feature_types"].astype(str)
        kept &= (types == _EXPRESSION).to_numpy()
        others = types[~kept].value_counts()
        if not kept.any():
            raise InputError(
                f"it holds no Gene Expression: {_counted(others)}", where=where, fix="Give gene expression"
            )
        if len(others):
            remarks.append(f"left out: {_counted(others)}")
    if "genome" in var and var["genome"][kept].nunique() > 1:
        genomes = var["genome"].astype(str)
        human = np.array([is_human(name) for name in genomes])
        if not (kept & human).any():
            found = f"its genomes are none of man: {_counted(genomes[kept].value_counts())}"
            raise GeneError(found, where=where, fix="cell-lm reads human genes")
        remarks.append(f"genes of other genomes left out: {_counted(genomes[kept & ~human].value_counts())}")
        kept &= human
    return kept, tuple(remarks)


def is_human(genome: str) -> bool:
    """Return whether a genome is human, by its name: hg19, GRCh38, GRCh38-2020-A."""
    return bool(human_prefix(f"{genome}_x")) and not other_prefix(f"{genome}_x")


def select_genes(read: Blocks, kept: NDArray[np.bool_]) -> Blocks:
    """Return a reader of some columns only."""
    if kept.all():
        return read
    columns = np.flatnonzero(kept)

    def selected(cells: int) -> Iterator[sparse.csr_matrix[Any]]:
        for block in read(cells):
            yield block[:, columns]

    return selected


def _counted(numbers: pd.Series[int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in numbers.items())
