"""Files and stores of a pretraining run and the malignancy of their cells: checked before anything is written."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cell_lm.cli.console import Messages
from cell_lm.data import NORMAL, TUMOUR, UNKNOWN, CellData, MalignancyColumn, ReadOptions, read_cells
from cell_lm.data.backed import BackedCells, open_backed
from cell_lm.data.cautions import selected_genes
from cell_lm.data.opening import BACKED_ABOVE, is_store, refuse_models, stays_on_disk
from cell_lm.data.protocol import Dataset
from cell_lm.data.store import Store
from cell_lm.errors import ConfigError
from cell_lm.genes.vocabulary import Vocabulary

FileMalignancy = Literal["tumour", "normal"]


@dataclass(frozen=True)
class Inputs:
    """The files of a pretraining run.

    Attributes
    ----------
    files : tuple of Path
        In the order of the run, each once.
    whole : dict
        Files in which all cells are tumour, or all are normal.
    column : MalignancyColumn or None
        Column with the malignancy of the cells, in those other files that have it.
    verify : bool
        Whether the files of stores are hashed before they are used.
    """

    files: tuple[Path, ...]
    whole: Mapping[Path, FileMalignancy] = field(default_factory=dict)
    column: MalignancyColumn | None = None
    verify: bool = True

    @classmethod
    def gather(
        cls,
        files: Sequence[Path],
        tumour: Sequence[Path],
        normal: Sequence[Path],
        column: MalignancyColumn | None,
        *,
        verify: bool = True,
    ) -> Inputs:
        """Put the files in order: those given as arguments, then those given only as tumour or normal.

        Raises
        ------
        ConfigError
            There is none, one is given twice, or one as both tumour and normal.
        """
        for kind in (files, tumour, normal):
            _refuse_repeats(kind)
        both = {_identity(path) for path in tumour} & {_identity(path) for path in normal}
        if both:
            raise ConfigError("it is named as tumour and as normal", where=min(both), fix="Name it once")
        every = {_identity(path): path for path in (*files, *tumour, *normal)}
        if not every:
            raise ConfigError("there is no file of cells to learn from", fix="Name at least one .h5ad file")
        whole: dict[Path, FileMalignancy] = {every[_identity(path)]: "tumour" for path in tumour}
        whole |= {every[_identity(path)]: "normal" for path in normal}
        return cls(tuple(every.values()), whole, column, verify)

    def read(
        self,
        read: ReadOptions,
        says: Messages,
        *,
        backed_above: float = BACKED_ABOVE,
        vocabulary: Vocabulary | None = None,
    ) -> list[Dataset]:
        """Read all files, and open all stores.

        Parameters
        ----------
        read
            How every file is read.
        says
            Receives a note about each file.
        backed_above
            h5ad files larger than this, in GB, stay on disk.
        vocabulary
            Genes to read from files; default: the packaged vocabulary.

        Raises
        ------
        InputError, CountsError, GeneError
            As :func:`cell_lm.data.read_cells` and :meth:`cell_lm.data.store.Store.open`; or no file has the malignancy
            column.
        ConfigError
            A store is given as tumour or normal.
        """
        datasets = [self._read(path, read, says, backed_above, vocabulary) for path in self.files]
        self._refuse_absent_column(datasets)
        for value in self._unseen(datasets):
            says.note(f"no cell has '{value}' in obs column '{self.column.column if self.column else ''}'")
        return datasets

    def _unseen(self, datasets: Sequence[Dataset]) -> list[str]:
        """Return the values given as tumour, normal or unknown that no cell has: most likely typing errors."""
        column = self.column
        if column is None or not column.values:
            return []
        frames = [cells.obs[column.column] for cells in _files(datasets) if column.column in cells.obs]
        held = {str(value) for frame in frames for value in frame.unique()}
        return [value for value in column.values if value not in held]

    def _read(
        self, path: Path, read: ReadOptions, says: Messages, backed_above: float, vocabulary: Vocabulary | None
    ) -> Dataset:
        if is_store(path):
            return self._open(path, says)
        refuse_models(path)
        backed = stays_on_disk(path, backed_above)
        says.note(f"reading {path}{', which stays on disk' if backed else ''}")
        whole, reader = self.whole.get(path), open_backed if backed else read_cells
        cells: CellData | BackedCells = reader(path, vocabulary=vocabulary, read=replace(read, malignancy=whole))
        if self.column is not None and whole is None and self.column.column in cells.obs:
            cells = replace(cells, malignancy=self.column.read(cells.obs, where=cells.name))
        for line in self._remarks(cells, read, whole):
            says.note(line, indent=2)
        return cells

    def _open(self, path: Path, says: Messages) -> Store:
        if path in self.whole:
            fix = "Leave out --tumour-file and --normal-file for it; cell-lm prepare takes the malignancy"
            raise ConfigError("it is a store, which knows the malignancy of its cells", where=str(path), fix=fix)
        says.note(f"opening {path}")
        store = Store.open(path, verify=self.verify)
        if self.verify:
            with says.progress("hashing", store.size - store.manifest.vocabulary.size) as done:
                store.refuse_damaged(done)
        counts = {
            word: int(np.count_nonzero(store.malignancy == malignancy)) for word, malignancy in _MALIGNANCY.items()
        }
        told = ", ".join(f"{number:,} {word}" for word, number in counts.items() if number)
        sources, shards = len(store.manifest.sources), len(store.shards)
        says.note(f"{len(store):,} cells: {told}", indent=2)
        says.note(f"{sources:,} source{'s' * (sources != 1)} in {shards:,} shard{'s' * (shards != 1)}", indent=2)
        return store

    def _remarks(self, cells: CellData | BackedCells, read: ReadOptions, whole: FileMalignancy | None) -> Iterable[str]:
        yield from cells.remarks
        yield f"{len(cells):,} cells: {describe_malignancy(cells)}"
        if cells.dropped:
            yield f"{cells.dropped:,} cells left out: fewer than {read.min_genes} expressed genes (--min-genes)"
        if self.column is not None and whole is None and self.column.column not in cells.obs:
            yield f"no obs column '{self.column.column}': the malignancy of its cells counts as unknown"
        yield cells.audit.summary()
        selected = selected_genes(len(cells.audit.found), cells.audit.coverage)
        if selected is not None:
            yield f"warning: {selected}"

    def _refuse_absent_column(self, datasets: Sequence[Dataset]) -> None:
        """Refuse a malignancy column that no file has; one of several files may lack it."""
        column = self.column
        if column is None or any(column.column in cells.obs for cells in _files(datasets)):
            return
        plain = [cells for cells, path in zip(datasets, self.files, strict=True) if path not in self.whole]
        asked = _files(plain)
        if asked:
            column.read(asked[0].obs, where=asked[0].name)  # raises an error that lists the columns
        kind = "a store, or named as tumour or as normal" if plain else "named as tumour or as normal"
        raise ConfigError(
            f"every file is {kind}, so no malignancy column is read",
            fix="Leave out --malignancy-column"
            if plain
            else "Leave out --malignancy-column, or name the files plainly",
        )


def _files(datasets: Sequence[Dataset]) -> list[CellData | BackedCells]:
    return [cells for cells in datasets if isinstance(cells, CellData | BackedCells)]


def _identity(path: Path) -> str:
    return os.path.realpath(path)


def _refuse_repeats(files: Sequence[Path]) -> None:
    seen: set[str] = set()
    for path in files:
        if _identity(path) in seen:
            raise ConfigError("the file is named twice", where=str(path), fix="Its cells would count double: name once")
        seen.add(_identity(path))


def describe_malignancy(cells: CellData | BackedCells) -> str:
    """Return how many cells are tumour, normal and unknown."""
    counted = {word: int(np.sum(cells.malignancy == malignancy)) for word, malignancy in _MALIGNANCY.items()}
    return ", ".join(f"{number:,} {word}" for word, number in counted.items() if number)


_MALIGNANCY = {"tumour": TUMOUR, "normal": NORMAL, "of unknown malignancy": UNKNOWN}


def read_malignancy_options(column: str | None, meanings: Mapping[str, Sequence[str]]) -> MalignancyColumn | None:
    """Return the column with the malignancy of cells, and the meaning of its values.

    Parameters
    ----------
    column
        Its name, if one was given.
    meanings
        ``tumour``, ``normal`` and ``unknown``, each with its values: comma-separated, quoted if they contain commas.

    Raises
    ------
    ConfigError
        Values without a column, or one value with two meanings.
    """
    values: dict[str, str] = {}
    for malignancy, typed in meanings.items():
        for value in (value.strip() for row in csv.reader(typed, skipinitialspace=True) for value in row):
            if value and values.setdefault(value, malignancy) != malignancy:
                raise ConfigError(
                    f"'{value}' is given two meanings, {values[value]} and {malignancy}", fix="Name it once"
                )
    if column is None:
        if values:
            raise ConfigError(
                f"{len(values)} values of malignancy are given, without the column that holds them",
                fix="Add --malignancy-column COLUMN",
            )
        return None
    return MalignancyColumn(column, values)
