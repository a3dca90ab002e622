"""Plots in the manner of scanpy: ``cell_lm.pl.embedding(adata, color="cell_type")``.

Every function draws on ``ax`` where one is given, saves where ``save`` names a file, shows the figure unless ``show``
is False, and returns what it drew on. ``show=None`` follows scanpy's setting, and shows nothing where matplotlib has no
screen or the axes are the caller's. Figures that are not shown are never known to pyplot, so they leave nothing behind.
"""

from __future__ import annotations

from cell_lm.pl.attribution import deletion_curve, gene_attribution
from cell_lm.pl.cells import embedding
from cell_lm.pl.genes import gene_map, gene_neighbours
from cell_lm.pl.results import confusion, coverage, training

__all__ = [
    "confusion",
    "coverage",
    "deletion_curve",
    "embedding",
    "gene_attribution",
    "gene_map",
    "gene_neighbours",
    "training",
]
