"""What :mod:`benchmarks.annotation` asks: which cells have labels, and which are to be named.

Within a set (``zheng_facs10``, ``pbmc3k``, ``baron_human``, ``qian2020_ovarian``) new cells of the same donors are
named; with ``.donor`` those of a donor (or patient) without any label. ``blood.SET`` names the cells of another
experiment from zheng_facs10, by :data:`SHARED_TYPES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.parts.pretraining_cells import common_types
from cell_lm.data import CellData, from_anndata, read_cells
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.evaluation.splits import Split, few_shot, leave_one_group_out, refuse_leakage, stratified

Labels = NDArray[np.object_]
Rows = NDArray[np.int64]

WITHIN = ("zheng_facs10", "pbmc3k", "baron_human", "qian2020_ovarian")
DONORS = ("baron_human", "qian2020_ovarian")
REFERENCE = "zheng_facs10"
QUERIES = ("pbmc3k", "pbmc_scminer638", "kang_pbmc")
KANG_LABELS = "kang_pbmc_labels.csv"
TASKS = (*(f"{name}.donor" for name in DONORS), *WITHIN, *(f"blood.{name}" for name in QUERIES))
PACKAGED = {"packaged_pancreas": PANCREAS, "packaged_ovarian": OVARIAN_CANCER}
QUICK_TASKS = ("packaged_ovarian.donor",)
SETTINGS = ("all", "10%", "20", "5", "1")
FEW = ("20", "5", "1")
TEST, TENTH = 0.2, 0.9
LEAST_A_TYPE = 10
"""Labelled cells a type below which hyperparameters are chosen by left-out cells, not donors: a donor has too few."""

SHARED_TYPES: Mapping[str, Mapping[str, str]] = {
    "zheng_facs10": {
        "CD19+ B": "B cell",
        "CD56+ NK": "NK cell",
        "CD8+ Cytotoxic T": "CD8 T cell",
        "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T cell",
        "CD4+ T Helper2": "CD4 T cell",
        "CD4+/CD45RO+ Memory": "CD4 T cell",
        "CD4+/CD25 T Reg": "CD4 T cell",
        "CD4+/CD45RA+/CD25- Naive T": "CD4 T cell",
        "CD14+ Monocyte": "monocyte",
    },
    "pbmc3k": {
        "B": "B cell",
        "NK": "NK cell",
        "CD8 T": "CD8 T cell",
        "Naive CD4 T": "CD4 T cell",
        "Memory CD4 T": "CD4 T cell",
        "CD14+ Mono": "monocyte",
        "FCGR3A+ Mono": "monocyte",
    },
    "pbmc_scminer638": {"Bcell": "B cell", "NK": "NK cell", "CD4TCM": "CD4 T cell", "Monocyte": "monocyte"},
    "kang_pbmc": {
        "B cells": "B cell",
        "NK cells": "NK cell",
        "CD8 T cells": "CD8 T cell",
        "CD4 T cells": "CD4 T cell",
        "CD14+ Monocytes": "monocyte",
        "FCGR3A+ Monocytes": "monocyte",
    },
}
"""The name of each published type in the tasks across sets; cells of other types are left out on both sides.

Left out: CD34+ progenitors of the reference, which no query has; dendritic cells, platelets and megakaryocytes of the
queries, which the reference lacks. The reference has sorted CD14+ monocytes alone; the queries' FCGR3A+ monocytes are
asked for under the same name, since one of them does not tell the two apart. pbmc_scminer638 has no CD8 T cells.
"""


@dataclass(frozen=True, eq=False)
class Case:
    """One question: labelled cells, and cells to name.

    Attributes
    ----------
    task, setting, part : str
        Such as ``baron_human.donor``, ``5``, ``human1, seed 3``.
    unit : str
        What the interval is over: the donor, or the seed.
    seed : int
        Seed of the draw, for the methods.
    reference, query : CellData
        Labelled cells, and those to name: their ``obs`` holds no label.
    labels, truth : ndarray
        str objects, of the reference and of the query.
    groups : ndarray or None
        Donor of each cell of the reference, where the query is of another one.
    genes : ndarray
        int64: genes of the vocabulary that both sides measured.
    union : str
        Names reference and query together, in any order: equal for all cases with the same cells.
    """

    task: str
    setting: str
    part: str
    unit: str
    seed: int
    reference: CellData
    query: CellData
    labels: Labels
    truth: Labels
    groups: Labels | None
    genes: Rows
    union: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.task, self.setting, self.part


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Cells of one file, all labelled."""

    name: str
    cells: CellData
    labels: Labels


def read_set(folder: Path, name: str) -> LabelledSet:
    """Read the labelled cells of a file of the data folder."""
    cells = read_cells(folder / "cells" / f"{name}.h5ad", min_genes=200)
    if name == "kang_pbmc":
        table = pd.read_csv(folder / "cells" / KANG_LABELS, index_col="obs_name")
        obs = cells.obs.drop(columns=["cell_type", "donor"], errors="ignore")
        cells = replace(cells, obs=obs.join(table[["cell_type", "donor"]].astype(str)))
        cells = cells[cells.obs["cell_type"].notna().to_numpy()]
    return labelled(name, cells)


def labelled(name: str, cells: CellData) -> LabelledSet:
    """Return the cells of types with at least ten cells, and their labels apart from them."""
    cells = common_types(cells)
    labels = cells.obs["cell_type"].astype(str).to_numpy(object)
    return LabelledSet(name, replace(cells, obs=cells.obs[[c for c in ("donor",) if c in cells.obs]]), labels)


def files(tasks: Sequence[str]) -> list[str]:
    """Return the files of the data folder that the tasks need."""
    names = list[str]()
    for task in tasks:
        first, _, second = task.partition(".")
        names += [REFERENCE, second] if first == "blood" else [first]
    needed = [f"cells/{name}.h5ad" for name in dict.fromkeys(names)]
    return [*needed, f"cells/{KANG_LABELS}"] if "kang_pbmc" in names else needed


class Sets:
    """The sets of a data folder, each read once; None: the packaged cells."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._read: dict[str, LabelledSet] = {}

    def __getitem__(self, name: str) -> LabelledSet:
        if name not in self._read:
            if self.folder is None:
                self._read[name] = labelled(name, from_anndata(demo_cells()[PACKAGED[name]]))
            else:
                self._read[name] = read_set(self.folder, name)
        return self._read[name]


def cases(sets: Sets, task: str, setting: str, seed: int) -> Iterator[Case]:
    """Yield the cases of a task in a setting for a seed; none for a later seed where nothing is drawn."""
    first, _, second = task.partition(".")
    drawn = setting != "all" or not second
    if seed and not drawn:
        return
    if first == "blood":
        yield _across(sets[REFERENCE], sets[second], task, setting, seed)
    elif second == "donor":
        yield from _donors(sets[first], task, setting, seed)
    else:
        yield _within(sets[first], task, setting, seed)


def labelled_rows(labels: Labels, setting: str, seed: int) -> Rows:
    """Return the cells that keep their label in a setting, int64."""
    if setting == "all":
        return np.arange(len(labels))
    if setting == "10%":
        return stratified(labels, TENTH, [seed])[0].train
    return few_shot(labels, int(setting), [seed])[0].train


def _within(one: LabelledSet, task: str, setting: str, seed: int) -> Case:
    """Return a split: four fifths have labels, or a tenth, or some cells a type; all others are named."""
    if setting in ("all", "10%"):
        split = stratified(one.labels, TEST if setting == "all" else TENTH, [seed])[0]
    else:
        split = few_shot(one.labels, int(setting), [seed])[0]
    refuse_leakage(split)
    return _case(one, split, task, setting, f"seed {seed}", seed, union=one.name)


def _donors(one: LabelledSet, task: str, setting: str, seed: int) -> Iterator[Case]:
    """Yield each donor in turn; with few labels, those of the other donors are drawn by seed."""
    donors = one.cells.obs["donor"].astype(str).to_numpy(object)
    for whole in leave_one_group_out(donors):
        train = whole.train[labelled_rows(one.labels[whole.train], setting, seed)]
        known = np.isin(one.labels[whole.test], one.labels[train])
        split = Split(train, whole.test[known], whole.name, whole.unit, seed)
        refuse_leakage(split, donor=donors)
        # with all labels, the cells of both sides are those of the set whichever donor is left out
        union = one.name if setting == "all" and known.all() else f"{task} {setting} {whole.name} {seed}"
        yield _case(one, split, task, setting, f"{whole.name}, seed {seed}", seed, union=union, donors=donors)


def _case(
    one: LabelledSet,
    split: Split,
    task: str,
    setting: str,
    part: str,
    seed: int,
    *,
    union: str,
    donors: Labels | None = None,
) -> Case:
    labels, truth = one.labels[split.train], one.labels[split.test]
    groups = None if donors is None else _usable_groups(donors[split.train], labels)
    unit = f"seed {seed}" if donors is None else split.name
    reference, query = one.cells[split.train], one.cells[split.test]
    genes = one.cells.audit.found
    return Case(task, setting, part, unit, seed, reference, query, labels, truth, groups, genes, union)


def _across(source: LabelledSet, target: LabelledSet, task: str, setting: str, seed: int) -> Case:
    """Return a case where all cells of the other set are named."""
    reference, labels = shared(source)
    query, truth = shared(target)
    rows, part = labelled_rows(labels, setting, seed), f"seed {seed}"
    genes, union = np.intersect1d(reference.audit.found, query.audit.found), f"{task} {setting} {seed}"
    return Case(task, setting, part, part, seed, reference[rows], query, labels[rows], truth, None, genes, union)


def shared(one: LabelledSet) -> tuple[CellData, Labels]:
    """Return the cells of the types that the tasks across sets ask for, and those names."""
    names = pd.Series(one.labels).map(SHARED_TYPES[one.name])
    known = names.notna().to_numpy()
    return one.cells[known], names[known].to_numpy(object)


def _usable_groups(donors: Labels, labels: Labels) -> Labels | None:
    few = len(labels) < LEAST_A_TYPE * len(np.unique(labels))
    return None if few or len(np.unique(donors)) < 2 else donors
