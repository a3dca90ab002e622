"""Dtypes that scipy and compiled code support: native byte order, single precision or more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def number_type(kind: np.dtype[Any]) -> np.dtype[Any]:
    """Return the supported dtype that holds every number of another one: half precision becomes single."""
    if kind.kind == "f":
        return np.dtype(np.float32 if kind.itemsize < 4 else np.float64 if kind.itemsize > 8 else f"f{kind.itemsize}")
    return kind.newbyteorder("=")


def plain_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in that dtype; the same array if it already has it."""
    return np.asarray(values, dtype=number_type(values.dtype))


def plain_index(index: NDArray[Any]) -> NDArray[Any]:
    """Return indices of a sparse matrix as int32 or int64; the same array if they are already."""
    if index.dtype in (np.int32, np.int64):
        return np.asarray(index)
    small = index.dtype.itemsize < 4 or (index.dtype.kind == "i" and index.dtype.itemsize == 4)
    return np.asarray(index, dtype=np.int32 if small else np.int64)
