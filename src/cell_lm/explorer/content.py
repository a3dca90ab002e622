"""The content of an explorer as data, quantised as the page holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

LEVELS, NO_VALUE = 65_534, 65_535
"""Largest level of a number or coordinate, and the level of a missing number (uint16)."""
GENE_LEVELS = 255
"""Largest level of a gene (uint8)."""


@dataclass(frozen=True)
class Category:
    """A column of labels.

    Attributes
    ----------
    name : str
        Name of the column.
    names, colours : tuple of str
        The different labels and their hexadecimal colours, the most frequent label first.
    codes : ndarray
        uint16 [cells], the place of each cell's label in ``names``.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[str, ...]
    codes: NDArray[np.uint16]


@dataclass(frozen=True)
class Number:
    """A column of numbers: level 0 is ``low``, level :data:`LEVELS` is ``high``, :data:`NO_VALUE` is missing.

    Attributes
    ----------
    name : str
        Name of the column.
    low, high : float
        Smallest and largest value.
    levels : ndarray
        uint16 [cells].
    """

    name: str
    low: float
    high: float
    levels: NDArray[np.uint16]

    @property
    def is_fraction(self) -> bool:
        """Whether all values are between 0 and 1, as a confidence is."""
        return self.low >= 0.0 and self.high <= 1.0


Column: TypeAlias = "Category | Number"


@dataclass(frozen=True)
class Gene:
    """A gene: level 0 is no expression, level :data:`GENE_LEVELS` is ``high``.

    Attributes
    ----------
    name : str
        Approved symbol, or the name in the file where that has none.
    also : tuple of str
        Other names that the page finds it by: the one that was asked for, those in the file, and HGNC's.
    high : float
        Largest value, in ln(1 + counts per 10,000).
    levels : ndarray
        uint8 [cells].
    """

    name: str
    also: tuple[str, ...]
    high: float
    levels: NDArray[np.uint8]


@dataclass(frozen=True)
class Explorer:
    """All that a page shows.

    Attributes
    ----------
    title : str
        Name of the page.
    barcodes : tuple of str
        Name of each cell drawn.
    total : int
        Cells of the input, of which these are drawn.
    coordinates : ndarray
        uint16 [cells, 2], each axis from its smallest to its largest value.
    spans : tuple of float
        Length of each axis, in the units of the map.
    method : str
        How the map was made: the name of its axes.
    basis : str
        Key in ``obsm`` of what it is a map of.
    columns : tuple of Category or Number
        Columns of ``obs``.
    genes : tuple of Gene
        Genes.
    color : str or None
        Column or gene that colours the map at first.
    label : str or None
        Column of labels that a selection is counted by at first.
    opacity : str or None
        Column that sets the opacity at first.
    seed : int
        Seed of the map and of the draw of cells.
    about_genes : str
        Which genes these are, and on which scale, in words.
    notes : tuple of str
        What was left out.
    """

    title: str
    barcodes: tuple[str, ...]
    total: int
    coordinates: NDArray[np.uint16]
    spans: tuple[float, float]
    method: str
    basis: str
    columns: tuple[Column, ...] = ()
    genes: tuple[Gene, ...] = ()
    color: str | None = None
    label: str | None = None
    opacity: str | None = None
    seed: int = 0
    about_genes: str = ""
    notes: tuple[str, ...] = ()


def quantise(values: NDArray[np.floating], low: float, high: float, levels: int = LEVELS) -> NDArray[np.int64]:
    """Return the nearest of ``levels`` equal steps from ``low`` to ``high`` for each finite value."""
    width = high - low
    if width <= 0:
        return np.zeros(values.shape, np.int64)
    return np.rint((np.asarray(values, np.float64) - low) / width * levels).astype(np.int64)
