"""A file of cells into memory, whatever its format; one too large for that is read with :mod:`~cell_lm.data.stream`."""

from __future__ import annotations

from pathlib import Path

from cell_lm.data.formats.detect import detect
from cell_lm.data.formats.h5ad import read_h5ad as read_h5ad
from cell_lm.data.formats.h5ad import read_h5ad_source
from cell_lm.data.source import Source
from cell_lm.data.stream import open_cells


def read_source(path: str | Path, layer: str | None = None) -> Source:
    """Read one matrix of a file with its cells and genes, and nothing else.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix.
    layer
        ``None`` or ``"X"``: the main matrix; the name of a layer; ``"raw"``: ``raw/X`` of an h5ad file with the genes
        of ``raw/var``.

    Raises
    ------
    InputError
        The file is missing, of no format that is known, cut off, damaged, points outside of itself, does not hold the
        matrix, or holds no cells or genes.
    """
    if detect(path) == "h5ad":
        return read_h5ad_source(Path(path), layer)
    with open_cells(path, layer=layer) as cells:
        return cells.whole()
