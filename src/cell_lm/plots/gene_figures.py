"""Figures of gene vectors: nearest genes, and a map of genes. Each function draws on the axes it is given.

Call them within :func:`cell_lm.plots.style.drawing`. None touches pyplot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.plots.names import ABOVE, write_names
from cell_lm.plots.style import ACCENT, GREY, GRID, INK


def draw_neighbours(ax: Axes, genes: Sequence[str], cosines: NDArray[np.floating]) -> None:
    """Draw genes in their order, the first on top, each a dot at its cosine on a stem from 0."""
    rows = np.arange(len(genes))
    ax.hlines(rows, 0.0, cosines, color=GREY, linewidth=1.4)
    ax.scatter(cosines, rows, color=ACCENT, s=30, zorder=3, linewidths=0)
    for row, cosine in zip(rows, cosines, strict=True):
        ax.annotate(f"{cosine:.2f}", (cosine, row), (7, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(rows, genes)
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
        text.set_color(INK)
    ax.set_ylim(len(genes) - 0.4, -0.6)
    ax.set_xlim(min(0.0, float(np.min(cosines)) * 1.1), max(0.1, float(np.max(cosines))) * 1.15)
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="x", color=GRID)
    ax.set_xlabel("cosine of the gene vectors")


def draw_background(ax: Axes, coordinates: NDArray[np.floating]) -> None:
    """Draw genes of the background [n, 2], small and pale."""
    x, y = coordinates.T
    ax.scatter(x, y, color=GREY, s=1.5, alpha=0.35, linewidths=0, rasterized=True)


def draw_gene_names(ax: Axes, coordinates: NDArray[np.floating], symbols: Sequence[str]) -> int:
    """Write gene names above their points [n, 2], in order, without those that would overlap; return their number."""
    return write_names(ax, coordinates, symbols, directions=ABOVE)
