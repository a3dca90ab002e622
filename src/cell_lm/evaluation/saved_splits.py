"""Splits on disk, as JSON, with a hash of the cells, so that they cannot be used for other cells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from cell_lm.errors import InputError
from cell_lm.evaluation.splits import Rows, Split
from cell_lm.files import JSON, write_json
from cell_lm.reading import MOST_LISTED, read_json, reason

VERSION = 1
_ROWS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Splits:
    """Splits of one set of cells.

    Attributes
    ----------
    splits : tuple of Split
        In order.
    cells : str
        :func:`cells_hash` of the cells they index.
    """

    splits: tuple[Split, ...]
    cells: str

    def __iter__(self) -> Iterator[Split]:
        """Iterate over the splits."""
        return iter(self.splits)

    def __len__(self) -> int:
        """Return the number of splits."""
        return len(self.splits)

    def to_json(self) -> JSON:
        """Return them as JSON values."""
        return {"version": VERSION, "cells": self.cells, "splits": [_written(split) for split in self.splits]}

    @classmethod
    def from_json(cls, value: JSON, *, cells: str, where: str = "splits") -> Splits:
        """Return the splits that :meth:`to_json` wrote.

        Parameters
        ----------
        value
            JSON values.
        cells
            :func:`cells_hash` of the cells to split.
        where
            The file, for messages.

        Raises
        ------
        InputError
            The splits are for other cells, of a newer version, or damaged.
        """
        fix = "Make the splits again for these cells"
        splits = value.get("splits") if isinstance(value, dict) and value.get("version") == VERSION else None
        if not isinstance(value, dict) or not isinstance(splits, list):
            raise InputError("these are not splits, or of another version", where=where, fix=fix)
        if value.get("cells") != cells:
            found = f"the splits are of other cells (hash {str(value.get('cells'))[:12]}, not {cells[:12]})"
            raise InputError(found, where=where, fix="Use the cells that they were made for, or make them again")
        try:
            return cls(tuple(_read(each) for each in splits), cells)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a split is damaged: {error}", where=where, fix=fix) from error

    def save(self, path: str | Path) -> None:
        """Write the splits to a JSON file, atomically."""
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path, *, cells: str) -> Splits:
        """Read what :meth:`save` wrote; errors as :meth:`from_json`, or there is no such file."""
        try:
            value = read_json(Path(path), most=MOST_LISTED)
        except (OSError, ValueError) as error:
            found = f"it cannot be read ({reason(error)})"
            raise InputError(found, where=str(path), fix="Make the splits again") from None
        return cls.from_json(value, cells=cells, where=str(path))


def cells_hash(names: Sequence[str] | ArrayLike, expression: sparse.csr_matrix[Any] | None = None) -> str:
    """Return the SHA-256 of cells: of their names in order and, if given, of their expression.

    Parameters
    ----------
    names
        ``obs_names``, or other names of the rows.
    expression
        [cells, genes]; two matrices of the same values have the same hash, however their entries are stored.

    Raises
    ------
    InputError
        The numbers of rows and names differ.
    """
    text = [str(name).encode() for name in np.asarray(names, dtype=object)]
    digest = hashlib.sha256()
    for name in text:
        digest.update(len(name).to_bytes(8, "little") + name)
    if expression is not None:
        if expression.shape[0] != len(text):
            found = f"{expression.shape[0]:,} rows of expression for {len(text):,} names"
            raise InputError(found, where="cells", fix="Pass the names of the same cells")
        canonical = sparse.csr_matrix(expression, dtype=np.float32, copy=True)
        canonical.sum_duplicates()
        canonical.eliminate_zeros()
        digest.update(np.asarray(canonical.shape, "<i8").tobytes())
        for part, kind in ((canonical.indptr, "<i8"), (canonical.indices, "<i8"), (canonical.data, "<f4")):
            digest.update(np.ascontiguousarray(part, kind).tobytes())
    return digest.hexdigest()


def _written(split: Split) -> JSON:
    rows: dict[str, JSON] = {side: getattr(split, side).tolist() for side in _ROWS}
    return {"name": split.name, "unit": split.unit, "seed": split.seed, "rare": list(split.rare), **rows}


def _read(value: Any) -> Split:
    train, validation, test = (_read_rows(value[side], side) for side in _ROWS)
    rare = tuple(str(name) for name in value["rare"])
    return Split(train, test, str(value["name"]), str(value["unit"]), value["seed"], validation, rare)


def _read_rows(value: Any, side: str) -> Rows:
    rows = np.asarray(value)
    if rows.ndim != 1 or (len(rows) and (rows.dtype.kind != "i" or (rows < 0).any())):
        raise ValueError(f"its {side} rows are not whole numbers from 0")
    return rows.astype(np.int64)
