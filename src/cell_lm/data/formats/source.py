"""One matrix of an AnnData with its cells and genes, and the names of the other matrices.

A matrix is checked here before compiled code reads it: a wrong index would read outside the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.formats.numbers import plain_index, plain_numbers
from cell_lm.errors import InputError
from cell_lm.remedies import option

Matrix: TypeAlias = "sparse.csr_matrix[Any] | sparse.csc_matrix[Any] | NDArray[Any]"

_SPARSE = (sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array)
X, RAW = "X", "raw"
"""The matrices that are not layers."""
_SAMPLE = 1 << 14


class Place(str):
    """The name of another matrix, with the kind of its first entries, so that advice names only usable ones.

    Attributes
    ----------
    holds_counts : bool or None
        Whether the first entries are non-negative integers, and not all 0 or 1; None: not checked.
    """

    holds_counts: bool | None = None

    @classmethod
    def seen(cls, name: str, sample: NDArray[Any] | None) -> Place:
        """Return the name of a matrix, given some of its entries."""
        place = cls(name)
        if sample is not None and sample.dtype.kind in "buif":
            with np.errstate(invalid="ignore"):
                whole = bool((sample >= 0).all() and (sample == np.floor(sample.astype(np.float64))).all())
            place.holds_counts = whole and sample.max(initial=0) > 1
        return place


@dataclass(frozen=True)
class Source:
    """One matrix of an AnnData, cells by genes, on whatever scale it is.

    Attributes
    ----------
    name : str
        Name of the file, for messages.
    place : str
        Location of the matrix: ``X``, ``layer 'counts'`` or ``raw``.
    X : csr_matrix, csc_matrix or ndarray
        [cells, genes]; shares its memory with the AnnData and must not be written to.
    obs, var : DataFrame
        The cells and the genes.
    elsewhere : tuple of str
        The other matrices, each as a value for ``layer``.
    remarks : tuple of str
        Choices made to read the file, to show to the user.
    """

    name: str
    place: str
    X: Matrix
    obs: pd.DataFrame
    var: pd.DataFrame
    elsewhere: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Location of the matrix, for messages."""
        return f"{self.name}, {self.place}"


def select(adata: AnnData, layer: str | None, *, name: str) -> Source:
    """Choose X (``layer`` is None or ``"X"``), a layer, or ``adata.raw`` (``"raw"``); layers of those names go first.

    Raises
    ------
    InputError
        There is no such layer, no ``X``, no cell or no gene; or the matrix is damaged or of an unsupported kind.
    """
    layers = [str(key) for key in adata.layers]
    place, elsewhere = choose(layer, layers, has_x=adata.X is not None, has_raw=adata.raw is not None, name=name)
    if place == RAW:
        matrix, var = adata.raw.X, adata.raw.var
    else:
        matrix, var = (adata.X if place == X else adata.layers[layer]), adata.var
    matrix = plain(matrix, (adata.n_obs, len(var)), where=f"{name}, {place}")
    seen = tuple(Place.seen(other, _some_entries(_matrix_at(adata, other, layers))) for other in elsewhere)
    return Source(name, place, matrix, adata.obs, var, seen)


def _matrix_at(adata: AnnData, place: str, layers: Sequence[str]) -> Any:
    if place in layers:
        return adata.layers[place]
    return adata.X if place == X else adata.raw.X


def _some_entries(matrix: Any) -> NDArray[Any] | None:
    """Return some entries of a matrix in memory."""
    if isinstance(matrix, np.ndarray):
        return matrix[: max(1, _SAMPLE // max(matrix.shape[1], 1))].ravel()
    return np.asarray(matrix.data[:_SAMPLE]) if isinstance(matrix, _SPARSE) else None


def choose(
    layer: str | None, layers: Sequence[str], *, has_x: bool, has_raw: bool, name: str
) -> tuple[str, tuple[str, ...]]:
    """Return the location that ``layer`` names, and the other ones; raise if there is no such location."""
    others = [key for key in layers if key != layer]
    others += [place for place, there in ((RAW, has_raw), (X, has_x)) if there and place not in (layer or X, *layers)]
    if layer is not None and layer in layers:
        return f"layer '{layer}'", tuple(others)
    if (layer or X) == X and has_x:
        return X, tuple(others)
    if layer == RAW and has_raw:
        return RAW, tuple(others)
    found = "it has no X" if layer in (None, X) else f"it has no layer '{layer}'"
    found += " and no adata.raw" if layer == RAW else ""
    fix = f"Choose with {option('layer')}; there is: {', '.join(others)}" if others else "It holds no matrix at all"
    raise InputError(found, where=name, fix=fix)


def plain(matrix: object, shape: tuple[int, int], *, where: str) -> Matrix:
    """Return a checked matrix as CSR, CSC or a dense array on the same memory.

    Raises
    ------
    InputError
        The matrix is of another kind, is not of real numbers, has the wrong shape, no cell or no gene, or damaged
        indices.
    """
    if hasattr(matrix, "to_memory"):
        matrix = matrix.to_memory()
    elif isinstance(matrix, h5py.Dataset):
        matrix = matrix[()]
    if not isinstance(matrix, (np.ndarray, *_SPARSE)):
        kind = f"{type(matrix).__module__.split('.')[0]}.{type(matrix).__name__}"
        fix = "Give a dense array, or scipy's csr_matrix or csc_matrix (adata.to_memory() reads a lazy one)"
        raise InputError(f"it is a {kind}, which is not read", where=where, fix=fix)
    if matrix.dtype.kind not in "buif":
        raise InputError(f"it holds {matrix.dtype}, not real numbers", where=where, fix="Convert it to numbers")
    if matrix.shape != shape:
        found = f"it is {_times(matrix.shape)}, but there are {shape[0]:,} cells and {shape[1]:,} genes"
        raise InputError(found, where=where, fix="The file is damaged: write it again from its source")
    if 0 in shape:
        found = f"it holds {shape[0]:,} cells and {shape[1]:,} genes"
        raise InputError(found, where=where, fix="Check the filtering that came before: nothing is left to read")
    if isinstance(matrix, np.ndarray):
        return plain_numbers(matrix)
    return _plain_sparse(matrix, where=where)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape)


def _plain_sparse(matrix: Any, *, where: str) -> Matrix:
    """Rebuild on the same arrays: scipy sorts and prunes in place, which must not change the user's matrix."""
    rows = matrix.format == "csr"
    damage = sparse_damage(matrix.data, matrix.indices, matrix.indptr, matrix.shape if rows else matrix.shape[::-1])
    if damage:
        fix = "Write it again from its source"
        raise InputError(f"its sparse index is damaged: {damage}", where=where, fix=fix)
    build = sparse.csr_matrix if rows else sparse.csc_matrix
    parts = plain_numbers(matrix.data), plain_index(matrix.indices), plain_index(matrix.indptr)
    return build(parts, shape=matrix.shape, copy=False)


def sparse_damage(
    data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]
) -> str | None:
    """Return what is wrong with the arrays of a compressed matrix, or nothing.

    Unsorted and repeated indices are valid: scipy sums repeated ones.
    """
    major, minor = shape
    if any(array.ndim != 1 for array in (data, indices, indptr)) or not {indices.dtype.kind, indptr.dtype.kind} <= {
        "i",
        "u",
    }:
        return "data, indices and indptr are not three rows of numbers"
    if len(indptr) != major + 1 or indptr[0] != 0:
        return f"indptr has {len(indptr):,} entries, where {major + 1:,} from 0 on are needed"
    falls = np.count_nonzero(indptr[1:] < indptr[:-1])
    if falls:
        return f"indptr falls at {falls:,} of {major:,} places"
    if len(data) != len(indices) or indptr[-1] > len(data):
        return f"indptr ends at {indptr[-1]:,} with {len(data):,} values and {len(indices):,} indices"
    indices = indices[: indptr[-1]]
    outside = np.count_nonzero((indices < 0) | (indices >= minor))
    return f"{outside:,} of {len(indices):,} indices lie outside 0 to {minor - 1:,}" if outside else None
