"""Plots in the manner of scanpy: ``cell_lm.pl.embedding(adata, color="cell_type")``.

Every function draws on ``ax`` where one is given, saves where ``save`` names a file, shows the figure unless ``show``
is False, and returns what it drew on. ``show=None`` follows scanpy's setting, and shows nothing where matplotlib has no
screen or the axes are the caller's. Figures that are not shown are never known to pyplot, so they leave nothing behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib import get_backend
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cell_lm.data.columns import find_column
from cell_lm.errors import InputError
from cell_lm.files import atomic_file
from cell_lm.genes.audit import AuditSummary, GeneAudit
from cell_lm.metrics import AnnotationScores, Labels, annotation_scores
from cell_lm.report import figures
from cell_lm.report import history as log
from cell_lm.report.content import Panel
from cell_lm.report.history import read_history
from cell_lm.report.illustrations import CURVES
from cell_lm.report.projection import umap_coordinates
from cell_lm.report.style import category_colours, drawing

if TYPE_CHECKING:
    from anndata import AnnData

_NO_SCREEN = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


def embedding(
    adata: AnnData,
    *,
    color: str | Sequence[str],
    basis: str = "X_cell_lm",
    seed: int = 0,
    on_map: bool = False,
    palette: Mapping[str, str] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | list[Axes]:
    """Draw the map of an embedding, coloured by columns of ``adata.obs``.

    Parameters
    ----------
    adata
        Cells with ``obsm[basis]``. Where the basis has more than two dimensions, its UMAP is computed and kept as
        ``obsm[f"{basis}_umap"]``, with what it was made from in ``uns[f"{basis}_umap"]``; it is computed again when the
        embedding is another one. ``adata.X`` is never touched.
    color
        One column of ``obs``, or several: a panel each. Numbers get a colour bar, all else a legend, ordered by size.
    basis
        Key of ``obsm``.
    seed
        Seed of the UMAP.
    on_map
        Write the names of the larger categories on the map, too.
    palette
        Colours of the categories. By default ``adata.uns[f"{color}_colors"]`` as scanpy keeps it, or else the
        colour-blind safe colours of the report.
    ax, show, save
        As in the whole module; ``ax`` is for a single column.

    Returns
    -------
    Axes or list of Axes
        The axes of the map, a list where ``color`` is one.

    Raises
    ------
    InputError
        There is no such embedding or column; the embedding has fewer than two dimensions.
    """
    columns = [color] if isinstance(color, str) else list(color)
    values = [find_column(adata.obs, column, axis="obs", where="adata") for column in columns]
    if ax is not None and len(columns) != 1:
        raise InputError(
            f"one ax for {len(columns)} columns", where="pl.embedding", fix="Leave out ax, or name one column"
        )
    coordinates = _map(adata, basis, seed)
    shown = _shown(show, ax)
    with drawing():
        width, height = figures.map_size(coordinates, 4.6)
        figure = None if ax else _figure((width + 1.9) * len(columns), height + 0.3, shown)
        drawn = (
            [ax] if ax else [figure.add_subplot(1, len(columns), i + 1) for i in range(len(columns))] if figure else []
        )
        for axes, column in zip(drawn, values, strict=True):
            _draw_column(axes, coordinates, column, palette or _scanpy_colours(adata, column), on_map)
    _finish(drawn[0], shown, save)
    return drawn[0] if isinstance(color, str) else drawn


def confusion(
    truth: Labels,
    predicted: Labels,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the confusion matrix of predicted labels: shaded by the share of the row, the cells written in.

    Parameters
    ----------
    truth, predicted
        One label a cell each, in the same order, none missing.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        As :func:`cell_lm.metrics.annotation_scores`.
    """
    scores: AnnotationScores = annotation_scores(truth, predicted)
    shown = _shown(show, ax)
    with drawing():
        axes = ax or _figure(*figures.confusion_size(scores), shown).add_subplot()
        figures.draw_confusion(axes, scores)
        axes.set_title(f"macro-F1 {scores.macro_f1:.3f}, accuracy {scores.accuracy:.1%}")
    _finish(axes, shown, save)
    return axes


def training(
    run: str | Path, *, ax: Axes | None = None, show: bool | None = None, save: str | Path | None = None
) -> Axes | list[Axes]:
    """Draw the curves of a pretraining run: losses, accuracies, learning rate, speed.

    Parameters
    ----------
    run
        The run folder, or its ``log.jsonl``.
    ax
        Draw only the total loss, here.
    show, save
        As in the whole module.

    Returns
    -------
    Axes or list of Axes
        ``ax`` where it was given, else one for every quantity in the log.

    Raises
    ------
    InputError
        As :func:`cell_lm.report.read_history`.
    """
    history = read_history(Path(run))
    there = ["total"] if ax else [name for name in CURVES if log.last(history, name) is not None]
    shown = _shown(show, ax)
    with drawing():
        rows = -(-len(there) // 3)
        figure = None if ax else _figure(10.5, 2.5 * rows, shown)
        drawn = [ax] if ax else [figure.add_subplot(rows, 3, i + 1) for i in range(len(there))] if figure else []
        for axes, name in zip(drawn, there, strict=True):
            title, percent = CURVES[name]
            figures.draw_curve(axes, history, name, title=title, percent=percent)
        drawn[0].legend(loc="best")
    _finish(drawn[0], shown, save)
    return drawn[0] if ax else drawn


def coverage(
    data: AnnData | GeneAudit | AuditSummary,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw what became of the genes of an input: matched, renamed, merged, ambiguous, non-coding, unknown.

    Parameters
    ----------
    data
        An audit; or an AnnData, whose ``var_names`` are looked up.
    ax, show, save
        As in the whole module.

    Raises
    ------
    GeneError
        The names of the AnnData are no human genes.
    """
    audit = _audit(data)
    shown = _shown(show, ax)
    with drawing():
        axes = ax or _figure(6.4, 1.9, shown).add_subplot()
        figures.draw_gene_audit(axes, {f"{audit.coverage:.1%} of the vocabulary": audit.counts})
    _finish(axes, shown, save)
    return axes


def _audit(data: AnnData | GeneAudit | AuditSummary) -> AuditSummary:
    if isinstance(data, AuditSummary):
        return data
    if isinstance(data, GeneAudit):
        return data.shorten()
    from cell_lm.genes import resolve_genes

    return resolve_genes(list(data.var_names), where="adata.var_names", var=data.var).shorten()


def _map(adata: AnnData, basis: str, seed: int) -> NDArray[np.floating]:
    """Return map coordinates, from ``obsm`` where they are up to date."""
    if basis not in adata.obsm:
        run = "Run cell_lm.tl.embed(adata, model) first" if basis == "X_cell_lm" else f"There is {list(adata.obsm)}"
        raise InputError(f"no embedding '{basis}'", where="adata.obsm", fix=run)
    matrix = np.asarray(adata.obsm[basis])
    if matrix.ndim != 2 or matrix.shape[1] < 2:
        raise InputError(
            f"an embedding of shape {matrix.shape}", where=f"adata.obsm['{basis}']", fix="Pass another basis"
        )
    if matrix.shape[1] == 2:
        return matrix
    key = f"{basis}_umap"
    made = {"sha256": hashlib.sha256(np.ascontiguousarray(matrix).tobytes()).hexdigest(), "seed": seed}
    known = adata.uns.get(key)
    if key not in adata.obsm or (known is not None and dict(known) != made):
        adata.obsm[key] = umap_coordinates(matrix, seed)
        adata.uns[key] = made
    return np.asarray(adata.obsm[key])


def _scanpy_colours(adata: AnnData, values: pd.Series) -> dict[str, str] | None:
    colours = adata.uns.get(f"{values.name}_colors")
    if colours is None or not isinstance(values.dtype, pd.CategoricalDtype):
        return None
    names = values.cat.categories
    return {str(a): str(b) for a, b in zip(names, colours, strict=True)} if len(colours) == len(names) else None


def _draw_column(
    ax: Axes, coordinates: NDArray[np.floating], values: pd.Series, palette: Mapping[str, str] | None, on_map: bool
) -> None:
    title = str(values.name)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        drawn = figures.draw_values(ax, coordinates, values.to_numpy(dtype=np.float64, na_value=np.nan))
        ax.figure.colorbar(drawn, ax=ax, shrink=0.6, pad=0.02)
    else:
        categories = Panel(title, values.to_numpy(dtype=object)).categories
        colours = category_colours(categories.tolist())
        colours |= {name: colour for name, colour in (palette or {}).items() if name in colours}
        figures.draw_map(ax, coordinates, categories, colours, on_map=on_map)
    ax.set_title(title).set_parse_math(False)


def _shown(show: bool | None, ax: Axes | None) -> bool:
    """Decide whether to show: what the user says, else scanpy's setting, on a screen, for a figure of our own."""
    if show is not None or ax is not None:
        return bool(show)
    if get_backend().lower() in _NO_SCREEN:
        return False
    import scanpy

    return bool(scanpy.settings.autoshow)


def _figure(width: float, height: float, shown: bool) -> Figure:
    """Return a new figure, which pyplot knows only if it is going to be shown."""
    if not shown:
        return Figure(figsize=(width, height), layout="constrained")
    from matplotlib import pyplot

    return pyplot.figure(figsize=(width, height), layout="constrained")


def _finish(ax: Axes, shown: bool, save: str | Path | None) -> None:
    figure = ax.get_figure(root=True)
    if save is not None and isinstance(figure, Figure):
        with drawing(), atomic_file(Path(save)) as temporary:
            figure.savefig(temporary, dpi=200, bbox_inches="tight")
    if shown:
        from matplotlib import pyplot

        pyplot.show()
