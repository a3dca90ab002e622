"""Read a file of cells of any format into memory; :mod:`~cell_lm.data.formats.stream` reads larger ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anndata import AnnData

from cell_lm.data.formats.detect import detect
from cell_lm.data.formats.h5ad import read_h5ad_source, read_h5ad_whole
from cell_lm.data.formats.sample_sheet import SampleSheet
from cell_lm.data.formats.source import Source, X
from cell_lm.data.formats.stream import open_cells
from cell_lm.data.formats.writable import make_writable
from cell_lm.errors import CellLMError, InputError


def read_source(path: str | Path, layer: str | None = None, *, samples: SampleSheet | None = None) -> Source:
    """Read one matrix of a file with its cells and genes, and nothing else.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix.
    layer, samples
        As in :func:`cell_lm.data.open_cells`.

    Raises
    ------
    InputError, GeneError
        As :func:`cell_lm.data.open_cells`.
    """
    if detect(path) != "h5ad":
        with open_cells(path, layer=layer, samples=samples) as cells:
            return cells.whole()
    source = read_h5ad_source(Path(path), layer)
    return source if samples is None else replace(source, obs=samples.describe(source.obs, path))


def read_h5ad(path: str | Path) -> AnnData:
    """Read a whole h5ad file, with the same checks, for a command that needs more than one matrix.

    Raises
    ------
    InputError
        As :func:`read_source`, or the file has another format; a damaged matrix is found when it is used.
    """
    kind = detect(path)
    if kind != "h5ad":
        raise InputError(f"it is no h5ad file but one of another format ({kind})", where=str(path), fix="Give an h5ad")
    return read_h5ad_whole(Path(path))


def find_faults(path: str | Path) -> tuple[list[str], tuple[str, ...]]:
    """Check a file for a command that reads all of it and writes it again, with results, as h5ad.

    Parameters
    ----------
    path
        A file of any format; only h5ad is checked in full, since one matrix is read from other formats.

    Returns
    -------
    faults : list of str
        The first problem, in the words of its error; empty if there is none.
    notes : tuple of str
        Changes made for the output; see :func:`~cell_lm.data.formats.writable.make_writable`.
    """
    try:
        if detect(path) != "h5ad":
            return [], ()
        return [], make_writable(read_h5ad_whole(Path(path)), where=str(path))
    except CellLMError as error:
        return [str(error)], ()


def read_anndata(path: str | Path, layer: str | None = None) -> AnnData:
    """Read a file of any format, for a command that adds results and writes it as h5ad.

    Parameters
    ----------
    path
        The file, or the folder of a 10x matrix. An h5ad file is read whole.
    layer
        The matrix to use, for a file of another format; it becomes X, and the layer of that name.

    Raises
    ------
    InputError, GeneError
        As :func:`read_source`.
    """
    if detect(path) == "h5ad":
        return read_h5ad_whole(Path(path))
    source = read_source(path, layer)
    layers = {} if layer in (None, X) else {str(layer): source.X}
    return AnnData(source.X, obs=source.obs, var=source.var, layers=layers)
