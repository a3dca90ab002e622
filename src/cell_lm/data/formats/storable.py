"""Conversion of columns and names to a form that h5ad can store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api import types

_TEXT = 1 << 14
_ODD = ("", ".", "..")
"""Keys that HDF5 takes for a group itself."""


class Mended(NamedTuple):
    """Converted values, and a description of the change; ``""`` if the user need not know."""

    values: Any
    what: str

    def __bool__(self) -> bool:
        return True


def mended_names(names: Sequence[object], *, taken: AbstractSet[str] = frozenset()) -> list[Any]:
    """Return names that h5ad can hold: text without ``/``, each once, none of the reserved ones (``taken``)."""
    given: list[Any] = []
    for name in names:
        new = _plain(name)
        base = f"{new.strip('_') or 'column'}_" if new in taken or new in _ODD else new
        number = 1
        new = base
        while new in given or (new != name and new in names):
            new, number = f"{base}-{number}", number + 1
        given.append(new)
    return given


def _plain(name: object) -> str:
    if isinstance(name, tuple):
        name = "_".join(map(str, name))
    return clean(str(name)).replace("/", "_")


def mended_column(column: pd.Series[Any]) -> Mended | None:
    """Return a column in a form that h5ad can store; None if it is already in one."""
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return _mended_categories(column)
    if isinstance(kind, np.dtype) and kind.kind in "biufcS":
        return None
    if types.is_object_dtype(kind) or isinstance(kind, pd.StringDtype):
        return _mended_objects(column)
    if isinstance(kind, pd.BooleanDtype) or (types.is_extension_array_dtype(kind) and str(kind)[:3] in ("Int", "UIn")):
        return None
    if types.is_numeric_dtype(kind):
        return Mended(column.to_numpy(dtype=np.float64, na_value=np.nan), "plain numbers")
    return _as_text(column)


def _mended_categories(column: pd.Series[Any]) -> Mended | None:
    categories = column.cat.categories
    mended = mended_column(pd.Series(categories))
    if mended is None:
        return None
    return _as_text(column.astype(object))


def _mended_objects(column: pd.Series[Any]) -> Mended | None:
    kind = types.infer_dtype(column, skipna=True)
    if kind == "string" and clean_text(column) is None:
        if isinstance(column.dtype, pd.StringDtype) or column.hasnans:
            return _as_text(column)._replace(what="")
        return None
    if kind == "bytes":
        return None
    if kind == "empty":
        return Mended(np.full(len(column), np.nan), "missing numbers")
    if kind == "boolean":
        return Mended(column.astype("boolean").array, "truth values")
    if kind in ("floating", "mixed-integer-float"):
        return Mended(column.to_numpy(dtype=np.float64, na_value=np.nan), "numbers")
    return _as_text(column)


def _as_text(column: pd.Series[Any]) -> Mended:
    """Return a column as text; as categories where values are missing, since h5ad has no missing text."""
    missing = column.isna().to_numpy()
    texts = [None if gap else clean(text) for text, gap in zip(column.astype(str), missing, strict=True)]
    return Mended(pd.Categorical(texts) if missing.any() else np.array(texts, object), "text")


def clean_text(values: Iterable[Any]) -> list[str] | None:
    """Return values as text that HDF5 can hold, without null characters; None where all are such text already."""
    texts = list(values)
    if all(isinstance(text, str) or text is None or text is pd.NA or text != text for text in texts):
        strings = [text for text in texts if isinstance(text, str)]
        parts = ("\n".join(strings[start : start + _TEXT]) for start in range(0, len(strings), _TEXT))
        if all(_holds(part) for part in parts):
            return None
    return [clean(str(text)) for text in texts]


def _holds(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def clean(text: str) -> str:
    """Return text that HDF5 can hold: bytes that were no UTF-8 spelled out, null characters left out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "")
