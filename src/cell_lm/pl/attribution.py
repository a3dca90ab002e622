"""Plots of gene attributions and deletion curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes

from cell_lm.errors import InputError
from cell_lm.pl.canvas import panel, panels
from cell_lm.plots import attribution_figures

if TYPE_CHECKING:
    from anndata import AnnData


def gene_attribution(
    adata: AnnData,
    *,
    labels: Sequence[str] | None = None,
    genes: int = 12,
    key: str = "cell_lm_attribution",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | list[Axes]:
    """Draw the genes with the largest attributions of each label: evidence for it to the right, against it to the left.

    Each gene shows the fraction of the label's cells that express it; each title shows how many cells were explained.

    Parameters
    ----------
    adata
        Cells that :func:`cell_lm.tl.gene_attribution` has explained.
    labels
        The labels to draw, one panel each. Default: all.
    genes
        Most genes in a panel: those of the largest absolute attribution.
    key
        Key in ``uns`` with the result.
    ax
        Axes to draw on, for a single label.
    show, save
        As in the whole module.

    Returns
    -------
    Axes or list of Axes
        ``ax`` where it was given, else one for every label.

    Raises
    ------
    InputError
        There is no attribution, or no such label.
    """
    table = _table(adata, key, "gene_attribution")
    there = [str(name) for name in table["label"].astype(str).drop_duplicates()]
    wanted = there if labels is None else [str(name) for name in labels]
    strange = sorted(set(wanted) - set(there))
    if strange or not wanted:
        found = f"no label '{strange[0]}'" if strange else "no label"
        raise InputError(found, where=f"adata.uns['{key}']", fix=f"There is {', '.join(there)}")
    if ax is not None and len(wanted) != 1:
        raise InputError(f"one ax for {len(wanted)} labels", where="pl.gene_attribution", fix="Name one label")
    across = min(4, len(wanted))
    height = -(-len(wanted) // across) * (0.8 + 0.17 * genes)
    with panels(ax, 2.7 * across, height, number=len(wanted), across=across, show=show, save=save) as drawn:
        for axes, label in zip(drawn, wanted, strict=True):
            attribution_figures.draw_gene_attribution(axes, table, label, genes=genes)
    return drawn[0] if ax else drawn


def deletion_curve(
    adata: AnnData,
    *,
    key: str = "cell_lm_deletion",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw deletion curves: the probability of the predicted class as genes are removed, one curve per order.

    Parameters
    ----------
    adata
        Cells that :func:`cell_lm.tl.deletion_curve` was run on.
    key
        Key in ``uns`` with the result.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        There is no curve.
    """
    table = _table(adata, key, "deletion_curve")
    with panel(ax, 7.4, 3.4, show=show, save=save) as axes:
        attribution_figures.draw_deletion_curves(axes, table)
    return axes


def _table(adata: AnnData, key: str, tool: str) -> pd.DataFrame:
    """Return the table that a tool wrote to ``uns``."""
    entry = adata.uns.get(key)
    table = entry.get("table") if isinstance(entry, Mapping) else None
    if not isinstance(table, pd.DataFrame):
        fix = f"Run cell_lm.tl.{tool}(adata, classifier) first"
        raise InputError(f"no table of {tool}", where=f"adata.uns['{key}']", fix=fix)
    return table
