"""Which genes made a call of the cell type classifier, and how far such an answer can be believed.

A gene is taken away as a token, not from the counts: the expression of the other genes, scaled to the total of the
cell, stays as it was. Every function takes a fitted :class:`~cell_lm.tasks.annotation.CellTypeClassifier` and aligned
cells, changes neither, and gives a cell the same whatever stands beside it.
"""

from cell_lm.tasks.attribution.curves import DeletionCurves, deletion_curves
from cell_lm.tasks.attribution.methods import METHODS, Attributions, Method, attribute, check_method
from cell_lm.tasks.attribution.tables import choose_cells, gene_table

__all__ = [
    "METHODS",
    "Attributions",
    "DeletionCurves",
    "Method",
    "attribute",
    "check_method",
    "choose_cells",
    "deletion_curves",
    "gene_table",
]
