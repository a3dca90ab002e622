"""Names beside points, placed one after the other so that none covers another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from cell_lm.plots.style import INK, MUTED, PAPER

Floats = NDArray[np.floating]
Direction = tuple[int, int]
"""Where a name is, seen from its point: -1, 0 or 1 along either axis."""

ABOVE: tuple[Direction, ...] = ((0, 1),)
AROUND: tuple[Direction, ...] = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_NEAR = 4.5
"""Distance of a name from its point, in points."""
_FAR = (10.0, 18.0, 28.0)
"""Further distances, at which a line leads to the name."""
_DOT = 2.5
"""Radius that is counted as covered around a point, in points."""
_HORIZONTAL: dict[int, Literal["left", "center", "right"]] = {1: "left", 0: "center", -1: "right"}
_VERTICAL: dict[int, Literal["bottom", "center", "top"]] = {1: "bottom", 0: "center", -1: "top"}


def write_names(
    ax: Axes,
    points: Floats,
    names: Sequence[str],
    *,
    others: Floats | None = None,
    directions: Sequence[Direction] = AROUND,
    size: float = 7.0,
) -> int:
    """Write names next to their points, in order; a name without a free place is left out.

    Call it last: what changes the limits or the layout afterwards moves points closer together.

    Parameters
    ----------
    ax
        Axes to draw on.
    points
        A point per name [n, 2], the most important first.
    names
        What to write.
    others
        All points of the figure [m, 2]: of several free places, the one that covers the fewest is taken, and a name
        stays within the axes. None: the nearest free place is taken.
    directions
        Places to try. With a single one, every name stays at its point.
    size
        Of the font, in points.

    Returns
    -------
    int
        Number of names written.
    """
    figure = ax.get_figure(root=True)
    if not isinstance(figure, Figure):
        return 0
    figure.draw_without_rendering()
    shown = None if others is None else ax.transData.transform(np.asarray(others, np.float64))
    taken: list[_Place] = []
    for point, name in zip(points, names, strict=True):
        text = _annotation(ax, point, name, size)
        found = _best(ax, text, taken, shown, directions)
        if found is None:
            text.remove()
            continue
        taken.append(found)
        _move(text, found.distance, found.direction)
        if found.distance > _NEAR:
            _lead(ax, text)
    return len(taken)


class _Place(NamedTuple):
    distance: float
    direction: Direction
    box: Bbox
    """In pixels, as ``line``."""
    line: Path
    """From the point to the box."""

    def is_free(self, taken: Sequence[_Place]) -> bool:
        """Return whether neither the name nor the line to it meets one that is there."""
        for other in taken:
            crossed = other.distance > _NEAR and other.line.intersects_bbox(self.box)
            crosses = self.distance > _NEAR and self.line.intersects_bbox(other.box)
            if self.box.overlaps(other.box) or crossed or crosses:
                return False
        return True


def _best(
    ax: Axes, text: Annotation, taken: Sequence[_Place], others: Floats | None, directions: Sequence[Direction]
) -> _Place | None:
    """Return the best free place for a name; None if there is none."""
    best, fewest = None, np.inf
    point, dot = ax.transData.transform(text.xy), _DOT * ax.figure.dpi / 72
    for distance, direction in _places(directions):
        _move(text, distance, direction)
        box = text.get_window_extent()
        line = Path([point, np.clip(point, (box.x0, box.y0), (box.x1, box.y1))])
        place = _Place(distance, direction, box, line)
        if not place.is_free(taken) or (others is not None and not _within(box, ax)):
            continue
        covered = 0 if others is None else box.padded(dot).count_contains(others)
        if covered < fewest:
            best, fewest = place, covered
        if not covered:
            break
    return best


def _places(directions: Sequence[Direction]) -> Iterator[tuple[float, Direction]]:
    for distance in (_NEAR, *_FAR) if len(directions) > 1 else (_NEAR,):
        for direction in directions:
            yield distance, direction


def _move(text: Annotation, distance: float, direction: Direction) -> None:
    across, up = direction
    text.set_position((distance * across, distance * up))
    text.set_horizontalalignment(_HORIZONTAL[across])
    text.set_verticalalignment(_VERTICAL[up])


def _within(box: Bbox, ax: Axes) -> bool:
    around = ax.bbox
    return bool(around.x0 <= box.x0 and box.x1 <= around.x1 and around.y0 <= box.y0 and box.y1 <= around.y1)


def _annotation(ax: Axes, point: Floats, name: str, size: float) -> Annotation:
    x, y = (float(value) for value in point)
    text = ax.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=size, color=INK)
    text.set_parse_math(False)
    text.set_path_effects([patheffects.withStroke(linewidth=2.0, foreground=PAPER)])
    text.set_in_layout(False)
    return text


def _lead(ax: Axes, text: Annotation) -> None:
    """Draw a line from a name to its point."""
    line = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0.5, "shrinkB": 2.0}
    leader = ax.annotate("", text.xy, text.get_position(), textcoords="offset points", arrowprops=line)
    leader.set_in_layout(False)
