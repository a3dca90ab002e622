"""Plots of how far labels can be trusted: reliability, risk and coverage, few-shot curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from cell_lm.evaluation.labels import Labels
from cell_lm.evaluation.learning_curve import FewShotCurve
from cell_lm.evaluation.selective import RiskCoverage, label_reliability
from cell_lm.pl.canvas import panel
from cell_lm.plots import annotation_figures as figures


def annotation_reliability(
    truth: Labels,
    predicted: Labels,
    confidence: ArrayLike,
    *,
    bins: int = 10,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw how often labels of a confidence are right.

    Parameters
    ----------
    truth, predicted
        One label per cell, none missing.
    confidence
        The probability of the predicted label.
    bins
        Bins of equal width.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        As :func:`cell_lm.evaluation.selective.label_reliability`.
    """
    held = [one for one in label_reliability(truth, predicted, confidence, bins) if one.cells]
    cells = sum(one.cells for one in held)
    error = sum(abs(one.confidence - one.accuracy) * one.cells for one in held) / cells
    with panel(ax, 4.2, 4.2, show=show, save=save) as axes:
        figures.draw_label_reliability(axes, held)
        axes.set_title(f"reliability (ECE {error:.3f}, {cells:,} cells)")
    return axes


def risk_coverage(
    curves: RiskCoverage | Mapping[str, RiskCoverage],
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the fraction of wrong labels among the most confident cells.

    Parameters
    ----------
    curves
        What :func:`cell_lm.evaluation.selective.risk_coverage` returned, or several by the name of the method.
    ax, show, save
        As in the whole module.
    """
    named = {"": curves} if isinstance(curves, RiskCoverage) else dict(curves)
    with panel(ax, 5.2, 3.6, show=show, save=save) as axes:
        figures.draw_risk_coverage(axes, {name: (each.coverage, each.risk) for name, each in named.items()})
        alone = next(iter(named.values())) if len(named) == 1 else None
        axes.set_title(f"risk and coverage (mean risk {alone.area:.3f})" if alone else "risk and coverage")
    return axes


def few_shot_curve(
    curves: FewShotCurve | Mapping[str, FewShotCurve],
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw macro-F1 against the number of labelled cells, with 95 % intervals over the draws.

    Parameters
    ----------
    curves
        What :func:`cell_lm.evaluation.learning_curve.few_shot_curve` returned, or several by the name of the method.
    ax, show, save
        As in the whole module.
    """
    named = {"": curves} if isinstance(curves, FewShotCurve) else dict(curves)
    drawn = {}
    for name, each in named.items():
        ends = each.intervals
        low, high = (np.array([getattr(end, side) for end in ends]) for side in ("low", "high"))
        drawn[name] = (each.per_type, np.array([end.mean for end in ends]), low, high)
    with panel(ax, 5.2, 3.6, show=show, save=save) as axes:
        figures.draw_few_shot(axes, drawn)
        axes.set_title("few labelled cells")
    return axes
