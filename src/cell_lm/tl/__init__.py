"""Tools in the manner of scanpy: they take an AnnData and write their results into it; X is never changed.

Everything is computed before anything is written: an error leaves the AnnData unchanged.
"""

from cell_lm.tasks.features import weights_hash
from cell_lm.tl.adaptation import adapt
from cell_lm.tl.annotation import annotate, embed
from cell_lm.tl.attribution import deletion_curve, gene_attribution
from cell_lm.tl.malignancy import malignancy
from cell_lm.tl.neighbours import nearest_cells
from cell_lm.tl.sensitivity import sensitivity, sensitivity_summary, sensitivity_transfer
from cell_lm.tl.voting import majority_vote

__all__ = [
    "adapt",
    "annotate",
    "deletion_curve",
    "embed",
    "gene_attribution",
    "majority_vote",
    "malignancy",
    "nearest_cells",
    "sensitivity",
    "sensitivity_summary",
    "sensitivity_transfer",
    "weights_hash",
]
