"""What every plot does around its drawing: a figure, whether it is shown, and where it is saved."""

from __future__ import annotations

from pathlib import Path

from matplotlib import get_backend
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cell_lm.files import atomic_file
from cell_lm.plots.style import drawing

_NO_SCREEN = {"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"}


def is_shown(show: bool | None, ax: Axes | None) -> bool:
    """Decide whether to show: what the user says, else scanpy's setting, on a screen, for a figure of our own."""
    if show is not None or ax is not None:
        return bool(show)
    if get_backend().lower() in _NO_SCREEN:
        return False
    import scanpy

    return bool(scanpy.settings.autoshow)


def new_figure(width: float, height: float, shown: bool) -> Figure:
    """Return a new figure, which pyplot knows only if it is going to be shown."""
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
