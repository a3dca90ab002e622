"""Checks what an h5ad file cannot store in an AnnData, before the results for the file are computed.

Files of other programs, and tables, can hold what h5ad cannot store: a column called ``_index`` (SeuratDisk), mixed
numbers and text, dates. Names are changed and columns converted to text if nothing is lost; the rest is refused.
Anything else that anndata would refuse is found by writing a few rows of every part into memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, MutableMapping
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

from cell_lm.data.formats.storable import clean, clean_text, mended_column, mended_names
from cell_lm.errors import InputError

_RESERVED = "_index"
_FEW = 2
_MAPPINGS = ("layers", "obsm", "varm", "obsp", "varp")


def make_writable(adata: AnnData, *, where: str = "adata") -> tuple[str, ...]:
    """Convert in place what h5ad cannot store.

    Parameters
    ----------
    adata
        In memory, not a view; its matrices are not changed.
    where
        Name of the data in errors.

    Returns
    -------
    tuple of str
        The changes, one line each for the user.

    Raises
    ------
    InputError
        Something else cannot be written; the message names it.
    """
    notes: list[str] = []
    for name in ("obs", "var"):
        frame = getattr(adata, name)
        if (mended := _mended(frame, name, notes)) is not frame:
            setattr(adata, name, mended)
    if adata.raw is not None:
        var = _mended(adata.raw.var, "raw.var", notes)
        if var is not adata.raw.var:
            adata.raw = AnnData(adata.raw.X, obs=adata.obs[[]], var=var, varm=dict(adata.raw.varm))
    for name in _MAPPINGS:
        mapping = getattr(adata, name)
        _rename_keys(mapping, name, notes)
        for key, value in list(mapping.items()):
            if isinstance(value, pd.DataFrame):
                mapping[key] = _mended(value, f"{name}['{key}']", notes)
    _rename_keys(adata.uns, "uns", notes)
    _probe(adata, where)
    return tuple(notes)


def check_writable(adata: AnnData, *, where: str = "adata") -> None:
    """Refuse what can be neither written nor converted, before any work; nothing is changed.

    Raises
    ------
    InputError
        As :func:`make_writable`.
    """
    raw = None if adata.raw is None else {"X": adata.raw.X, "var": adata.raw.var, "varm": dict(adata.raw.varm)}
    parts: dict[str, Any] = {name: dict(getattr(adata, name)) for name in (*_MAPPINGS, "uns")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of cells that are not unique
        make_writable(AnnData(adata.X, obs=adata.obs, var=adata.var, raw=raw, **parts), where=where)


def _mended(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Return a table that can be written; the same one if nothing has to change."""
    names = mended_names([*frame.columns], taken={_RESERVED})
    columns = {place: column for place in range(frame.shape[1]) if (column := mended_column(frame.iloc[:, place]))}
    index = clean_text(frame.index)
    title = _index_title(frame, names)
    if names == [*frame.columns] and not columns and index is None and title == frame.index.name:
        return frame
    for old, new in zip(frame.columns, names, strict=True):
        if old != new:
            notes.append(f"column {_shown(old)} of {name} is called '{new}' in what is written: h5ad cannot hold it so")
    for place, column in columns.items():
        if column.what:
            notes.append(f"column '{names[place]}' of {name} is written as {column.what}: h5ad has no form for it")
    if index is not None:
        notes.append(f"names of {name} are written as plain text: h5ad cannot hold some of them as they are")
    rows = frame.index if index is None else pd.Index(index, dtype=object)
    values = [columns[place].values if place in columns else frame.iloc[:, place].array for place in range(len(names))]
    return pd.DataFrame(dict(zip(names, values, strict=True)), index=rows.rename(title))


def _index_title(frame: pd.DataFrame, names: list[str]) -> str | None:
    """Return the name of the index: none where it is no text, or that of a column that differs."""
    title = frame.index.name
    if not isinstance(title, str) or title in names:
        return None
    return title


def _rename_keys(mapping: MutableMapping[Any, Any], name: str, notes: list[str]) -> None:
    keys = [*mapping]
    for old, new in zip(keys, mended_names(keys), strict=True):
        if old != new:
            mapping[new] = mapping.pop(old)
            notes.append(f"{name}[{_shown(old)}] is called '{new}' in what is written: h5ad cannot hold it so")


def _shown(name: object) -> str:
    return f"'{clean(name)}'" if isinstance(name, str) else repr(name)


def _probe(adata: AnnData, where: str) -> None:
    """Write a few rows of every part into memory, to find whatever anndata refuses."""
    with h5py.File("probe", "w", driver="core", backing_store=False) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (name, value) in enumerate(_parts(adata)):
            try:
                write_elem(file, str(number), _some(value))
            except Exception as error:  # h5py and anndata raise many kinds of errors for an unsupported value
                reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"[:200]
                fix = f"Remove it first (del adata.{name}), and write the file again"
                raise InputError(f"its {name} cannot be written as h5ad ({reason})", where=where, fix=fix) from None


def _parts(adata: AnnData) -> Iterator[tuple[str, Any]]:
    yield from (("obs", adata.obs), ("var", adata.var))
    if adata.raw is not None:
        yield "raw", adata.raw.var
    for name in (*_MAPPINGS, "uns"):
        yield from ((f"{name}['{key}']", value) for key, value in getattr(adata, name).items())


def _some(value: Any) -> Any:
    """Return a few rows of a matrix or table, and a few of each in a dictionary."""
    if isinstance(value, dict):
        return {key: _some(item) for key, item in value.items()}
    if isinstance(value, pd.DataFrame):
        return value.head(_FEW)
    rows: Any = value
    return rows[:_FEW] if (isinstance(value, np.ndarray) and value.ndim) or sparse.issparse(value) else value
