"""Plots of a training run, of an annotation, and of how the genes of an input were matched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores
from cell_lm.evaluation.labels import Labels
from cell_lm.genes.audit import AuditSummary, GeneAudit
from cell_lm.pl.canvas import panel, panels
from cell_lm.plots import figures
from cell_lm.plots import history as log
from cell_lm.plots.history import CURVES, read_history

if TYPE_CHECKING:
    from anndata import AnnData


def confusion(
    truth: Labels,
    predicted: Labels,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the confusion matrix of predicted labels: shaded by the fraction of the row, with the numbers of cells.

    Parameters
    ----------
    truth, predicted
        One label per cell each, in the same order, none missing.
    ax, show, save
        As in the whole module.

    Raises
    ------
    InputError
        As :func:`cell_lm.evaluation.annotation_metrics.annotation_scores`.
    """
    scores: AnnotationScores = annotation_scores(truth, predicted)
    with panel(ax, *figures.confusion_size(scores), show=show, save=save) as axes:
        figures.draw_confusion(axes, scores)
        axes.set_title(f"macro-F1 {scores.macro_f1:.3f}, accuracy {scores.accuracy:.1%}")
    return axes


def training(
    run: str | Path, *, ax: Axes | None = None, show: bool | None = None, save: str | Path | None = None
) -> Axes | list[Axes]:
    """Draw the curves of a pretraining run: losses, accuracies, learning rate, speed.

    Parameters
    ----------
    run
        The run folder, or its ``log.jsonl``.
    ax
        Draw only the total loss, on these axes.
    show, save
        As in the whole module.

    Returns
    -------
    Axes or list of Axes
        ``ax`` where it was given, else one for every quantity in the log.

    Raises
    ------
    InputError
        As :func:`cell_lm.report.read_history`.
    """
    history = read_history(Path(run))
    there = ["total"] if ax else [name for name in CURVES if log.last(history, name) is not None]
    rows = -(-len(there) // 3)
    with panels(ax, 10.5, 2.5 * rows, number=len(there), across=3, show=show, save=save) as drawn:
        for axes, name in zip(drawn, there, strict=True):
            title, percent = CURVES[name]
            figures.draw_curve(axes, history, name, title=title, percent=percent)
        drawn[0].legend(loc="best")
    return drawn[0] if ax else drawn


def coverage(
    data: AnnData | GeneAudit | AuditSummary,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw how the genes of an input were matched: matched, renamed, merged, ambiguous, non-coding, unknown.

    Parameters
    ----------
    data
        A gene audit; or an AnnData, whose ``var_names`` are matched.
    ax, show, save
        As in the whole module.

    Raises
    ------
    GeneError
        The names in the AnnData are not human genes.
    """
    audit = _audit(data)
    with panel(ax, 6.4, 1.9, show=show, save=save) as axes:
        figures.draw_gene_audit(axes, {f"{audit.coverage:.1%} of the vocabulary": audit.counts})
    return axes


def _audit(data: AnnData | GeneAudit | AuditSummary) -> AuditSummary:
    if isinstance(data, AuditSummary):
        return data
    if isinstance(data, GeneAudit):
        return data.shorten()
    from cell_lm.genes import resolve_genes

    return resolve_genes(list(data.var_names), where="adata.var_names", var=data.var).shorten()
