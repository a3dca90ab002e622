"""MuData files (h5mu): one AnnData per modality; the modality with gene expression is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.formats.h5ad import open_h5ad_in
from cell_lm.data.formats.hdf5 import guarded, holds, opened
from cell_lm.data.formats.source import X
from cell_lm.errors import InputError
from cell_lm.remedies import option

_EXPRESSION = ("rna", "gex", "gene expression", "expression")
_MODALITIES = "mod"


def is_h5mu(file: h5py.File, name: str) -> bool:
    """Return whether an HDF5 file has the parts of a MuData."""
    return holds(file, _MODALITIES, name) and isinstance(file[_MODALITIES], h5py.Group)


@contextmanager
def open_h5mu(path: Path, layer: str | None) -> Iterator[CellFile]:
    """Open one modality, to read it in blocks.

    ``layer`` is its name (``rna``), or its name and that of a layer (``rna/counts``); default: gene expression, or the
    only modality.
    """
    name = str(path)
    with opened(path) as file:
        with guarded(name):
            group = file[_MODALITIES]
            modalities = [str(key) for key in group if holds(group, key, name)]
        chosen, inner = _choose(modalities, layer, name)
        with open_h5ad_in(group[chosen], f"{name}, {chosen}", inner) as cells:
            yield cells


def _choose(modalities: list[str], layer: str | None, name: str) -> tuple[str, str | None]:
    """Return the modality, and the name of its matrix."""
    if layer not in (None, X):
        wanted, _, inner = str(layer).partition("/")
        if wanted in modalities:
            return wanted, inner or None
    else:
        fits = [key for key in modalities if key.casefold() in _EXPRESSION]
        if len(modalities) == 1 or len(fits) == 1:
            return (fits or modalities)[0], None
    found = f"it holds {len(modalities)} modalities: {', '.join(modalities)}"
    if layer not in (None, X):
        found = f"it has no modality '{layer}' but {', '.join(modalities)}"
    fix = f"Choose one as {option('layer', 'rna')}, or one of its layers as {option('layer', 'rna/counts')}"
    raise InputError(found, where=name, fix=fix)
