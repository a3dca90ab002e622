"""Plots of drug response, from the tables of :class:`cell_lm.DrugResponseRegressor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cell_lm.errors import InputError
from cell_lm.evaluation.regression import LEAST, pearson
from cell_lm.pl.canvas import panel
from cell_lm.plots import response_figures as figures

if TYPE_CHECKING:
    from cell_lm.tasks.response.regressor import DrugResponseRegressor

_UNITS = {"ln_ic50": "ln IC50 (µM)", "auc": "area under the curve"}


def response_agreement(
    table: pd.DataFrame,
    *,
    unit: str = "ln_ic50",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw predicted against measured responses.

    Parameters
    ----------
    table
        ``response`` and ``truth``: the second value of :meth:`cell_lm.DrugResponseRegressor.compare`.
    unit
        ``"ln_ic50"`` or ``"auc"``.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        The table lacks a column, or has no rows.
    """
    _need(table, "response", "truth")
    truth, predicted = (table[name].to_numpy(np.float64) for name in ("truth", "response"))
    with panel(ax, 4.6, 4.4, show=show, save=save) as axes:
        figures.draw_agreement(axes, truth, predicted, unit=_UNITS.get(unit, unit))
        axes.set_title(f"Pearson {pearson(truth, predicted):.3f} over {len(table):,} pairs")
    return axes


def response_per_drug(
    table: pd.DataFrame, *, ax: Axes | None = None, show: bool | None = None, save: str | Path | None = None
) -> Axes:
    """Draw the correlation of predicted and measured responses within each drug, as a strip.

    Parameters
    ----------
    table
        ``drug``, ``response`` and ``truth``; drugs with fewer than three lines are left out.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        The table lacks a column, or no drug has three lines.
    """
    _need(table, "drug", "response", "truth")
    found = {
        str(drug): pearson(own["truth"].to_numpy(np.float64), own["response"].to_numpy(np.float64))
        for drug, own in table.groupby("drug", observed=True)
        if len(own) >= LEAST
    }
    found = {drug: value for drug, value in found.items() if not np.isnan(value)}
    if not found:
        raise InputError("no drug has three lines", where="response_per_drug", fix="Pass more pairs")
    values = np.array(list(found.values()))
    with panel(ax, 6.4, 3.2, show=show, save=save) as axes:
        axes.set_title(f"mean {values.mean():.3f} over {len(values):,} drugs")
        figures.draw_strip(axes, values, list(found), label="correlation within the drug")
    return axes


def response_ranking(
    table: pd.DataFrame,
    *,
    top: int = 20,
    unit: str = "ln_ic50",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the first rows of a ranking with their intervals; diamonds were measured.

    Parameters
    ----------
    table
        Of :meth:`cell_lm.DrugResponseRegressor.rank_drugs` or ``rank_lines``.
    top
        Number of rows.
    unit
        ``"ln_ic50"`` or ``"auc"``.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        The table lacks a column, or has no rows.
    """
    _need(table, "line", "drug", "response", "low", "high")
    axis, first = "drug" if table["line"].nunique() == 1 else "line", table.head(top)
    values, low, high = (first[name].to_numpy(np.float64) for name in ("response", "low", "high"))
    with panel(ax, 5.6, 1.0 + 0.22 * len(first), show=show, save=save) as axes:
        label = f"response, {_UNITS.get(unit, unit)}"
        figures.draw_ranking(axes, list(first[axis].astype(str)), values, low, high, label=label)
        other = table["line" if axis == "drug" else "drug"].iloc[0]
        axes.set_title(f"{'drugs for' if axis == 'drug' else 'lines for'} {other}")
    return axes


def response_learning_curve(
    curve: pd.DataFrame, *, ax: Axes | None = None, show: bool | None = None, save: str | Path | None = None
) -> Axes:
    """Draw how the prediction of new lines gains by measured drugs.

    Parameters
    ----------
    curve
        Of :meth:`cell_lm.DrugResponseRegressor.learning_curve`.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        The table lacks a column, or has no rows.
    """
    _need(curve, "measured", "per_drug")
    with panel(ax, 4.6, 3.2, show=show, save=save) as axes:
        figures.draw_learning_curve(axes, curve["measured"].to_numpy(), curve["per_drug"].to_numpy())
        axes.set_title("unseen lines with measured drugs")
    return axes


def drug_map(
    regressor: DrugResponseRegressor,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the drugs of a fit by the lines they act on: near drugs have correlated profiles, colour is potency.

    Parameters
    ----------
    regressor
        A fitted regressor.
    ax, show, save
        As in the whole module.

    Raises
    ------
    NotFittedError
        It has not been fitted.
    """
    model = regressor.model_
    profiles = np.nan_to_num(model.standardised, nan=0.0)
    profiles = profiles - profiles.mean(axis=1, keepdims=True)
    _, singular, axes_of_drugs = np.linalg.svd(profiles - profiles.mean(axis=0), full_matrices=False)
    places = axes_of_drugs[:2].T * singular[:2]
    with panel(ax, 6.0, 4.8, show=show, save=save) as axes:
        unit = _UNITS.get(regressor.unit_, regressor.unit_)
        axes.set_title(f"{len(regressor.drugs_):,} drugs by their profile over lines")
        figures.draw_drug_map(axes, places, model.scale.mean, list(map(str, regressor.drugs_)), unit=unit)
    return axes


def _need(table: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in table]
    if missing or not len(table):
        found = f"it has no column {', '.join(map(repr, missing))}" if missing else "it has no rows"
        raise InputError(found, where="table", fix="Pass what the method of DrugResponseRegressor returned")
