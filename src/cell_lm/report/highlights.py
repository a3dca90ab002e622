"""The numbers at the head of a report, each beside what it has to be read against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cell_lm.plots import history as log
from cell_lm.report.content import Annotation, Dataset, ReportData, Training
from cell_lm.report.numbers import amount, count, duration, percent, score

Verdict = Literal["", "above baseline", "level with baseline", "below baseline"]
LEVEL = 0.005
"""Differences up to this are called level: no single run could tell them from chance."""


@dataclass(frozen=True)
class Card:
    """One number at the head of the page."""

    value: str
    label: str
    note: str = ""
    verdict: Verdict = ""


@dataclass(frozen=True)
class Cards:
    """All of them: what came out, and what it took."""

    results: tuple[Card, ...]
    facts: tuple[Card, ...]


def compare(value: float, baseline: float) -> Verdict:
    """Say on which side of a baseline a score lies, higher being better."""
    if abs(value - baseline) <= LEVEL:
        return "level with baseline"
    return "above baseline" if value > baseline else "below baseline"


def cards(data: ReportData) -> Cards:
    """Return the cards that the data has numbers for."""
    results = [_annotation(data.annotation)] if data.annotation else []
    if data.training is not None:
        results += _accuracy(data.training, "masked_accuracy", "of hidden expression bins guessed right")
        results += _accuracy(data.training, "discrimination_accuracy", "of cells told tumour or normal rightly")
    return Cards(tuple(results), tuple(_facts(data)))


def _annotation(annotation: Annotation) -> Card:
    scores, note = annotation.scores, ""
    verdict: Verdict = ""
    for name, baseline in list(annotation.baselines.items())[:1]:
        note, verdict = f"{name}: {score(baseline.macro_f1)}", compare(scores.macro_f1, baseline.macro_f1)
    where = annotation.tested_on or f"{count(scores.cells)} cells"
    return Card(score(scores.macro_f1), f"macro-F1 of cell types on {where}", note, verdict)


def _accuracy(training: Training, name: str, label: str) -> list[Card]:
    found = log.last(training.history, name)
    if found is None:
        return []
    value, kind = found
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
    said = [f"{count(int(data.training.history['step'].max()))} steps"]
    speed = log.column(data.training.history, "train", "cells_per_second")["value"]
    if len(speed):
        said.append(f"{count(float(speed.median()))} cells/s in training")
    return ", ".join(said)


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
    shares = sorted(one.audit.coverage for one in datasets)
    if not shares:
        return ""
    span = percent(shares[0], 0) if len(shares) == 1 else f"{percent(shares[0], 0)} to {percent(shares[-1], 0)}"
    return f"human protein-coding; the data sets cover {span}"


def findings(data: ReportData) -> list[str]:
    """Return what the run showed, in sentences with the comparison that makes them honest."""
    annotation = data.annotation
    if annotation is None:
        return []
    scores = annotation.scores
    where = annotation.tested_on or f"{count(scores.cells)} cells"
    right = f"{percent(scores.accuracy)} of the cells get their right type; macro-F1 is {score(scores.macro_f1)}"
    return [f"On {where}, {right}.", *_against(annotation), *_sure(annotation)]


def _against(annotation: Annotation) -> list[str]:
    for name, baseline in annotation.baselines.items():
        verdict = compare(annotation.scores.macro_f1, baseline.macro_f1)
        says = {
            "above baseline": "the model is ahead",
            "below baseline": "the baseline is ahead, and the simpler method is the better choice here",
            "level with baseline": "no difference that one run could prove",
        }
        said = f"{name[:1].upper()}{name[1:]} reaches {score(baseline.macro_f1)} on the same cells"
        return [f"{said}: {says[verdict]}."] if verdict else []
    return []


def _sure(annotation: Annotation) -> list[str]:
    found = annotation.at_confidence(0.9)
    if found is None:
        return []
    share, accuracy = found
    sure = f"Where it is at least {percent(0.9, 0)} sure ({percent(share, 0)} of the cells)"
    return [f"{sure}, {percent(accuracy)} are right."]
