"""Response matrices, expression and structures of the drug response benchmark, and its splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
from numpy.typing import NDArray

from cell_lm.data.response import read_response
from cell_lm.data.response.molecules import read_molecules
from cell_lm.evaluation import Split, Splits, cells_hash
from cell_lm.evaluation.splits import leave_one_group_out, pair_names, pairs, refuse_leakage
from cell_lm.tasks.response.drugs import Structures

Floats = NDArray[np.float64]

FILES = (
    "drug/gdsc_response.parquet",
    "drug/deepcdr_response.parquet",
    "drug/tgsa_response.parquet",
    "drug/cellline_expression.h5ad",
)
SETS = ("gdsc2", "gdsc1", "deepcdr", "tgsa")
KINDS = ("cold_line", "warm", "cold_drug", "cold_both", "cold_tissue")
FOLDS = 5
_GDSC = {"line": "cell_key", "smiles": "smiles", "tissue": "tissue", "screen_column": "dataset"}
_PAIRS = {"line": "depmap_id", "smiles": "drug_smiles"}


@dataclass(frozen=True, eq=False)
class Data:
    """One data set: lines with expression, drugs with structure, responses [lines, drugs]."""

    name: str
    lines: NDArray[np.object_]
    drugs: NDArray[np.object_]
    tissues: NDArray[np.object_]
    X: Floats
    Y: Floats
    smiles: list[str]
    structures: Structures

    @property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the measured pairs."""
        return np.nonzero(np.isfinite(self.Y))


def read(folder: Path, name: str) -> Data:
    if name.startswith("gdsc"):
        table = read_response(folder / FILES[0], screen=name.upper(), response="ln_ic50", drug="drug", **_GDSC)
    else:
        file = folder / "drug" / f"{name}_response.parquet"
        table = read_response(file, drug="drug", response="ln_ic50", **_PAIRS)
    expression = anndata.read_h5ad(folder / FILES[3])
    if not name.startswith("gdsc"):
        expression = expression[expression.obs["depmap_id"].notna()]
        expression.obs_names = expression.obs["depmap_id"].astype(str)
        expression = expression[~expression.obs_names.duplicated()]
    matrix = table.matrix()
    matrix = matrix.loc[matrix.index.isin(expression.obs_names)]
    matrix = matrix.loc[:, matrix.notna().sum() > 0]
    own = expression[matrix.index]
    smiles = table.smiles()
    molecules = list(read_molecules({drug: smiles[drug] for drug in matrix.columns}, where=name).values())
    return Data(
        name,
        matrix.index.to_numpy(object),
        matrix.columns.to_numpy(object),
        own.obs["tissue"].astype(str).to_numpy(object),
        np.asarray(own.X, np.float64),
        matrix.to_numpy(),
        [smiles[drug] for drug in matrix.columns],
        Structures.of(molecules),
    )


def splits(data: Data, kind: str, keep: Path | None) -> list[Split]:
    """Return the splits of a kind, drawn by seed; with a folder they are saved there, and read where they are."""
    rows, columns = data.pairs
    lines, drugs = data.lines[rows], data.drugs[columns]
    named = cells_hash(pair_names(lines, drugs))
    path = None if keep is None else keep / f"{data.name}.{kind}.splits.json"
    if path is not None and path.exists():
        return list(Splits.load(path, cells=named))
    drawn = list(_draw(data, kind, lines, drugs, rows, columns))
    for split in drawn:
        refuse_leakage(split, pair=pair_names(lines, drugs))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Splits(tuple(drawn), named).save(path)
    return drawn


def _draw(data: Data, kind: str, lines, drugs, rows, columns) -> Iterator[Split]:
    if kind == "warm":
        yield from (pairs(lines, drugs, "warm", seed=seed) for seed in range(FOLDS))
        return
    if kind == "cold_tissue":
        for split in leave_one_group_out(data.tissues[rows], unit="tissue"):
            if len(np.unique(rows[split.test])) >= 10 and "nan" not in split.name:
                yield split
        return
    rng = np.random.default_rng(0)
    of_line = _deal(len(data.lines), rng)[rows]
    structures = np.unique(data.smiles, return_inverse=True)[1]
    of_drug = _deal(structures.max() + 1, rng)[structures][columns]  # two names of a molecule stay together
    everything = np.arange(len(rows))
    for fold in range(FOLDS):
        line, drug = of_line == fold, of_drug == fold
        test = {"cold_line": line, "cold_drug": drug, "cold_both": line & drug}[kind]
        train = {"cold_line": ~line, "cold_drug": ~drug, "cold_both": ~line & ~drug}[kind]
        yield Split(everything[train], everything[test], f"{kind}, fold {fold}", kind.removeprefix("cold_"), 0)


def _deal(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    number = np.empty(count, np.int64)
    number[rng.permutation(count)] = np.arange(count) % FOLDS
    return number


@dataclass(frozen=True, eq=False)
class Task:
    """One split as matrices: what is learned from, what stops the training of networks, and what is predicted."""

    data: Data
    train: Floats
    """[lines, drugs]; NaN: not a training pair."""
    validation: NDArray[np.bool_]
    test: NDArray[np.bool_]

    @property
    def new_lines(self) -> NDArray[np.bool_]:
        """Lines without a training pair."""
        return ~np.isfinite(self.train).any(axis=1)

    @property
    def new_drugs(self) -> NDArray[np.bool_]:
        """Drugs without a training pair."""
        return ~np.isfinite(self.train).any(axis=0)


def task(data: Data, split: Split) -> Task:
    rows, columns = data.pairs
    train = np.full(data.Y.shape, np.nan)
    train[rows[split.train], columns[split.train]] = data.Y[rows[split.train], columns[split.train]]
    masks = []
    for part in (split.validation, split.test):
        mask = np.zeros(data.Y.shape, np.bool_)
        mask[rows[part], columns[part]] = True
        masks.append(mask)
    return Task(data, train, *masks)
