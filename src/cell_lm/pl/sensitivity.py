"""Plots of drug sensitivity: cells by call, scores by arm, reliability, and a bulk signature among the cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.data.obs.columns import obs_column
from cell_lm.data.obs.labels import read_labels
from cell_lm.errors import InputError
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.sensitivity_metrics import reliability
from cell_lm.pl.canvas import panel
from cell_lm.pl.cells import embedding
from cell_lm.plots import sensitivity_figures as figures
from cell_lm.plots.style import ACCENT, SECOND, natural_order

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "cell_lm_sensitivity"
BASES = ("X_umap", "X_cell_lm", "X_pca", "X_scVI")
_FIRST = "Call cell_lm.tl.sensitivity(adata, classifier) first, or name another key"


def sensitivity(
    adata: AnnData,
    *,
    key: str = KEY,
    basis: str | None = None,
    seed: int = 0,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes]:
    """Draw the map of the cells, coloured by call and by probability.

    Parameters
    ----------
    adata
        With the columns of :func:`cell_lm.tl.sensitivity`.
    key
        ``key_added`` of the call.
    basis
        Key of ``obsm``; default: the first of X_umap, X_cell_lm, X_pca and X_scVI that is there. More than two
        dimensions are drawn as their UMAP.
    seed
        Seed of the UMAP.
    show, save
        As in the whole module.

    Raises
    ------
    InputError
        There is no call, or no embedding.
    """
    _column(adata, key)
    found = basis or next((name for name in BASES if name in adata.obsm), None)
    if found is None:
        fix = "Run cell_lm.tl.embed(adata, model) or scanpy.pp.pca(adata) first, or name a basis"
        raise InputError(f"there is no embedding ({', '.join(BASES)})", where="adata.obsm", fix=fix)
    label = str(adata.uns[key]["sensitive"]) if key in adata.uns else "sensitive"
    names = [str(name) for name in adata.obs[f"{key}_call"].astype("category").cat.categories]
    palette = {name: SECOND if name == label else ACCENT for name in names}
    drawn = embedding(adata, color=[f"{key}_call", key], basis=found, seed=seed, palette=palette, show=show, save=save)
    assert isinstance(drawn, list)
    return drawn


def sensitivity_scores(
    adata: AnnData,
    groupby: str,
    *,
    key: str = KEY,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the distribution of the scores in each arm, cluster or sample.

    Parameters
    ----------
    adata
        With the columns of :func:`cell_lm.tl.sensitivity`.
    groupby
        Column of ``obs`` with the groups; cells without one are left out.
    key
        ``key_added`` of the call.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        There is no call or no such column.
    """
    scores = _column(adata, f"{key}_score")
    labels = read_labels(adata.obs, groupby, where="adata")
    names = sorted(set(labels.text[labels.known]), key=natural_order)
    groups = {str(name): scores[labels.text == name] for name in names}
    with panel(ax, 6.4, 0.9 + 0.55 * len(groups), show=show, save=save) as axes:
        figures.draw_score_distributions(axes, groups)
        axes.set_title(f"scores by {groupby}")
    return axes


def sensitivity_reliability(
    adata: AnnData,
    truth: str,
    *,
    sensitive: str = "sensitive",
    key: str = KEY,
    bins: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw how often cells with a probability are sensitive, for cells whose response is known.

    Parameters
    ----------
    adata
        With the columns of :func:`cell_lm.tl.sensitivity`.
    truth
        Column of ``obs`` with the known response; cells without one are left out.
    sensitive
        Its label of sensitive cells.
    key
        ``key_added`` of the call.
    bins
        Bins of the probability, of equal width.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        There is no call, no such column, or no cell with that label.
    """
    p = _column(adata, key)
    labels = read_labels(adata.obs, truth, where="adata", classes=2)
    if sensitive not in labels.text:
        fix = f"It holds {', '.join(sorted(set(labels.text[labels.known])))}: say which means sensitive"
        raise InputError(f"no cell of obs column '{truth}' is '{sensitive}'", where="adata", fix=fix)
    known = (labels.text == sensitive)[labels.known]
    p = p[labels.known]
    error = calibration_error(known.astype(str), np.stack([1 - p, p], axis=1), ["False", "True"])
    with panel(ax, 4.2, 4.2, show=show, save=save) as axes:
        figures.draw_reliability(axes, *reliability(known, p, bins))
        axes.set_title(f"reliability (ECE {error:.3f}, {len(p):,} cells)")
    return axes


def sensitivity_signature(
    adata: AnnData,
    *,
    key: str = KEY,
    named: int = 12,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the genes of a transferred signature: in bulk lines against among the cells.

    Genes of a signature that carries over lie along the diagonal. One that is not trusted is drawn in grey.

    Parameters
    ----------
    adata
        After :func:`cell_lm.tl.sensitivity_transfer`.
    key
        ``key_added`` of the transfer.
    named
        How many genes to name.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        There is no transfer.
    """
    record: Any = adata.uns.get(key)
    if not isinstance(record, dict) or "drug" not in record:
        fix = "Call cell_lm.tl.sensitivity_transfer(adata, signature) first, or name another key"
        raise InputError(f"uns['{key}'] holds no transfer", where="adata", fix=fix)
    table, trusted = record["table"], bool(record["trusted"])
    with panel(ax, 5.6, 5.0, show=show, save=save) as axes:
        verdict = "tests passed" if trusted else "not to be trusted"
        axes.set_title(f"{record['drug']}: {verdict}")
        figures.draw_signature(
            axes,
            table["bulk"].to_numpy(np.float64),
            table["cells"].to_numpy(np.float64),
            table["gene"].astype(str).tolist(),
            trusted=trusted,
            named=named,
        )
    return axes


def _column(adata: AnnData, name: str) -> NDArray[np.float64]:
    if name not in adata.obs:
        raise InputError(f"obs has no column '{name}'", where="adata", fix=_FIRST)
    return np.asarray(obs_column(adata.obs, name, where="adata"), np.float64)
