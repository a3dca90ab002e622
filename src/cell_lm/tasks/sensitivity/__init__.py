"""Drug sensitivity of single cells: from few labels, many labels, or the response of bulk cell lines."""

from cell_lm.tasks.sensitivity.classifier import DrugSensitivityClassifier, SeparationWarning
from cell_lm.tasks.sensitivity.summaries import summarise
from cell_lm.tasks.sensitivity.transfer import BulkSignature, Transferred, bulk_signature
from cell_lm.tasks.sensitivity.trust import TransferWarning, Trust

__all__ = [
    "BulkSignature",
    "DrugSensitivityClassifier",
    "SeparationWarning",
    "TransferWarning",
    "Transferred",
    "Trust",
    "bulk_signature",
    "summarise",
]
