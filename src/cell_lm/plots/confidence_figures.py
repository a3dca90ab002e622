"""Drawing functions for confidence: reliability, and risk by coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from cell_lm.plots.style import ACCENT, MUTED


def draw_reliability(ax: Axes, bins: Sequence[tuple[float, float, int]]) -> None:
    """Draw accuracy by confidence.

    Parameters
    ----------
    ax
        Where to draw.
    bins
        Mean confidence, accuracy and number of cells of each bin, none of them empty.
    """
    values = np.array(bins, np.float64).reshape(-1, 3)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--")
    ax.plot(values[:, 0], values[:, 1], color=ACCENT, linewidth=1.0)
    ax.scatter(
        values[:, 0], values[:, 1], s=8 + 90 * values[:, 2] / values[:, 2].max(initial=1), color=ACCENT, zorder=3
    )
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="Confidence", ylabel="Right")
    _percent(ax)


def draw_risk(ax: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Draw the share of wrong labels among the most confident cells.

    Parameters
    ----------
    ax
        Where to draw.
    points
        Fraction of the cells that are kept, and the fraction of them that is wrong.
    """
    values = np.array(points, np.float64).reshape(-1, 2)
    ax.plot(values[:, 0], values[:, 1], color=ACCENT, linewidth=1.4)
    ax.set(xlim=(0, 1.02), ylim=(0, max(0.05, 1.1 * values[:, 1].max(initial=0))))
    ax.set(xlabel="Cells kept", ylabel="Wrong among them")
    _percent(ax)


def _percent(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
