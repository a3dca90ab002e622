"""Shared by all plots: create a figure, show it, and save it."""

from __future__ import annotations

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


def finish(ax: Axes, shown: bool, save: str | Path | None) -> None:
    """Save the figure where ``save`` names a file, and show it where ``shown`` is set."""
    figure = ax.get_figure(root=True)
    if save is not None and isinstance(figure, Figure):
        with drawing(), atomic_file(Path(save)) as temporary:
            figure.savefig(temporary, dpi=200, bbox_inches="tight")
    if shown:
        from matplotlib import pyplot

        pyplot.show()
