"""What the verbs of drug sensitivity print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cell_lm.cli.console import Messages, show_coverage

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cell_lm.evaluation.sensitivity_metrics import SensitivityScores

KEY = "cell_lm_sensitivity"
_SHOWN = 8
"""Genes that are shown of each direction."""


def show_genes(table: pd.DataFrame, says: Messages, column: str = "weight") -> None:
    """Print the genes that weigh most, by direction."""
    for word, rows in (("sensitive", table[table[column] > 0]), ("resistant", table[table[column] < 0])):
        says.result(f"higher in {word} cells: {', '.join(rows['gene'].head(_SHOWN)) or 'no gene'}")


def show_groups(adata: AnnData, groupby: str | None, says: Messages) -> None:
    """Print how many cells are sensitive, in all and by group."""
    from cell_lm import tl

    calls, doubt = adata.obs[f"{KEY}_call"].astype(str), adata.obs[f"{KEY}_uncertain"]
    sensitive = int((calls == str(adata.uns[KEY]["sensitive"])).sum())
    if groupby is not None:
        table = tl.sensitivity_summary(adata, groupby)
        rows = [
            [
                str(row.group),
                f"{row.cells:,}",
                f"{row.sensitive:,}",
                f"{row.fraction:.1%}",
                f"{row.low:.1%} to {row.high:.1%}",
                f"{row.uncertain:.1%}",
            ]
            for row in table.itertuples()
        ]
        says.table([groupby, "cells", "sensitive", "fraction", "95 %", "uncertain"], rows, numbers=5)
    says.result(f"{sensitive:,} of {adata.n_obs:,} cells called sensitive, {int(doubt.sum()):,} calls uncertain")


def show_copy(adata: AnnData, path: Path, says: Messages) -> None:
    """Print the genes that the calls are based on, and where they were written."""
    show_coverage(adata.uns[KEY], says)
    says.result(f"written: {path} (obs {KEY}, {KEY}_score, {KEY}_call, {KEY}_uncertain)")


def show_scores(scores: SensitivityScores, says: Messages) -> None:
    """Print the scores of a classifier."""
    rows = [[name.upper(), f"{value:.3f}"] for name, value in scores.to_json().items()]
    says.table(["score", "value"], rows, numbers=1)
    says.result(f"on {scores.cells:,} labelled cells, {scores.sensitive:,} of them sensitive")
