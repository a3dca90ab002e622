"""The explorer: a page with the cells on a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cell_lm.data.read_options import ReadOptions
from cell_lm.data.scale.check import Scale
from cell_lm.explorer import collect, write_explorer
from cell_lm.explorer.collect import MOST_CELLS

if TYPE_CHECKING:
    from anndata import AnnData


def explorer(
    adata: AnnData,
    *,
    save: str | Path = "explorer.html",
    color: str | None = None,
    genes: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    opacity: str | None = None,
    basis: str | None = None,
    layer: str | None = None,
    scale: Scale = "counts",
    gene_column: str | None = None,
    max_cells: int = MOST_CELLS,
    seed: int = 0,
    title: str = "Cells",
) -> Path:
    """Write one self-contained HTML page to look at the cells with the mouse: colour, hover, lasso, genes, barcodes.

    Parameters
    ----------
    adata
        Cells with an embedding. The map is that of :func:`embedding`, computed and kept in ``obsm`` where it is
        missing; ``adata.X`` is never changed.
    save
        The page to write; an existing file is replaced.
    color
        A column of ``obs`` or a gene that colours the map at first. Default: ``cell_lm_label``, else the likeliest
        column of labels.
    genes
        At most 50 genes to hold, by any name that resolves to one of them. Default: those most specific to a
        label, or, without labels, those that vary most. An empty list: none.
    columns
        Columns of ``obs`` to hold. Default: all that can be shown.
    opacity
        Column of numbers from 0 to 1 that sets the opacity at first. Default: ``cell_lm_confidence``, if it is there.
    basis
        Key of ``obsm``. Default: the first there of ``X_cell_lm``, ``X_umap``, ``X_tsne``, ``X_pca``.
    layer, scale, gene_column
        Where the genes are taken from, as :class:`cell_lm.data.ReadOptions`; they are shown as ln(1 + counts per
        10,000).
    max_cells
        Most cells to draw; of more, so many are drawn at random, and the page says so.
    seed
        Seed of the draw and of the map.
    title
        Name of the page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        There is no embedding, column, layer or matrix of that name, or a column cannot be shown.
    CountsError
        The matrix is not on the stated scale.
    GeneError
        There is no such gene.
    """
    read = ReadOptions(layer=layer, scale=scale, gene_column=gene_column)
    shown = collect(
        adata,
        color=color,
        genes=genes,
        columns=columns,
        opacity=opacity,
        basis=basis,
        max_cells=max_cells,
        read=read,
        seed=seed,
        title=title,
    )
    write_explorer(shown, Path(save))
    return Path(save)
