"""Gene attributions for the predictions of the cell type classifier, and tests of their reliability.

A gene is removed as a token, not from the counts: the expression of the other genes, scaled to the total of the cell,
does not change. Every function takes a fitted :class:`~cell_lm.tasks.annotation.CellTypeClassifier` and aligned cells,
and changes neither. The result of a cell does not depend on the other cells.
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
