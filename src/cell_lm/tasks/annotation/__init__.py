"""Cell type annotation."""

from cell_lm.tasks.annotation.classifier import CellTypeClassifier

__all__ = ["CellTypeClassifier"]
