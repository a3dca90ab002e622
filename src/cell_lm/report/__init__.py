"""The report of a run: one self-contained HTML page, and its content as data."""

from cell_lm.plots.history import read_history
from cell_lm.plots.projection import project
from cell_lm.report.annotation import Annotation
from cell_lm.report.content import (
    Baseline,
    Dataset,
    Embedding,
    Panel,
    ReportData,
    Reproduction,
    Training,
)
from cell_lm.report.environment import environment
from cell_lm.report.page import write_report

__all__ = [
    "Annotation",
    "Baseline",
    "Dataset",
    "Embedding",
    "Panel",
    "ReportData",
    "Reproduction",
    "Training",
    "environment",
    "project",
    "read_history",
    "write_report",
]
