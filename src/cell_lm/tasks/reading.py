"""What tasks take: cells of an AnnData, or cells already aligned to a vocabulary; and their embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm.data.cells import CellData, from_anndata
from cell_lm.data.scale.check import Scale
from cell_lm.errors import InputError, ModelError
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM

TOKEN_BUDGET = 65536
"""Genes that one forward pass may hold, unless said otherwise."""


def as_cells(
    data: AnnData | CellData,
    vocabulary: Vocabulary,
    *,
    layer: str | None = None,
    input: Scale = "counts",  # noqa: A002
    gene_column: str | None = None,
    min_overlap: int | None = None,
) -> CellData:
    """Align an AnnData to a vocabulary (see :func:`cell_lm.data.from_anndata`); aligned cells are returned as they are.

    Raises
    ------
    InputError
        It is something else; or it is aligned already, yet it is said how it should be read.
    """
    if isinstance(data, AnnData):
        return from_anndata(
            data,
            layer=layer,
            input=input,
            vocabulary=vocabulary,
            gene_column=gene_column,
            min_overlap=min_overlap,
        )
    refuse_other_kinds(data)
    said = {"layer": layer, "gene_column": gene_column, "min_overlap": min_overlap}
    given = [name for name, value in said.items() if value is not None]
    if given:
        found = f"{' and '.join(given)} given for cells that have been read already"
        raise InputError(found, where=data.name, fix="Say it where they are read, or pass the AnnData")
    return data


def refuse_other_kinds(data: object) -> None:
    """Raise :class:`InputError` for what is neither an AnnData nor :class:`CellData`."""
    if not isinstance(data, (AnnData, CellData)):
        found = f"expected an AnnData, found {type(data).__name__}"
        raise InputError(found, fix="Read a file with anndata.read_h5ad(path) first")


def name_of(data: AnnData | CellData) -> str:
    """Return what messages call the data."""
    return data.name if isinstance(data, CellData) else "adata"


def embed_cells(
    model: CellLM,
    cells: CellData,
    *,
    token_budget: int = TOKEN_BUDGET,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings of cells, float32 [cells, width], all finite; see :meth:`CellLM.encode`.

    Raises
    ------
    GeneError
        The cells are aligned to another vocabulary than the model's.
    ModelError
        The model gives NaN or infinite values.
    """
    embedding = model.encode(cells, token_budget=token_budget, progress=progress)
    bad = int((~np.isfinite(embedding)).any(axis=1).sum())
    if bad:
        found = f"the model gives {bad:,} of {len(cells):,} cells an embedding that is not finite"
        raise ModelError(found, where=cells.name, fix="Its weights are damaged: use another model or checkpoint")
    return embedding
