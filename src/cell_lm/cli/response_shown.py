"""What the verbs of drug response print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cell_lm.cli.console import Messages

if TYPE_CHECKING:
    import pandas as pd

    from cell_lm.data.response import ResponseTable
    from cell_lm.evaluation.regression import ResponseScores
    from cell_lm.tasks.response import DrugResponseRegressor


def show_fit(regressor: DrugResponseRegressor, table: ResponseTable, says: Messages) -> None:
    """Print what a fit learned from."""
    lines, without = len(regressor.lines_), len(table.lines) - len(regressor.lines_)
    left_out = f" ({without:,} lines of the table without expression were left out)" if without else ""
    says.result(f"fitted on {lines:,} lines and {len(regressor.drugs_):,} drugs{left_out}")
    cold = regressor.model_.cold
    if cold is None:
        says.result("new drugs cannot be predicted: too few drugs have a SMILES (--smiles)")
    else:
        says.result(f"new drugs are predicted by the structure of {len(cold.columns):,} drugs")


def unit(regressor: DrugResponseRegressor) -> str:
    """Return the unit of the responses, and what the bounds are."""
    name = "ln of the IC50 in µM" if regressor.unit_ == "ln_ic50" else "area under the dose-response curve"
    return f"response: {name}; low and high: {regressor.confidence:.0%} interval"


def show_scores(scores: ResponseScores, pairs: pd.DataFrame, regressor: DrugResponseRegressor, says: Messages) -> None:
    """Print how well predictions agree with measured pairs."""
    inside = pairs["truth"].between(pairs["low"], pairs["high"])[pairs["low"].notna()].mean()
    rows = [
        ["Pearson over all pairs (drug means alone reach most of it)", f"{scores.pearson:.3f}"],
        [f"Pearson within drugs, mean of {scores.drugs:,}", f"{scores.pearson_per_drug:.3f}"],
        ["Pearson after mean effects are subtracted", f"{scores.normalised_pearson:.3f}"],
        ["Spearman over all pairs", f"{scores.spearman:.3f}"],
        ["RMSE", f"{scores.rmse:.3f}"],
        [f"inside the {regressor.confidence:.0%} interval", f"{inside:.1%}"],
    ]
    says.table(["score", "value"], rows, numbers=1)
    kinds = ", ".join(f"{number:,} {name}" for name, number in pairs["known"].value_counts().items())
    says.result(f"{len(pairs):,} pairs: {kinds}")


def show_ranking(rows: pd.DataFrame, axis: str, regressor: DrugResponseRegressor, says: Messages) -> None:
    """Print the rows of a ranking of lines or drugs."""
    shown = [
        [
            str(row[axis]),
            f"{row['response']:.2f}",
            _bounds(row["low"], row["high"]),
            f"{row['score']:+.2f}",
            row["known"],
        ]
        for _, row in rows.iterrows()
    ]
    says.table([axis, "response", "interval", "score", "known"], shown)
    says.result(f"{unit(regressor)}; score: standard deviations from the mean of the drug")


def _bounds(low: float, high: float) -> str:
    return "measured" if low != low else f"{low:.2f} to {high:.2f}"
