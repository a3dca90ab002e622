"""Tasks: what a pretrained model is used for."""

from cell_lm.evaluation.linear_head import LinearHead, fit_head
from cell_lm.tasks.annotation import CellTypeClassifier, CoverageWarning
from cell_lm.tasks.annotator import Annotator, Coverage, Reference
from cell_lm.tasks.baselines import LogisticBaseline, MajorityBaseline

__all__ = [
    "Annotator",
    "CellTypeClassifier",
    "Coverage",
    "CoverageWarning",
    "LinearHead",
    "LogisticBaseline",
    "MajorityBaseline",
    "Reference",
    "fit_head",
]
