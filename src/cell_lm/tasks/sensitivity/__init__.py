"""Drug sensitivity of single cells: from few labels, many labels, or the response of bulk cell lines."""

from cell_lm.tasks.sensitivity.classifier import DrugSensitivityClassifier, SeparationWarning

__all__ = ["DrugSensitivityClassifier", "SeparationWarning"]
