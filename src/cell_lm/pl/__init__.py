"""Plots in the manner of scanpy: ``cell_lm.pl.embedding(adata, color="cell_type")``.

Every function draws on ``ax`` if it is given, saves the figure to the file ``save``, shows it unless ``show`` is False,
and returns the axes. ``show=None`` follows scanpy's setting, and shows nothing where matplotlib has no screen or ``ax``
is given. Figures that are not shown are not registered with pyplot, so nothing has to be closed.
"""

from __future__ import annotations

from cell_lm.pl.annotation import annotation_reliability, few_shot_curve, risk_coverage
from cell_lm.pl.attribution import deletion_curve, gene_attribution
from cell_lm.pl.cells import embedding
from cell_lm.pl.genes import gene_map, gene_neighbours
from cell_lm.pl.interactive import explorer
from cell_lm.pl.response import (
    drug_map,
    response_agreement,
    response_learning_curve,
    response_per_drug,
    response_ranking,
)
from cell_lm.pl.results import confusion, coverage, training
from cell_lm.pl.sensitivity import sensitivity, sensitivity_reliability, sensitivity_scores, sensitivity_signature

__all__ = [
    "annotation_reliability",
    "confusion",
    "coverage",
    "deletion_curve",
    "drug_map",
    "embedding",
    "explorer",
    "few_shot_curve",
    "gene_attribution",
    "gene_map",
    "gene_neighbours",
    "response_agreement",
    "response_learning_curve",
    "response_per_drug",
    "response_ranking",
    "risk_coverage",
    "sensitivity",
    "sensitivity_reliability",
    "sensitivity_scores",
    "sensitivity_signature",
    "training",
]
