"""Scores of several methods as dots with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.plots.style import ACCENT, INK, MUTED, short


def draw_intervals(
    ax: Axes, names: Sequence[str], values: NDArray[np.floating], *, title: str, zero: bool = False, first: bool = True
) -> None:
    """Draw one row per method, the first on top.

    Parameters
    ----------
    ax
        Axes to draw on.
    names
        One name per method.
    values
        Mean, lower and upper bound [methods, 3]; a row of NaN stays empty.
    title
        Title of the axes.
    zero
        Draw a line at 0, for differences.
    first
        Draw the first method in colour.
    """
    rows = np.arange(len(names))
    for row, (mean, low, high) in enumerate(values):
        colour = ACCENT if first and row == 0 else INK
        ax.plot([low, high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
        ax.plot([mean], [row], "o", color=colour, markersize=5)
    if zero:
        ax.axvline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.set_yticks(rows, [short(name, 48) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_title(title)
