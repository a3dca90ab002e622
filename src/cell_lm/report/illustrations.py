"""The figures of a report, each with its description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cell_lm.evaluation.annotation_evaluation import BINS
from cell_lm.evaluation.intervals import Interval
from cell_lm.evaluation.selective import label_reliability, risk_coverage
from cell_lm.plots import figures
from cell_lm.plots import history as log
from cell_lm.plots.annotation_figures import draw_label_reliability, draw_risk_coverage
from cell_lm.plots.interval_figures import draw_intervals
from cell_lm.plots.style import CATEGORIES, Key, by_size, category_colours, drawing, legend
from cell_lm.report.annotation import Annotation
from cell_lm.report.content import Dataset, Embedding, Training
from cell_lm.report.numbers import count, interval, percent, score
from cell_lm.report.svg import to_svg


@dataclass(frozen=True)
class Map:
    """One colouring of the map with its legend."""

    title: str
    caption: str
    svg: Markup
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Curve:
    """One quantity over the steps, and the meaning of its dashed line."""

    svg: Markup
    baseline: str


def curves(training: Training) -> list[Curve]:
    """Draw every quantity that the log has values for."""
    drawn = []
    for name, (title, percent_axis) in log.CURVES.items():
        found = log.last(training.history, name)
        if found is None:
            continue
        baseline = training.baselines.get(name)
        dashed = (baseline.value, baseline.label) if baseline else None
        with drawing():
            figure = Figure(figsize=(3.7, 2.3))
            # The same margins for all, so that the axes of one row and column are in line.
            axes = figure.add_axes((0.135, 0.115, 0.855, 0.755))
            figures.draw_curve(axes, training.history, name, title=title, percent=percent_axis, baseline=dashed)
        write = percent if percent_axis else score
        naive = f"{baseline.label}: {write(baseline.value)}" if baseline else ""
        alt = f"{title} over the training steps; at the end {write(found[0])}. {naive}"
        drawn.append(Curve(to_svg(figure, f"curve-{name}", alt), naive))
    return drawn


def maps(embedding: Embedding) -> list[Map]:
    """Draw the map once for every colouring; the same category has the same colour in all of them."""
    if embedding.coordinates is None:
        return []
    known: dict[str, str] = {}
    drawn = []
    for number, panel in enumerate(embedding.panels):
        colours = category_colours(panel.categories.tolist(), known, skip=2 if number else 0)
        known = {**colours, **known}
        size = figures.map_size(embedding.coordinates, 6.4 if number == 0 else 4.6)
        with drawing():
            figure = Figure(figsize=size, layout="constrained")
            figures.draw_map(
                figure.add_subplot(),
                embedding.coordinates,
                panel.categories,
                colours,
                name=embedding.method,
                on_map=panel.on_map,
                legend=False,
            )
        names = ", ".join(by_size(panel.categories.tolist()))
        alt = f"{embedding.method} of {count(len(panel.categories))} cells coloured by {panel.title.lower()}: {names}"
        keys = legend(panel.categories.tolist(), colours)
        drawn.append(Map(panel.title, panel.caption, to_svg(figure, f"map-{number}", alt), tuple(keys)))
    return drawn


def intervals(annotation: Annotation) -> Markup:
    """Draw the macro-F1 of all methods, and how far the model is ahead of each; those below half of it are left out."""
    own, *others = annotation.methods
    shown = [own, *(one for one in others if one.macro_f1.mean >= own.macro_f1.mean / 2)]
    if len(shown) < 2:
        return Markup("")
    names = [one.name for one in shown]
    with drawing():
        figure = Figure(figsize=(8.4, 0.85 + 0.34 * len(shown)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        draw_intervals(left, names, _bounds([one.macro_f1 for one in shown]), title="Macro-F1")
        draw_intervals(right, names, _bounds([one.difference for one in shown]), title="Model less baseline", zero=True)
    alt = "; ".join(f"{one.name} {interval(one.macro_f1)}" for one in shown)
    return to_svg(figure, "intervals", f"Macro-F1 of each method with its 95 % interval: {alt}")


def _bounds(values: Sequence[Interval | None]) -> NDArray[np.float64]:
    missing = (np.nan, np.nan, np.nan)
    return np.array([missing if one is None else (one.mean, one.low, one.high) for one in values])


def heat_map(annotation: Annotation) -> Markup:
    """Draw the confusion matrix."""
    scores = annotation.scores
    with drawing():
        figure = Figure(figsize=figures.confusion_size(scores), layout="constrained")
        figures.draw_confusion(figure.add_subplot(), scores)
    table = scores.per_class[scores.per_class["support"] > 0]
    recalls = ", ".join(f"{name} {percent(float(recall))}" for name, recall in table["recall"].items())
    return to_svg(figure, "confusion", f"Confusion matrix, true by predicted cell type. Share found of each: {recalls}")


def trust(annotation: Annotation) -> Markup:
    """Draw accuracy by confidence, and the error among the most confident cells; empty without confidence."""
    if annotation.confidence is None or not len(annotation.confidence):
        return Markup("")
    given = annotation.truth, annotation.predicted, annotation.confidence
    bins, risks = label_reliability(*given, BINS), risk_coverage(*given)
    with drawing():
        figure = Figure(figsize=(7.6, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_label_reliability(left, [one for one in bins if one.cells])
        draw_risk_coverage(right, {"": (risks.coverage, risks.risk)})
    told = ", ".join(f"{percent(b.accuracy)} right at {percent(b.confidence)}" for b in bins if b.cells)
    return to_svg(figure, "trust", f"Accuracy by confidence: {told}. Error among the most confident cells beside it.")


def distributions(datasets: tuple[Dataset, ...]) -> tuple[list[Markup], list[Key]]:
    """Draw library sizes and genes per cell of the data sets that have them; and the legend they share."""
    colours = {one.name: CATEGORIES[i % len(CATEGORIES)] for i, one in enumerate(datasets)}
    sizes = {one.name: one.library_size for one in datasets if one.library_size is not None}
    genes = {one.name: one.genes_per_cell for one in datasets if one.genes_per_cell is not None}
    drawn = []
    spread: list[tuple[str, Mapping[str, NDArray[Any]]]] = [
        ("Counts per cell", sizes),
        ("Expressed genes per cell", genes),
    ]
    for number, (title, values) in enumerate(spread):
        if values:
            with drawing():
                figure = Figure(figsize=(5.2, 2.0), layout="constrained")
                figures.draw_distribution(figure.add_subplot(), values, colours, title=title)
            drawn.append(to_svg(figure, f"spread-{number}", f"{title}, one curve for each of {', '.join(values)}"))
    return drawn, [Key(colours[one.name], one.name, one.cells) for one in datasets]
