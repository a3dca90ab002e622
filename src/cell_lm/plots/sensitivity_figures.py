"""Figures of drug sensitivity: scores by group, reliability of probabilities, a signature in bulk and in cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.plots.names import write_names
from cell_lm.plots.style import ACCENT, GREY, INK, MUTED, SECOND, short

_GRID = 200
_WIDEST = 0.42
_POINTS = 80
"""Groups of at most so many cells also get a point per cell."""


def draw_score_distributions(ax: Axes, scores: Mapping[str, NDArray[np.floating]]) -> None:
    """Draw one density per group, the first on top, with its median; small groups also with their cells.

    Parameters
    ----------
    ax
        Axes to draw on.
    scores
        Scores of the cells of each group, logits: above 0 for sensitive.
    """
    everything = np.concatenate([np.asarray(values) for values in scores.values()])
    low, high = float(everything.min()), float(everything.max())
    width = max((high - low) / 25, 1e-3)
    at = np.linspace(low - 2 * width, high + 2 * width, _GRID)
    rng = np.random.default_rng(0)
    for row, values in enumerate(scores.values()):
        density = np.exp(-0.5 * ((at[:, None] - values) / width) ** 2).mean(axis=1)
        tall = _WIDEST * density / density.max()
        ax.fill_between(at, row - tall, row + tall, color=ACCENT, alpha=0.25, linewidth=0)
        if len(values) <= _POINTS:
            shift = rng.uniform(-0.12, 0.12, len(values))
            ax.plot(values, row + shift, "o", color=INK, markersize=2, alpha=0.6, markeredgewidth=0)
        middle = float(np.median(values))
        ax.plot([middle, middle], [row - 0.2, row + 0.2], color=SECOND, linewidth=2)
    ax.axvline(0.0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    ax.set_yticks(range(len(scores)), [f"{short(name)} ({len(values):,})" for name, values in scores.items()])
    ax.set_ylim(len(scores) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0, labelcolor=INK)
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("score (logit; above 0: sensitive)")


def draw_reliability(
    ax: Axes, mean: NDArray[np.floating], share: NDArray[np.floating], cells: NDArray[np.integer]
) -> None:
    """Draw the fraction of sensitive cells against the mean probability of each bin; area by number of cells."""
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    area = 12 + 160 * cells / max(int(cells.max()), 1)
    ax.scatter(mean, share, s=area, color=ACCENT, alpha=0.8, linewidths=0, clip_on=False, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")
    ax.grid()
    ax.set_xlabel("probability of being sensitive")
    ax.set_ylabel("fraction sensitive")


def draw_signature(
    ax: Axes,
    bulk: NDArray[np.floating],
    cells: NDArray[np.floating],
    genes: Sequence[str],
    *,
    trusted: bool,
    named: int = 12,
) -> None:
    """Draw each gene by its correlation with sensitivity in bulk and with the score among the cells.

    Parameters
    ----------
    ax
        Axes to draw on.
    bulk, cells
        Correlations [genes].
    genes
        Their names.
    trusted
        Whether the tests of the signature passed; otherwise it is drawn in grey.
    named
        How many genes to name: those with the largest product of both.
    """
    colour = ACCENT if trusted else GREY
    ax.scatter(bulk, cells, s=8, color=colour, alpha=0.6, linewidths=0, rasterized=True)
    for axis in (ax.axhline, ax.axvline):
        axis(0.0, color=MUTED, linewidth=0.8)
    ax.margins(0.12)
    ax.grid()
    ax.set_xlabel("correlation with sensitivity over bulk lines")
    ax.set_ylabel("correlation with the score over cells")
    points, largest = np.column_stack([bulk, cells]), np.argsort(-np.abs(bulk * cells))[:named]
    write_names(ax, points[largest], [genes[place] for place in largest], others=points, size=7.5)
