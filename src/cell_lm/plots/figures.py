"""One set of drawing functions for the report and for :mod:`cell_lm.pl`: each draws on the axes it is given.

Call them within :func:`cell_lm.plots.style.drawing`. None touches pyplot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import BboxBase
from numpy.typing import NDArray

from cell_lm.plots import history as log
from cell_lm.plots import style
from cell_lm.plots.style import (
    ACCENT,
    GENE_STATUS,
    GREY,
    GRID,
    INK,
    MISSING,
    MUTED,
    PAPER,
    SECOND,
    by_size,
    compact,
    natural_order,
    short,
)

HEAT = LinearSegmentedColormap.from_list("heat", [(*to_rgb(ACCENT), 0.0), (*to_rgb(ACCENT), 1.0)])
"""From the page's own background to blue, so that it fits light and dark pages alike."""

FEWEST_ON_MAP = 0.008
"""Fraction of the cells a category needs to be named on the map itself; the legend names all categories."""


class Confusion(Protocol):
    """What the heat map of a confusion matrix needs; ``cell_lm.evaluation.AnnotationScores`` provides it."""

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Cells [classes, classes]: rows are the truth, columns the prediction."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _arrows(ax: Axes, name: str) -> None:
    """Draw the two short axes of a map without scale in its lower left corner."""
    arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    for tip in ((0.14, 0.0), (0.0, 0.14)):
        ax.annotate("", xy=tip, xytext=(0.0, 0.0), xycoords="axes fraction", arrowprops=arrow)
    small: dict[str, Any] = {"xycoords": "axes fraction", "fontsize": 7.5, "color": MUTED}
    ax.annotate(f"{name} 1", (0.0, -0.012), va="top", **small)
    ax.annotate(f"{name} 2", (-0.012, 0.0), ha="right", rotation=90, **small)


def point_size(n: int) -> float:
    """Return the area of a point (in square points) at which ``n`` cells fill a map without too much overlap."""
    return float(np.clip(24_000 / max(n, 1), 0.6, 26.0))


def map_size(coordinates: NDArray[np.floating], width: float) -> tuple[float, float]:
    """Return the width and height in inches of a map whose two axes have the same scale."""
    across, up = np.ptp(coordinates, axis=0)
    return width, width * float(np.clip(up / max(across, 1e-9), 0.6, 1.15))


def draw_map(
    ax: Axes,
    coordinates: NDArray[np.floating],
    values: Sequence[str] | NDArray[np.str_],
    colours: Mapping[str, str],
    *,
    name: str = "UMAP",
    on_map: bool = False,
    legend: bool = True,
) -> None:
    """Draw cells on a map, coloured by category, in a random but fixed order, so that no category hides another.

    Parameters
    ----------
    ax
        Where to draw.
    coordinates
        Numbers [cells, 2].
    values
        The category of every cell; ``"not given"`` lies under all others.
    colours
        Colour by category, in the order of the legend.
    name
        Name of the two axes.
    on_map
        Write the larger categories on the map too, where they do not overlap.
    legend
        Draw a legend with the number of cells of each category, to the right.
    """
    labels = np.asarray(values, dtype=str)
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order] != MISSING, kind="stable")]
    shades = np.array([to_rgb(colours[label]) for label in labels])[order] if len(labels) else np.empty((0, 3))
    x, y = coordinates[order].T
    ax.scatter(x, y, c=shades, s=point_size(len(order)), linewidths=0, alpha=0.85, rasterized=True)
    _bare(ax)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.03)
    _arrows(ax, name)
    if legend:
        _legend(ax, labels, colours)
    if on_map:
        _names_on_map(ax, coordinates, labels)


def draw_values(
    ax: Axes, coordinates: NDArray[np.floating], values: NDArray[np.floating], *, name: str = "UMAP"
) -> PathCollection:
    """Draw cells on a map, coloured by a number, the highest on top; undefined ones grey and below.

    Returns what a colour bar needs.
    """
    order = np.argsort(np.where(np.isfinite(values), values, -np.inf), kind="stable")
    (x, y), shown = coordinates[order].T, values[order]
    size, known = point_size(len(order)), np.isfinite(shown)
    ax.scatter(x[~known], y[~known], c=GREY, s=size, linewidths=0, alpha=0.5, rasterized=True)
    drawn = ax.scatter(x[known], y[known], c=shown[known], cmap="viridis", s=size, linewidths=0, rasterized=True)
    _bare(ax)
    ax.set_aspect("equal", adjustable="datalim")
    _arrows(ax, name)
    return drawn


def _legend(ax: Axes, labels: NDArray[np.str_], colours: Mapping[str, str]) -> None:
    handles = [
        ax.scatter([], [], color=key.colour, s=30, linewidths=0, label=f"{short(key.name)}  {key.cells:,}")
        for key in style.legend(labels.tolist(), colours)
    ]
    columns = 1 + (len(handles) - 1) // 22
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns, handletextpad=0.2)


def _names_on_map(ax: Axes, coordinates: NDArray[np.floating], labels: NDArray[np.str_]) -> None:
    """Write category names where most of their cells are, the largest first; overlapping names are left out."""
    figure = ax.get_figure(root=True)
    if not isinstance(figure, Figure):
        return
    figure.draw_without_rendering()
    taken: list[BboxBase] = []
    for category, size in by_size(labels.tolist()).items():
        if category == MISSING or size < max(3, FEWEST_ON_MAP * len(labels)):
            continue
        text = _name(ax, coordinates[labels == category], category)
        box = text.get_window_extent().padded(1.0)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _name(ax: Axes, points: NDArray[np.floating], category: str) -> Text:
    centre = np.median(points, axis=0)
    medoid = points[np.argmin(((points - centre) ** 2).sum(axis=1))]
    x, y = (float(value) for value in medoid)
    text = ax.text(x, y, short(category, 22), ha="center", va="center", fontsize=8.5, fontweight="bold", color=INK)
    text.set_path_effects([patheffects.withStroke(linewidth=2.6, foreground=PAPER)])
    text.set_in_layout(False)
    return text


def draw_curve(
    ax: Axes,
    history: pd.DataFrame,
    name: str,
    *,
    title: str,
    percent: bool = False,
    baseline: tuple[float, str] | None = None,
) -> None:
    """Draw one quantity of a training log over the steps.

    Training is drawn as measured (pale) and smoothed, validation as points on a line, a baseline as a dashed line.

    Parameters
    ----------
    ax
        Where to draw.
    history
        What :func:`cell_lm.report.read_history` returns.
    name
        Column to draw.
    title
        Title of the axes.
    percent
        Label the values as percent.
    baseline
        Value of a naive baseline, and its name.
    """
    train = log.thinned(log.column(history, "train", name))
    valid = log.thinned(log.column(history, "valid", name))
    if len(train):
        steps, values = train["step"].to_numpy(), train["value"].to_numpy(dtype=np.float64)
        ax.plot(steps, values, color=ACCENT, alpha=0.25, linewidth=0.8)
        ax.plot(steps, log.smoothed(values), color=ACCENT, linewidth=1.7, label="training (smoothed)")
    if len(valid):
        marker = "o" if len(valid) <= 60 else ""
        points: dict[str, Any] = {"marker": marker, "markersize": 3, "linewidth": 1.2}
        ax.plot(valid["step"], valid["value"], color=SECOND, label="validation", **points)
    if baseline is not None:
        ax.axhline(baseline[0], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), label=baseline[1])
    _focus(ax, train, valid, baseline)
    ax.set_title(title)
    ax.grid(True, axis="y", color=GRID)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %" if percent else compact(value)))


def _focus(ax: Axes, train: pd.DataFrame, valid: pd.DataFrame, baseline: tuple[float, str] | None) -> None:
    """Set the limits from the inner 99 % of the training values, so that a spike does not flatten the curve."""
    inner = train["value"].quantile([0.005, 0.995]).tolist() if len(train) else []
    values = np.array([*inner, *valid["value"], *([baseline[0]] if baseline else [])])
    if len(values):
        low, high = float(values.min()), float(values.max())
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        ax.set_ylim(low - room, high + room)


def draw_confusion(ax: Axes, scores: Confusion) -> None:
    """Draw a confusion matrix as a heat map: shaded by the fraction of the row, with the numbers of cells.

    Rows are the types of the truth, the most frequent first; types that are only predicted follow as columns.
    """
    support = scores.confusion.sum(axis=1)
    names = [short(name) for name in scores.classes]
    order = np.array(sorted(range(len(names)), key=lambda i: (-support[i], natural_order(scores.classes[i]))))
    rows = order[support[order] > 0]
    counts = scores.confusion[np.ix_(rows, order)]
    fraction = counts / support[rows][:, None]
    ax.imshow(fraction, cmap=HEAT, vmin=0.0, vmax=1.0, aspect="auto", interpolation="none")
    slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(len(order)), [names[column] for column in order], **slanted)
    ax.set_yticks(range(len(rows)), [f"{names[row]}  ({support[row]:,})" for row in rows])
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set_parse_math(False)
        text.set_color(INK)
    ax.set_xlabel("predicted", fontweight="bold")
    ax.set_ylabel("true (cells)", fontweight="bold")
    _lattice(ax, counts.shape)
    size = 8.0 if len(order) <= 16 else 6.5 if len(order) <= 24 else 5.0
    for (row, column), cells in np.ndenumerate(counts):
        if cells:
            colour = "#ffffff" if fraction[row, column] > 0.75 else INK
            ax.text(column, row, f"{cells:,}", ha="center", va="center_baseline", fontsize=size, color=colour)


def _lattice(ax: Axes, shape: tuple[int, ...]) -> None:
    ax.grid(False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for edge in np.arange(shape[0] + 1) - 0.5:
        ax.axhline(edge, color=GRID, linewidth=0.7)
    for edge in np.arange(shape[1] + 1) - 0.5:
        ax.axvline(edge, color=GRID, linewidth=0.7)


def confusion_size(scores: Confusion) -> tuple[float, float]:
    """Return the width and height in inches at which a heat map of these classes is readable."""
    rows = int((scores.confusion.sum(axis=1) > 0).sum())
    longest = max(len(short(name)) for name in scores.classes)
    cell = 0.46 if len(scores.classes) <= 16 else 0.36
    return (1.2 + 0.085 * longest + cell * len(scores.classes), 0.9 + 0.06 * longest + 0.72 * cell * rows)


def draw_distribution(ax: Axes, values: Mapping[str, NDArray[Any]], colours: Mapping[str, str], *, title: str) -> None:
    """Draw the distribution of a positive quantity over the cells of each data set, on a log axis; medians dotted."""
    positive = {name: np.asarray(v, np.float64)[np.asarray(v) > 0] for name, v in values.items()}
    positive = {name: v for name, v in positive.items() if len(v)}
    if positive:
        low, high = min(v.min() for v in positive.values()), max(v.max() for v in positive.values())
        edges = np.geomspace(low, max(high, low * 1.01), 41)
        ax.set_xscale("log")
        for name, v in positive.items():
            fraction = np.histogram(v, edges)[0] / len(v)
            ax.stairs(fraction, edges, color=colours[name], linewidth=1.5, label=name)
            ax.stairs(fraction, edges, color=colours[name], fill=True, alpha=0.13)
            ax.plot(
                [np.median(v)] * 2, [0, fraction.max()], color=colours[name], linewidth=1.3, linestyle=(0, (1, 1.5))
            )
        ax.set_ylim(bottom=0)
    ax.set_title(title)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    ax.xaxis.set_minor_formatter(FuncFormatter(_minor))
    ax.tick_params(axis="x", which="minor", labelsize=7.5)


def _minor(value: float, _position: object) -> str:
    """Label 2 and 5 between the powers of ten."""
    return compact(value) if f"{value:e}"[0] in "25" else ""


def draw_gene_audit(ax: Axes, audits: Mapping[str, Mapping[str, int]]) -> None:
    """Draw how the genes of each data set were matched: one bar per data set, one segment per status."""
    names = list(audits)
    left = np.zeros(len(names))
    for status, colour in GENE_STATUS.items():
        genes = np.array([audits[name].get(status, 0) for name in names], dtype=np.float64)
        if genes.any():
            label = f"{status}  {int(genes.sum()):,}"
            ax.barh(range(len(names)), genes, left=left, color=colour, height=0.62, label=label)
        left += genes
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.invert_yaxis()
    ax.set_xlabel("genes of the input")
    ax.grid(True, axis="x", color=GRID)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.0, handleheight=1.0)
