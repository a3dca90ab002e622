"""The report of a run: one HTML page, self-contained, and what it is made from."""

from cell_lm.report.content import (
    Annotation,
    Baseline,
    Dataset,
    Embedding,
    Panel,
    ReportData,
    Reproduction,
    Training,
)
from cell_lm.report.environment import environment
from cell_lm.report.history import read_history
from cell_lm.report.page import write_report
from cell_lm.report.projection import umap_coordinates

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
    "read_history",
    "umap_coordinates",
    "write_report",
]
