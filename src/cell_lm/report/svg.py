"""A matplotlib figure as SVG for embedding in a page: unique ids, no fixed text colour, nothing to fetch."""

from __future__ import annotations

import io
import re
from html import escape

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.text import Text

from cell_lm.plots.style import ACCENT, FONT, GRID, INK, MUTED, PAPER, SECOND, drawing

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    ACCENT: "--accent",
    SECOND: "--second",
}
"""Colours of the figures that follow the page, which may be light or dark."""


def to_svg(figure: Figure, name: str, alt: str, *, dpi: int = 190) -> Markup:
    """Return a figure as an ``<svg>`` element for an HTML page.

    Text stays text in the page's own font. Rasterised parts (the points of a map) become an embedded PNG.

    Parameters
    ----------
    figure
        Any figure that pyplot does not manage.
    name
        Unique on the page; starts every id of this figure, as ids of two figures would otherwise refer to each other.
    alt
        Text alternative for readers who cannot see the figure.
    dpi
        Resolution of the rasterised parts.
    """
    buffer = io.StringIO()
    _halos_to_css(figure)
    with drawing():
        figure.patch.set_visible(False)
        figure.savefig(buffer, format="svg", dpi=dpi, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = text.replace(f"'{FONT}'", "var(--sans)")
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return Markup(_framed(text, name, alt))


def _halos_to_css(figure: Figure) -> None:
    """Leave the outline of names on a map to the page's style sheet; matplotlib would draw such text as curves."""
    outlined = [text for text in figure.findobj(Text) if text.get_path_effects()]
    for number, text in enumerate(outlined):
        text.set_path_effects([])
        text.set_gid(f"halo-{number}")


def _framed(text: str, name: str, alt: str) -> str:
    """Let the page set the size, with the natural width as a hint (a point is 4/3 pixels), and add the description."""
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', head)
    width, height = (float(side) for side in box.groups()) if box else (400.0, 300.0)
    style = f"--natural:{width * 4 / 3:.0f}px"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" '
        f'style="{style}" role="img" aria-labelledby="{name}-alt"><title id="{name}-alt">{escape(alt)}</title>{body}'
    )
