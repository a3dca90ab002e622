"""Figures of annotation scores: reliability, risk and coverage, few-shot curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cell_lm.plots.sensitivity_figures import draw_reliability
from cell_lm.plots.style import CATEGORIES, INK, MUTED

Curve = tuple[Sequence[int], NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
"""Labelled cells a type, mean score, and the ends of its interval."""


class Bin(Protocol):
    """A bin of :func:`cell_lm.evaluation.selective.label_reliability`."""

    @property
    def cells(self) -> int:
        """Number of cells."""

    @property
    def confidence(self) -> float:
        """Their mean confidence."""

    @property
    def accuracy(self) -> float:
        """Fraction of them that is right."""


def draw_label_reliability(ax: Axes, bins: Sequence[Bin]) -> None:
    """Draw the fraction of right labels against the mean confidence of bins, none empty; area by number of cells."""
    mean, share = (np.array([getattr(one, name) for one in bins]) for name in ("confidence", "accuracy"))
    draw_reliability(ax, mean, share, np.array([one.cells for one in bins]))
    ax.set_xlabel("confidence")
    ax.set_ylabel("fraction of labels that are right")


def draw_risk_coverage(ax: Axes, curves: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]]) -> None:
    """Draw the fraction of wrong labels against the fraction of cells that keep a label, one line a method."""
    for colour, (name, (coverage, risk)) in zip(cycle(CATEGORIES), curves.items(), strict=False):
        ax.plot(np.asarray(coverage), np.asarray(risk), color=colour, linewidth=1.6, label=name, drawstyle="steps-post")
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.grid()
    ax.set_xlabel("fraction of cells with a label, the most confident first")
    ax.set_ylabel("fraction of labels that are wrong")
    if len(curves) > 1:
        ax.legend(loc="upper left")


def draw_few_shot(ax: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw macro-F1 against the number of labelled cells a type, with intervals, one line a method."""
    for colour, (name, (number, mean, low, high)) in zip(cycle(CATEGORIES), curves.items(), strict=False):
        ax.fill_between(number, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(number, mean, "o-", color=colour, linewidth=1.6, markersize=4, label=name)
    ax.set_xscale("log")
    ticks = sorted({each for curve in curves.values() for each in curve[0]})
    ax.set_xticks(ticks, [str(each) for each in ticks])
    ax.minorticks_off()
    ax.tick_params(colors=MUTED, labelcolor=INK)
    ax.grid(axis="y")
    ax.set_xlabel("labelled cells of each type")
    ax.set_ylabel("macro-F1")
    if len(curves) > 1:
        ax.legend(loc="lower right")
