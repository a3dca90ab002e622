"""The numbers at the head of a report, each with its reference value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cell_lm.evaluation.intervals import Interval
from cell_lm.plots import history as log
from cell_lm.report.annotation import Annotation
from cell_lm.report.content import Dataset, ReportData, Training
from cell_lm.report.numbers import amount, count, duration, percent, score
from cell_lm.report.wording import comparison

Verdict = Literal["", "above baseline", "level with baseline", "below baseline"]
LEVEL = 0.005
"""Differences up to this are called level: a single run cannot distinguish them from chance."""


@dataclass(frozen=True)
class Card:
    """One number at the head of the page."""

    value: str
    label: str
    note: str = ""
    verdict: Verdict = ""


@dataclass(frozen=True)
class Cards:
    """All cards: results and costs."""

    results: tuple[Card, ...]
    facts: tuple[Card, ...]


def compare(value: float, baseline: float) -> Verdict:
    """Return whether a score is above or below a baseline; higher is better."""
    if abs(value - baseline) <= LEVEL:
        return "level with baseline"
    return "above baseline" if value > baseline else "below baseline"


def verdict_of(difference: Interval) -> Verdict:
    """Return whether the model is above or below a baseline; level if the interval of the difference includes 0."""
    if difference.low <= 0 <= difference.high:
        return "level with baseline"
    return "above baseline" if difference.low > 0 else "below baseline"


def cards(data: ReportData) -> Cards:
    """Return the cards that the data has numbers for."""
    results = [_annotation(data.annotation)] if data.annotation else []
    if data.training is not None:
        results += _accuracy(data.training, "masked_accuracy", "of hidden expression bins predicted correctly")
        results += _accuracy(
            data.training, "discrimination_accuracy", "of cells classified correctly as tumour or normal"
        )
    return Cards(tuple(results), tuple(_facts(data)))


def _annotation(annotation: Annotation) -> Card:
    scores, note = annotation.scores, ""
    verdict: Verdict = ""
    best, own = annotation.strongest, annotation.methods[0].macro_f1
    if best is not None and best.difference is not None:
        note, verdict = f"{best.name}: {score(best.macro_f1.mean)}", verdict_of(best.difference)
    where = annotation.tested_on or f"{count(scores.cells)} cells"
    interval = f"95 % interval {score(own.low)} to {score(own.high)}"
    return Card(score(own.mean), f"macro-F1 of cell types ({interval}) on {where}", note, verdict)


def _accuracy(training: Training, name: str, label: str) -> list[Card]:
    last = log.last(training.history, name)
    if last is None:
        return []
    value, kind = last
    held_out = "in validation cells" if kind == "valid" else "in training cells"
    baseline = training.baselines.get(name)
    if baseline is None:
        return [Card(percent(value), f"{label}, {held_out}")]
    note = f"{baseline.label}: {percent(baseline.value)}"
    return [Card(percent(value), f"{label}, {held_out}", note, compare(value, baseline.value))]


def _facts(data: ReportData) -> list[Card]:
    made: list[Card] = []
    if data.datasets:
        made.append(Card(count(sum(one.cells for one in data.datasets)), "cells", _datasets(data.datasets)))
    if data.vocabulary:
        made.append(Card(count(data.vocabulary), "genes in the vocabulary", _coverage(data.datasets)))
    if data.parameters:
        made.append(Card(amount(data.parameters), "parameters", data.model))
    seconds = run_seconds(data)
    if seconds:
        made.append(Card(duration(seconds), "from start to end" if data.seconds else "of training", _pace(data)))
    return made


def _pace(data: ReportData) -> str:
    if data.training is None:
        return ""
    parts = [f"{count(int(data.training.history['step'].max()))} steps"]
    speed = log.column(data.training.history, "train", "cells_per_second")["value"]
    if len(speed):
        parts.append(f"{count(float(speed.median()))} cells/s in training")
    return ", ".join(parts)


def run_seconds(data: ReportData) -> float | None:
    """Return the time of the run or, where unknown, of its training."""
    if data.seconds is not None or data.training is None:
        return data.seconds
    if data.training.seconds is not None or "seconds" not in data.training.history:
        return data.training.seconds
    return float(data.training.history["seconds"].max())


def _datasets(datasets: tuple[Dataset, ...]) -> str:
    donors = [one.donors for one in datasets]
    files = f"{len(datasets)} data set{'s' if len(datasets) > 1 else ''}"
    known = [number for number in donors if number is not None]
    return f"{files}, {sum(known)} donors" if known and len(known) == len(donors) else files


def _coverage(datasets: tuple[Dataset, ...]) -> str:
    fractions = sorted(one.audit.coverage for one in datasets)
    if not fractions:
        return ""
    span = (
        percent(fractions[0], 0)
        if len(fractions) == 1
        else f"{percent(fractions[0], 0)} to {percent(fractions[-1], 0)}"
    )
    return f"human protein-coding; the data sets cover {span}"


def findings(data: ReportData) -> list[str]:
    """Return the results of the run in sentences, each with its comparison."""
    annotation = data.annotation
    if annotation is None:
        return []
    scores = annotation.scores
    where = annotation.tested_on or f"{count(scores.cells)} cells"
    own = annotation.methods[0].macro_f1
    interval = f"{score(own.mean)} (95 % interval {score(own.low)} to {score(own.high)})"
    accuracy = f"{percent(scores.accuracy)} of the cells are labelled correctly; macro-F1 is {interval}"
    against = comparison(annotation)
    return [f"On {where}, {accuracy}.", *([against] if against else []), *_confident(annotation)]


def _confident(annotation: Annotation) -> list[str]:
    confident = annotation.at_confidence(0.9)
    if confident is None:
        return []
    fraction, accuracy = confident
    cells = f"Of the {percent(fraction, 0)} of the cells with a confidence of at least {percent(0.9, 0)}"
    return [f"{cells}, {percent(accuracy)} are labelled correctly."]
