"""Shared by all plots: create a figure, show it, and save it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import get_backend
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cell_lm.files import atomic_file
from cell_lm.plots.style import drawing

_NO_SCREEN = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


def is_shown(show: bool | None, ax: Axes | None) -> bool:
    """Return whether to show: ``show`` if given, else scanpy's setting, if there is a screen and we made the figure."""
    if show is not None or ax is not None:
        return bool(show)
    if get_backend().lower() in _NO_SCREEN:
        return False
    import scanpy

    return bool(scanpy.settings.autoshow)


def new_figure(width: float, height: float, shown: bool) -> Figure:
    """Return a new figure, registered with pyplot only if it will be shown."""
    if not shown:
        return Figure(figsize=(width, height), layout="constrained")
    from matplotlib import pyplot

    return pyplot.figure(figsize=(width, height), layout="constrained")


@contextmanager
def panels(
    ax: Axes | None,
    width: float,
    height: float,
    *,
    number: int,
    across: int,
    show: bool | None,
    save: str | Path | None,
) -> Iterator[list[Axes]]:
    """Yield the axes to draw on, in the style of the report; then save the figure and show it.

    Parameters
    ----------
    ax
        Draw on these. None: on a new figure.
    width, height
        Size of the new figure in inches.
    number, across
        Number of its panels, in all and in a row.
    show, save
        As in the whole module.
    """
    shown = is_shown(show, ax)
    with drawing():
        if ax is not None:
            drawn = [ax]
        else:
            figure = new_figure(width, height, shown)
            drawn = [figure.add_subplot(-(-number // across), across, place + 1) for place in range(number)]
        yield drawn
    finish(drawn[0], shown, save)


@contextmanager
def panel(
    ax: Axes | None, width: float, height: float, *, show: bool | None, save: str | Path | None
) -> Iterator[Axes]:
    """Yield a single axes to draw on; see :func:`panels`."""
    with panels(ax, width, height, number=1, across=1, show=show, save=save) as (axes,):
        yield axes


def finish(ax: Axes, shown: bool, save: str | Path | None) -> None:
    """Save the figure where ``save`` names a file, and show it where ``shown`` is set."""
    figure = ax.get_figure(root=True)
    if save is not None and isinstance(figure, Figure):
        with drawing(), atomic_file(Path(save)) as temporary:
            figure.savefig(temporary, dpi=200, bbox_inches="tight")
    if shown:
        from matplotlib import pyplot

        pyplot.show()
