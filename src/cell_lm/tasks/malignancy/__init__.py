"""Tumour or normal cell, from the user's labels or by the discrimination head of a pretrained model."""

from cell_lm.tasks.malignancy.classifier import MalignancyClassifier
from cell_lm.tasks.malignancy.likeness import DissimilarCellsWarning
from cell_lm.tasks.malignancy.pretrained import pretrained_table

__all__ = ["DissimilarCellsWarning", "MalignancyClassifier", "pretrained_table"]
