"""Plots of cells: the map of an embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.obs.columns import find_column
from cell_lm.errors import InputError
from cell_lm.pl.canvas import panels
from cell_lm.plots import figures
from cell_lm.plots.cell_map import map_of, scanpy_colours
from cell_lm.plots.style import as_categories, category_colours

if TYPE_CHECKING:
    from anndata import AnnData


def embedding(
    adata: AnnData,
    *,
    color: str | Sequence[str],
    basis: str = "X_cell_lm",
    layer: str | None = None,
    seed: int = 0,
    on_map: bool = False,
    palette: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | list[Axes]:
    """Draw the map of an embedding, coloured by columns of ``adata.obs`` or by genes.

    Parameters
    ----------
    adata
        Cells with ``obsm[basis]``. Where the basis has more than two dimensions, its map is computed (t-SNE of at most
        1,000 cells, UMAP of more: :func:`cell_lm.plots.projection.project`) and kept as ``obsm[f"{basis}_tsne"]`` or
        ``obsm[f"{basis}_umap"]``, with its parameters in ``uns`` under the same key. It is computed again when the
        embedding has changed; a UMAP of your own under that key is drawn as it is. ``adata.X`` is never changed.
    color
        A column of ``obs`` or a gene of ``var_names``, or several, one panel each. Numbers get a colour bar, all else a
        legend, ordered by size. If a name is both, the column is drawn.
    basis
        Key of ``obsm``.
    layer
        Matrix to take the genes from. By default ``adata.raw`` where there is one, as in scanpy, else ``adata.X``.
    seed
        Seed of the map.
    on_map
        Also write the names of the larger categories on the map.
    palette
        Colours of the categories. Default: scanpy's ``adata.uns[f"{color}_colors"]``, else the colour-blind safe
        colours of the report.
    ax, show, save
        As in the whole module; ``ax`` is for a single column.

    Returns
    -------
    Axes or list of Axes
        The axes of the map; a list if ``color`` is one.

    Raises
    ------
    InputError
        There is no such embedding, column, gene or layer; the embedding has fewer than two dimensions.
    """
    columns = [color] if isinstance(color, str) else list(color)
    values = [_values(adata, column, layer) for column in columns]
    if ax is not None and len(columns) != 1:
        raise InputError(
            f"one ax for {len(columns)} columns", where="pl.embedding", fix="Leave out ax, or name one column"
        )
    coordinates, method = map_of(adata, basis, seed)
    width, height = figures.map_size(coordinates, 4.6)
    number = len(columns)
    with panels(ax, (width + 1.9) * number, height + 0.3, number=number, across=number, show=show, save=save) as drawn:
        for axes, column in zip(drawn, values, strict=True):
            _draw_column(axes, coordinates, method, column, palette or scanpy_colours(adata, column), on_map)
    return drawn[0] if isinstance(color, str) else drawn


def _values(adata: AnnData, name: str, layer: str | None) -> pd.Series:
    """Return a column of ``obs``, or else the values of a gene."""
    genes = adata.raw.var_names if layer is None and adata.raw is not None else adata.var_names
    if name in adata.obs.columns or name not in genes:
        try:
            return find_column(adata.obs, name, axis="obs", where="adata")
        except InputError as error:
            if name in adata.obs.columns:
                raise
            found = f"obs has no column '{name}', and no gene is called so"
            raise InputError(found, where="adata", fix=error.fix) from None
    places = np.flatnonzero(genes == name)
    if len(places) > 1:
        fix = "Make the names of genes unique first: adata.var_names_make_unique()"
        raise InputError(f"{len(places)} genes are called '{name}'", where="adata.var_names", fix=fix)
    matrix = _matrix(adata, layer)
    column = matrix[:, places]
    dense: NDArray[Any] = cast("Any", column).toarray() if sparse.issparse(column) else np.asarray(column)
    return pd.Series(dense.ravel().astype(np.float64), index=adata.obs_names, name=name)


def _matrix(adata: AnnData, layer: str | None) -> Any:
    if layer is not None:
        if layer not in adata.layers:
            fix = f"There is {', '.join(adata.layers) or 'none'}"
            raise InputError(f"no layer '{layer}'", where="adata.layers", fix=fix)
        return adata.layers[layer]
    matrix = adata.X if adata.raw is None else adata.raw.X
    if matrix is None:
        raise InputError("X is empty, so genes have no values", where="adata", fix="Name a layer")
    return matrix


def _draw_column(
    ax: Axes,
    coordinates: NDArray[np.floating],
    method: str,
    values: pd.Series,
    palette: Mapping[str, str] | None,
    on_map: bool,
) -> None:
    title = str(values.name)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        drawn = figures.draw_values(ax, coordinates, values.to_numpy(dtype=np.float64, na_value=np.nan), name=method)
        ax.figure.colorbar(drawn, ax=ax, shrink=0.6, pad=0.02)
    else:
        categories = as_categories(values)
        colours = category_colours(categories.tolist())
        colours |= {name: colour for name, colour in (palette or {}).items() if name in colours}
        figures.draw_map(ax, coordinates, categories, colours, name=method, on_map=on_map)
    ax.set_title(title).set_parse_math(False)
