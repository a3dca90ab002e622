"""Figures of drug response: agreement, correlation per drug, rankings, learning curve, map of drugs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.plots.names import write_names
from cell_lm.plots.style import ACCENT, GREY, INK, MUTED, SECOND, short

Floats = NDArray[np.floating]
_MANY = 5_000
"""Points above which they are counted in hexagons."""


def draw_agreement(ax: Axes, measured: Floats, predicted: Floats, *, unit: str) -> None:
    """Draw predicted against measured responses, and the diagonal."""
    ends = [float(min(measured.min(), predicted.min())), float(max(measured.max(), predicted.max()))]
    if len(measured) > _MANY:
        ax.hexbin(measured, predicted, gridsize=60, mincnt=1, bins="log", cmap="Blues", linewidths=0.1)
    else:
        ax.plot(measured, predicted, "o", color=ACCENT, markersize=3, alpha=0.4, markeredgewidth=0)
    ax.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.set_xlabel(f"measured, {unit}")
    ax.set_ylabel(f"predicted, {unit}")


def draw_strip(ax: Axes, values: Floats, names: Sequence[str], *, label: str, named: int = 3) -> None:
    """Draw one point per drug in order of its value; the best and the worst are named."""
    order = np.argsort(values, kind="stable")
    sorted_values, places = np.asarray(values)[order], np.arange(len(values))
    ax.plot(places, sorted_values, "o", color=ACCENT, markersize=3.5, markeredgewidth=0)
    ax.axhline(float(np.mean(values)), color=SECOND, linewidth=1.2)
    ax.axhline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    ax.set_ylabel(label)
    ax.set_xticks([])
    ax.set_xlabel(f"{len(values):,} drugs")
    ax.margins(y=0.15)
    few, last = min(named, len(values) // 2), len(values) - 1
    extreme = [place for rank in range(few) for place in (rank, last - rank)]
    points = np.column_stack([places, sorted_values])
    write_names(ax, points[extreme], [short(str(names[order[place]]), 22) for place in extreme], others=points)


def draw_ranking(ax: Axes, names: Sequence[str], values: Floats, low: Floats, high: Floats, *, label: str) -> None:
    """Draw one row per drug or line with its interval, the first on top; a value without interval was measured."""
    rows = np.arange(len(names))
    for row in rows:
        measured = bool(np.isnan(low[row]))
        if not measured:
            ax.plot([low[row], high[row]], [row, row], color=GREY, linewidth=1.6, solid_capstyle="butt")
        ax.plot([values[row]], [row], "D" if measured else "o", color=SECOND if measured else ACCENT, markersize=5)
    ax.set_yticks(rows, [short(str(name), 32) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(label)


def draw_learning_curve(ax: Axes, measured: Floats, scores: Floats) -> None:
    """Draw the correlation within drugs over the number of measured drugs."""
    places = np.arange(len(measured))
    ax.plot(places, scores, "o-", color=ACCENT, markersize=5)
    ax.set_xticks(places, [f"{int(number)}" for number in measured])
    ax.set_xlabel("drugs measured in the new line")
    ax.set_ylabel("correlation within drugs")
    ax.grid(axis="y")


def draw_drug_map(
    ax: Axes, places: Floats, potency: Floats, names: Sequence[str], *, unit: str, named: int = 12
) -> None:
    """Draw drugs on two axes, coloured by their mean response; the outermost are named."""
    points = ax.scatter(places[:, 0], places[:, 1], c=potency, cmap="viridis", s=26, linewidths=0)
    ax.figure.colorbar(points, ax=ax, label=f"mean response, {unit}", shrink=0.8)
    ax.set_xticks([])
    ax.set_yticks([])
    radius = np.linalg.norm(places - places.mean(axis=0), axis=1)
    outermost = np.argsort(-radius)[:named]
    write_names(ax, places[outermost], [short(str(names[row]), 20) for row in outermost], others=places)
