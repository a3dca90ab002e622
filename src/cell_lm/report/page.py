"""The report as one self-contained HTML page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment
from markupsafe import Markup, escape
from numpy.typing import NDArray

from cell_lm.evaluation.annotation_metrics import annotation_scores
from cell_lm.files import JSON, atomic_file
from cell_lm.plots.style import natural_order, page_templates, page_theme
from cell_lm.report import illustrations, numbers
from cell_lm.report.annotation import Annotation
from cell_lm.report.content import ReportData
from cell_lm.report.highlights import cards, findings
from cell_lm.report.wording import geometry_rows, limits

CONFIDENCES = (0.5, 0.7, 0.9, 0.95)


@dataclass(frozen=True)
class ClassRow:
    """Scores of one cell type."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    rival: float
    """F1 of the strongest baseline."""
    note: str


def write_report(data: ReportData, path: Path, *, replace: bool = True) -> None:
    """Write the report of a run: one HTML file, whole or not at all.

    The page loads no other file: style and figures are embedded. Sections without data are left out.

    Parameters
    ----------
    data
        Content of the report.
    path
        Where.
    replace
        Whether to replace an existing file.
    """
    page = render(data)
    with atomic_file(path, replace=replace) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(data: ReportData) -> str:
    """Return the page as text. Every name that comes from data is escaped."""
    templates = _templates()
    source, _, _ = templates.loader.get_source(templates, "style.css") if templates.loader else ("", None, None)
    spreads, keys = illustrations.distributions(data.datasets)
    geometry = geometry_rows(data.embedding.geometry) if data.embedding else []
    maps = illustrations.maps(data.embedding) if data.embedding else []
    curves = illustrations.curves(data.training) if data.training else []
    return templates.get_template("page.html").render(
        data=data,
        css=Markup(page_theme() + source),
        cards=cards(data),
        findings=findings(data),
        links=_links(data, curves=bool(curves), maps=bool(maps), geometry=bool(geometry)),
        spreads=spreads,
        spread_keys=keys,
        curves=curves,
        validated=data.training is not None and bool((data.training.history["kind"] == "valid").any()),
        maps=maps,
        heat=illustrations.heat_map(data.annotation) if data.annotation else "",
        classes=_classes(data.annotation) if data.annotation else [],
        rival=_baseline(data.annotation) if data.annotation else "",
        intervals=illustrations.intervals(data.annotation) if data.annotation else "",
        trust=illustrations.trust(data.annotation) if data.annotation else "",
        sure=_sure(data.annotation) if data.annotation else [],
        geometry=geometry,
        limits=limits(data),
        none_mark=numbers.NONE,
    )


def _templates() -> Environment:
    templates = page_templates("cell_lm.report")
    templates.filters |= {
        "count": numbers.count,
        "percent": numbers.percent,
        "score": numbers.score,
        "interval": numbers.interval,
        "width": _width,
        "median": _median,
        "json": _json,
        "breakable": _breakable,
        "link": lambda path: quote(str(path)),
    }
    return templates


def _width(fraction: float) -> str:
    return f"{100 * min(max(fraction, 0.0), 1.0):.1f}%" if np.isfinite(fraction) else "0%"


def _breakable(name: object) -> Markup:
    """Let a long name break after the marks that join its parts."""
    return Markup(re.sub(r"([_./-])", r"\1<wbr>", str(escape(name))))


def _median(values: NDArray[np.floating] | None) -> str:
    return numbers.count(float(np.median(values)) if values is not None and len(values) else None)


def _json(values: Mapping[str, JSON]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)


def _links(data: ReportData, *, curves: bool, maps: bool, geometry: bool) -> list[tuple[str, str]]:
    sections = [
        ("data", "Cells and genes", bool(data.datasets)),
        ("training", "Training", curves),
        ("map", "Map", maps),
        ("annotation", "Annotation", data.annotation is not None),
        ("geometry", "Geometry", geometry),
        ("reproduce", "Make it again", data.reproduction is not None),
        ("limits", "What not to conclude", True),
    ]
    return [(anchor, name) for anchor, name, there in sections if there]


def _classes(annotation: Annotation) -> list[ClassRow]:
    """Return the scores by class: those of the truth first, the most frequent first."""
    rows, rival = [], _baseline(annotation)
    others = annotation_scores(annotation.truth, annotation.baselines[rival]).per_class["f1"] if rival else None
    for name, row in annotation.scores.per_class.iterrows():
        support = int(row["support"])
        note = annotation.type_notes.get(str(name), "") if support else "never true here, only predicted"
        if annotation.known is not None and str(name) not in annotation.known:
            note = "not among the types it was fitted on"
        other = float(others.get(str(name), np.nan)) if others is not None else np.nan
        precision, recall, f1 = (float(row[key]) for key in ("precision", "recall", "f1"))
        rows.append(ClassRow(str(name), support, precision, recall, f1, other, note))
    return sorted(rows, key=lambda row: (-row.support, natural_order(row.name)))


def _baseline(annotation: Annotation) -> str:
    return annotation.strongest.name if annotation.strongest else ""


def _sure(annotation: Annotation) -> list[tuple[float, float, float]]:
    found = [(least, annotation.at_confidence(least)) for least in CONFIDENCES]
    return [(least, *pair) for least, pair in found if pair is not None]
