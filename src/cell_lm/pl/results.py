"""Plots of a training run, of an annotation, and of how the genes of an input were matched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores
from cell_lm.evaluation.labels import Labels
from cell_lm.genes.audit import AuditSummary, GeneAudit
from cell_lm.pl.canvas import finish, is_shown, new_figure
from cell_lm.plots import figures
from cell_lm.plots import history as log
from cell_lm.plots.history import CURVES, read_history
from cell_lm.plots.style import drawing

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
    shown = is_shown(show, ax)
    with drawing():
        axes = ax or new_figure(*figures.confusion_size(scores), shown).add_subplot()
        figures.draw_confusion(axes, scores)
        axes.set_title(f"macro-F1 {scores.macro_f1:.3f}, accuracy {scores.accuracy:.1%}")
    finish(axes, shown, save)
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
    shown = is_shown(show, ax)
    with drawing():
        rows = -(-len(there) // 3)
        figure = None if ax else new_figure(10.5, 2.5 * rows, shown)
        drawn = [ax] if ax else [figure.add_subplot(rows, 3, i + 1) for i in range(len(there))] if figure else []
        for axes, name in zip(drawn, there, strict=True):
            title, percent = CURVES[name]
            figures.draw_curve(axes, history, name, title=title, percent=percent)
        drawn[0].legend(loc="best")
    finish(drawn[0], shown, save)
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
    shown = is_shown(show, ax)
    with drawing():
        axes = ax or new_figure(6.4, 1.9, shown).add_subplot()
        figures.draw_gene_audit(axes, {f"{audit.coverage:.1%} of the vocabulary": audit.counts})
    finish(axes, shown, save)
    return axes


def _audit(data: AnnData | GeneAudit | AuditSummary) -> AuditSummary:
    if isinstance(data, AuditSummary):
        return data
    if isinstance(data, GeneAudit):
        return data.shorten()
    from cell_lm.genes import resolve_genes

    return resolve_genes(list(data.var_names), where="adata.var_names", var=data.var).shorten()
