"""Cells with a known drug response: public sets, and real counts with a planted programme."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data import CellData, from_anndata, read_anndata, read_cells
from cell_lm.data.view import CellView
from cell_lm.tasks.sensitivity.values import gene_values

SCALED = {"a375": "sc_GSE108383_A375", "hnsc120": "sc_SCAD_HNSC120"}
LINES = "sc_GSE118767_celseq2"
PLANTED_IN = "pc9_erlotinib"
PLANTED_CELLS, PROGRAMME, THINNED = 600, 300, 0.25
MEAN_COUNTS = (0.3, 3.0)
"""Genes of the programme have mean counts in this range."""
LABEL = "label"


class SensitivitySet(NamedTuple):
    """Cells, which of them are sensitive, and the numbers that the baselines learn from [cells, genes]."""

    name: str
    cells: CellData
    sensitive: NDArray[np.bool_]
    features: sparse.csr_matrix

    def labelled(self, rows: NDArray[np.int64]) -> CellData:
        """Return all cells, of which some have a label in ``obs``."""
        text = np.full(len(self.sensitive), "", object)
        text[rows] = np.where(self.sensitive[rows], "sensitive", "resistant")
        return replace(self.cells, obs=pd.DataFrame({LABEL: text}, index=self.cells.obs.index))


def made_of(name: str, cells: CellData, sensitive: NDArray[np.bool_]) -> SensitivitySet:
    """Return a set of cells, with what the baselines learn from."""
    values = gene_values(cells, z_scored=CellView.of(cells).z_scored)
    measured = np.flatnonzero(np.diff(values.tocsc().indptr))
    return SensitivitySet(name, cells, sensitive, sparse.csr_matrix(values[:, measured]))


def scaled_set(folder: Path, name: str) -> SensitivitySet:
    """Read one of the z-scored public sets."""
    cells = read_cells(folder / "drug" / f"{SCALED[name]}.h5ad", scale="scaled")
    return made_of(name, cells, (cells.obs["response"] == "sensitive").to_numpy())


def planted_set(folder: Path, percent: int, seed: int) -> SensitivitySet:
    """Return real counts of one line, in which a share of the cells, drawn at random, got a programme.

    Of 300 genes, half have their counts thinned to a quarter in sensitive cells (each count is kept with probability
    .25, which leaves a Poisson count a Poisson count), the other half in resistant cells. Nothing else is changed, so
    the noise is that of the real counts, and the real differences among the cells are in the way.
    """
    adata, rng = read_anndata(folder / "cells" / f"{PLANTED_IN}.h5ad"), np.random.default_rng((seed, percent))
    X = sparse.csr_matrix(adata.X)[np.sort(rng.permutation(adata.n_obs)[:PLANTED_CELLS])].astype(np.int64)
    mean = np.asarray(X.mean(axis=0)).ravel()
    genes = rng.permutation(np.flatnonzero((mean > MEAN_COUNTS[0]) & (mean < MEAN_COUNTS[1])))[:PROGRAMME]
    sensitive = np.zeros(PLANTED_CELLS, bool)
    sensitive[rng.permutation(PLANTED_CELLS)[: round(percent / 100 * PLANTED_CELLS)]] = True
    kind = np.zeros(X.shape[1], np.int8)
    kind[genes[: PROGRAMME // 2]], kind[genes[PROGRAMME // 2 :]] = 1, -1
    of_cell = np.where(np.repeat(sensitive, np.diff(X.indptr)), 1, -1)
    thinned = kind[X.indices] == of_cell
    X.data[thinned] = rng.binomial(X.data[thinned], THINNED)
    X.eliminate_zeros()
    planted = adata[:PLANTED_CELLS].copy()
    planted.X = X.astype(np.float32)
    return made_of(f"planted{percent:02d}", from_anndata(planted), sensitive)


def draw(sensitive: NDArray[np.bool_], share: float, seed: int, *, stratified: bool) -> NDArray[np.int64]:
    """Draw the labelled cells: the same share of either kind, or plainly at random; at least two of each."""
    rng, kinds = np.random.default_rng(seed), [np.flatnonzero(sensitive == kind) for kind in (False, True)]
    if stratified:
        chosen = [rng.permutation(rows)[: max(2, round(share * len(rows)))] for rows in kinds]
        return np.sort(np.concatenate(chosen))
    number = max(4, round(share * len(sensitive)))
    while True:
        rows = rng.permutation(len(sensitive))[:number]
        if min(np.bincount(sensitive[rows], minlength=2)) >= 2:
            return np.sort(rows)
