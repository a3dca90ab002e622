"""Figures of attributions: the top genes of each label, and deletion curves.

As in :mod:`cell_lm.plots.figures` each function draws on the axes it is given, within
:func:`cell_lm.plots.style.drawing`.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cell_lm.plots.style import ACCENT, CATEGORIES, GREY, GRID, MUTED, SECOND, compact, short

RANDOM_ORDERS = ("random", "random, equally expressed")
"""Orders that are drawn grey and dashed, beneath the others."""


def top_genes(table: pd.DataFrame, label: str, most: int) -> pd.DataFrame:
    """Return the rows of a label's genes of the largest absolute attribution, from the highest attribution down."""
    rows = table[table["label"].astype(str) == label]
    strongest = rows["attribution"].abs().sort_values(ascending=False, kind="stable").index[:most]
    return rows.loc[strongest].sort_values("attribution", ascending=False, kind="stable")


def draw_gene_attribution(ax: Axes, table: pd.DataFrame, label: str, *, genes: int = 12) -> None:
    """Draw the genes of one label as bars: evidence for it to the right, against it to the left.

    Parameters
    ----------
    ax
        Where to draw.
    table
        What :func:`cell_lm.tl.gene_attribution` returns.
    label
        One of its labels.
    genes
        Most genes to draw.
    """
    rows = top_genes(table, label, genes)
    values = rows["attribution"].to_numpy(float)
    ax.barh(range(len(rows)), values, height=0.7, color=[ACCENT if value > 0 else SECOND for value in values])
    names = [f"{gene}  {fraction:.0%}" for gene, fraction in zip(rows["gene"], rows["expressed"], strict=True)]
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    ax.axvline(0.0, color=MUTED, linewidth=0.8)
    ax.grid(True, axis="x", color=GRID)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    cells = int(rows["cells"].iloc[0]) if len(rows) else 0
    ax.set_title(f"{short(label)}  {cells:,}").set_parse_math(False)


def draw_deletion_curves(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the probability of the predicted class against the fraction of genes removed, one line per order.

    Parameters
    ----------
    ax
        Where to draw.
    table
        What :func:`cell_lm.tl.deletion_curve` returns.
    """
    colours = iter(CATEGORIES)
    for order in table["order"].drop_duplicates():
        rows = table[table["order"] == order]
        random = order in RANDOM_ORDERS
        dashes = (0, (4, 3)) if order == RANDOM_ORDERS[0] else (0, (1, 1.5)) if random else "-"
        label = f"{str(order).replace('_', ' ')}  {rows['area'].iloc[0]:.3f}"
        colour = GREY if random else next(colours, MUTED)
        ax.plot(rows["deleted"], rows["probability"], color=colour, linestyle=dashes, linewidth=1.6, label=label)
    ax.set_xlim(0.0, 1.0)
    ax.set_ylim(0.0, 1.02)
    ax.set_xlabel("genes taken away")
    ax.set_ylabel("probability of the call")
    ax.grid(True, axis="y", color=GRID)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="area under the curve")
