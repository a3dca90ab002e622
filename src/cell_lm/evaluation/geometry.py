"""Geometry: how the cells of an embedding are distributed in space.

Unless noted, all measures use rows scaled to length 1. They are exact where a closed form exists and computed by blocks
elsewhere, so that no cells x cells matrix is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError
from cell_lm.evaluation.labels import Labels, as_labels

Floats: TypeAlias = NDArray[np.float64]

BLOCK = 2048
"""Rows per block: a tile of squared distances is then 32 MB."""


@dataclass(frozen=True)
class Geometry:
    """Geometry of one embedding."""

    cells: int
    """Number of cells."""
    width: int
    """Number of dimensions."""
    mean_cosine: float
    """Mean cosine similarity of two different cells; in [-1, 1], lower is more spread out."""
    uniformity: float
    """Wang & Isola's uniformity with t = 2; in [-8, 0], lower is more spread out."""
    effective_rank: float
    """Roy & Vetterli's effective rank of the centred embedding; in [0, width], higher uses more dimensions."""
    alignment: float | None = None
    """Wang & Isola's alignment with alpha = 2 of the positive pairs; in [0, 4], lower is closer; None without pairs."""
    positives: Literal["views", "labels"] | None = None
    """What the positive pairs are: two views of the same cell, or two cells of the same label."""


def _matrix(embedding: ArrayLike, where: str) -> NDArray[np.floating]:
    matrix = np.asarray(embedding)
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.number) or np.iscomplexobj(matrix):
        found = f"expected numbers of shape [cells, dimensions], found {matrix.dtype} of shape {matrix.shape}"
        raise InputError(found, where=where, fix="Pass adata.obsm['X_cell_lm']")
    if len(matrix) < 2 or matrix.shape[1] < 1:
        found = f"{matrix.shape[0]} cells x {matrix.shape[1]} dimensions"
        raise InputError(found, where=where, fix="Pass at least 2 cells")
    bad = sum(int((~np.isfinite(matrix[rows]).all(axis=1)).sum()) for rows in _blocks(len(matrix)))
    if bad:
        found = f"{bad} of {len(matrix)} cells have NaN or infinite values"
        raise InputError(found, where=where, fix="Embed these cells again, or leave them out")
    return matrix if np.issubdtype(matrix.dtype, np.floating) else matrix.astype(np.float64)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def _norms(matrix: NDArray[np.floating], where: str) -> Floats:
    norms = np.concatenate([np.linalg.norm(matrix[rows].astype(np.float64), axis=1) for rows in _blocks(len(matrix))])
    zero = int((norms == 0).sum())
    if zero:
        found = f"{zero} of {len(matrix)} cells have an embedding of length 0, which has no direction"
        raise InputError(found, where=where, fix="Leave these cells out")
    return norms


def _sphere(embedding: ArrayLike, where: str) -> Floats:
    """Return the rows scaled to length 1, in float64 (100,000 cells of width 512: 0.4 GB)."""
    matrix = _matrix(embedding, where)
    return matrix / _norms(matrix, where)[:, None]


def mean_cosine(embedding: ArrayLike) -> float:
    """Return the mean cosine similarity over all pairs of different cells.

    With unit rows u and their sum s this is exactly ``(|s|^2 - n) / (n (n - 1))``, without a loop over pairs. A value
    near 1 means that all cells point in the same direction: the embedding is a narrow cone (Ethayarajh 2019, arXiv
    1909.00512).

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions], at least 2 cells.

    Raises
    ------
    InputError
        Another shape, NaN or infinite values, or a cell whose embedding is all zeros.
    """
    return _mean_cosine(_sphere(embedding, "embedding"))


def _mean_cosine(unit: Floats) -> float:
    n = len(unit)
    total = unit.sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def uniformity(embedding: ArrayLike, *, t: float = 2.0, sample: int | None = 20_000, seed: int = 0) -> float:
    """Return log of the mean of ``exp(-t |u - v|^2)`` over all pairs of different cells, u and v of length 1.

    Wang & Isola 2020 (arXiv 2005.10242, equation 2). 0 if all cells are at one point; lower the more evenly they fill
    the sphere, and never below -4 t.

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions], at least 2 cells.
    t
        Sharpness of the Gaussian kernel; 2 in the paper.
    sample
        With more cells than this, a random sample of this size is used, since the number of pairs grows with the square
        of the cells. None: all cells (which costs time, not memory).
    seed
        Seed of that sample.

    Raises
    ------
    InputError
        As :func:`mean_cosine`.
    """
    return _uniformity(_sphere(embedding, "embedding"), t, sample, seed)


def _uniformity(unit: Floats, t: float, sample: int | None, seed: int) -> float:
    if sample is not None and len(unit) > sample:
        unit = unit[np.random.default_rng(seed).choice(len(unit), sample, replace=False)]
    n, total = len(unit), 0.0
    for rows in _blocks(n):
        for columns in _blocks(rows.stop):
            kernel = np.exp(2.0 * t * (np.minimum(unit[rows] @ unit[columns].T, 1.0) - 1.0))
            on_diagonal = rows.start == columns.start
            total += float(kernel.sum() - np.trace(kernel)) / 2 if on_diagonal else float(kernel.sum())
    return float(np.log(total / (n * (n - 1) / 2)))


def alignment(first: ArrayLike, second: ArrayLike) -> float:
    """Return the mean of ``|u - v|^2`` over positive pairs, u and v of length 1.

    Wang & Isola 2020 (arXiv 2005.10242, equation 1) with alpha = 2: 0 if both of each pair are the same point, 2 if
    they are unrelated, 4 if they are opposite.

    Parameters
    ----------
    first, second
        Numbers [pairs, dimensions]; row i of both is a positive pair: two views of the same cell.

    Raises
    ------
    InputError
        As :func:`mean_cosine`, or the shapes differ.
    """
    u, v = _sphere(first, "first view"), _sphere(second, "second view")
    if u.shape != v.shape:
        fix = "Pass the same cells in the same order"
        raise InputError(f"the two views have shapes {u.shape} and {v.shape}", where="alignment", fix=fix)
    return float(((u - v) ** 2).sum(axis=1).mean())


def label_alignment(embedding: ArrayLike, labels: Labels) -> float:
    """Return the alignment with cells of the same label as positive pairs.

    A pair is drawn as: any cell that shares its label with another one, then another cell of that label; so a class is
    weighted by its number of cells, not by the square of it. The only cell of a label has no partner and is left out.
    Exact, in closed form: for a class of n cells whose unit rows sum to s, the mean of ``|u - v|^2`` is
    ``2 - 2 (|s|^2 - n) / (n (n - 1))``.

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions].
    labels
        One label per cell, none missing.

    Raises
    ------
    InputError
        As :func:`mean_cosine`; labels are missing or differ in number; or no label has two cells.
    """
    return _label_alignment(_sphere(embedding, "embedding"), as_labels(labels, where="labels"))


def _label_alignment(unit: Floats, labels: NDArray[np.str_]) -> float:
    if len(labels) != len(unit):
        found = f"{len(labels)} labels for {len(unit)} cells"
        raise InputError(found, where="alignment", fix="Pass one label a cell, in the same order")
    classes, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    usable = sizes > 1
    if not usable.any():
        found = f"each of the {len(classes)} labels has a single cell, so that there is no pair"
        raise InputError(found, where="alignment", fix="Pass coarser labels, or two views of each cell")
    sums = np.zeros((len(classes), unit.shape[1]))
    np.add.at(sums, codes, unit)
    n = sizes[usable]
    cosine = ((sums[usable] ** 2).sum(axis=1) - n) / (n * (n - 1))
    return float(np.average(2 - 2 * cosine, weights=n))


def effective_rank(embedding: ArrayLike, *, center: bool = True) -> float:
    """Return the exponential of the entropy of the singular values, scaled to sum to 1.

    Roy & Vetterli 2007 (EUSIPCO, "The effective rank: a measure of effective dimensionality"): the effective number of
    dimensions, from 1 (a line) to min(cells, dimensions). Rows are not scaled here.

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions], at least 2 cells.
    center
        Subtract the mean cell first. The shared component does not separate cells, and would otherwise be the largest
        singular value; the mean cosine reports it. False gives the paper's definition, on the original matrix.

    Returns
    -------
    float
        0 if all cells are identical, within the rounding of the matrix's dtype.

    Raises
    ------
    InputError
        Another shape, or NaN or infinite values.
    """
    matrix = _matrix(embedding, "embedding")
    mean = matrix.mean(axis=0, dtype=np.float64) if center else np.zeros(matrix.shape[1])
    gram = np.zeros((matrix.shape[1], matrix.shape[1]))
    energy = 0.0
    for rows in _blocks(len(matrix)):
        block = matrix[rows].astype(np.float64)
        energy += float((block**2).sum())
        block -= mean
        gram += block.T @ block
    # Directions that are only rounding errors (of the Gram matrix, the mean, the input) would count as dimensions.
    values = np.linalg.eigvalsh(gram)
    eps = float(np.finfo(np.float64).eps)
    rounding = max(float(np.finfo(matrix.dtype).eps), len(matrix) * eps)
    floor = max(len(gram) * eps * values[-1], energy * rounding**2)
    singular = np.sqrt(values[values > floor])
    if not len(singular):
        return 0.0
    fraction = singular / singular.sum()
    return float(np.exp(-(fraction * np.log(fraction)).sum()))


def geometry(
    embedding: ArrayLike,
    *,
    labels: Labels | None = None,
    views: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int = 0,
) -> Geometry:
    """Return all measures of one embedding.

    Parameters
    ----------
    embedding
        Numbers [cells, dimensions], at least 2 cells.
    labels
        One label per cell; positive pairs are then cells of the same label (:func:`label_alignment`).
    views
        Two embeddings of the same cells under dropout; positive pairs are then the two views of a cell
        (:func:`alignment`), whether or not there are labels too.
    seed
        Seed of the sample of :func:`uniformity`.

    Raises
    ------
    InputError
        As :func:`mean_cosine` and :func:`label_alignment`.
    """
    unit = _sphere(embedding, "embedding")
    aligned: float | None = None
    positives: Literal["views", "labels"] | None = None
    if views is not None:
        aligned, positives = alignment(*views), "views"
    elif labels is not None:
        aligned, positives = _label_alignment(unit, as_labels(labels, where="labels")), "labels"
    return Geometry(
        cells=unit.shape[0],
        width=unit.shape[1],
        mean_cosine=_mean_cosine(unit),
        uniformity=_uniformity(unit, 2.0, 20_000, seed),
        effective_rank=effective_rank(embedding),
        alignment=aligned,
        positives=positives,
    )
