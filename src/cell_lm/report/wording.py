"""Explanations of the numbers, and their limitations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cell_lm.evaluation.geometry import Geometry
from cell_lm.report.annotation import Annotation
from cell_lm.report.content import ReportData
from cell_lm.report.numbers import NONE, count, score


@dataclass(frozen=True)
class GeometryRow:
    """One measure of every compared embedding."""

    name: str
    values: tuple[str, ...]
    meaning: str


def geometry_rows(measured: Mapping[str, Geometry]) -> list[GeometryRow]:
    """Explain every measure and how to interpret it."""
    every = list(measured.values())
    widths = " and ".join(dict.fromkeys(count(one.width) for one in every))
    rows = [
        GeometryRow(
            "Mean cosine",
            tuple(score(one.mean_cosine) for one in every),
            "How alike any two cells look. Near 1, all cells point the same way and similarities say little; near 0, "
            "unrelated cells look unrelated.",
        ),
        GeometryRow(
            "Uniformity",
            tuple(score(one.uniformity, 2) for one in every),
            "How evenly the cells fill the space. 0: all in one spot; about −4: spread over all directions. Clear cell "
            "types lie between.",
        ),
        GeometryRow("Alignment", tuple(score(one.alignment) for one in every), _alignment(every)),
        GeometryRow(
            "Effective rank",
            tuple(score(one.effective_rank, 1) for one in every),
            f"How many independent directions the cells use, of {widths}. Only a few: the model separates cells by "
            "little. Nearly all: much of it is noise.",
        ),
    ]
    return [row for row in rows if set(row.values) - {NONE}]


def _alignment(measured: list[Geometry]) -> str:
    scale = "0: on top of each other; 2: no more alike than unrelated directions."
    if any(one.positives == "views" for one in measured):
        return f"How far the same cell moves when parts of the network are silenced at random. {scale}"
    return f"How far apart two cells of the same label lie. {scale}"


def comparison(annotation: Annotation) -> str:
    """Compare the model with its strongest baseline in one sentence; empty if there is no baseline."""
    rival = annotation.strongest
    if rival is None or rival.difference is None:
        return ""
    by = rival.difference
    name, size = f"{rival.name[:1].upper()}{rival.name[1:]}", score(abs(by.mean))
    against = f"{name}, the strongest baseline, reaches macro-F1 {score(rival.macro_f1.mean)} on the same cells"
    low, high = score(by.low), score(by.high)
    interval = f"the 95 % interval of the difference (model less baseline), {low} to {high}"
    if by.low > 0:
        return f"{against}: the model is ahead by {size}; {interval}, excludes 0."
    if by.high < 0:
        simpler = "the simpler method is the better choice here"
        return f"{against}: the baseline is ahead by {size}, and {simpler}; {interval}, excludes 0."
    ahead = "they are level" if not float(size) else f"the {'model' if by.mean > 0 else 'baseline'} is ahead by {size}"
    return f"{against}: {ahead}, which may be chance; {interval}, includes 0."


def limits(data: ReportData) -> list[str]:
    """Return the limitations: those given in the data, then those that follow from its sections."""
    limits = [
        *data.limits,
        "This is one run with one seed. Another seed gives other figures, by a hundredth or so: repeat before you rely "
        "on a small difference.",
    ]
    if data.annotation is not None:
        if annotation_donors := {one.name for one in data.annotation.by_donor}:
            limits.append(
                f"The intervals are for further cells of these {len(annotation_donors)} donors. Other donors differ "
                "more: compare the rows of the table by donor."
            )
        else:
            limits.append("The intervals are for further cells of the same donors. Other donors differ more.")
        limits.append(
            "Cells of other donors of the same study are the easy case. Another laboratory, protocol or tissue is "
            "harder."
        )
    if any(one.tumour for one in data.datasets):
        limits.append(
            "Tumour and normal are what the data state. That may be inferred (epithelial cells of a tumour sample) "
            "rather than proven, and where tumour and normal come from different studies, telling them apart can be "
            "telling the studies apart."
        )
    if data.embedding is not None and data.embedding.coordinates is not None:
        limits.append("The map is for looking. Claims need the embedding itself, or marker genes.")
    return [*limits, "Nothing here is fit for a decision about a patient."]
