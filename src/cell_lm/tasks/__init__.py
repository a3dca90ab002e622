"""Tasks: uses of a pretrained model. Every task is an estimator that follows the conventions of scikit-learn."""

from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.baselines import (
    CentroidBaseline,
    GeneLogisticBaseline,
    MajorityBaseline,
    NeighboursBaseline,
    PCALogisticBaseline,
)
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.column_estimator import ColumnEstimator
from cell_lm.tasks.estimator import CoverageWarning, Estimator, NotFittedError
from cell_lm.tasks.features import CACHE, EmbeddingCache, embed_cells
from cell_lm.tasks.malignancy import DissimilarCellsWarning, MalignancyClassifier
from cell_lm.tasks.reference import Coverage, Reference
from cell_lm.tasks.response.regressor import DrugResponseRegressor
from cell_lm.tasks.sensitivity import DrugSensitivityClassifier, SeparationWarning

__all__ = [
    "CACHE",
    "CellTypeClassifier",
    "CentroidBaseline",
    "Classifier",
    "ColumnEstimator",
    "Coverage",
    "CoverageWarning",
    "DissimilarCellsWarning",
    "DrugResponseRegressor",
    "DrugSensitivityClassifier",
    "EmbeddingCache",
    "Estimator",
    "GeneLogisticBaseline",
    "MajorityBaseline",
    "MalignancyClassifier",
    "NeighboursBaseline",
    "NotFittedError",
    "PCALogisticBaseline",
    "Reference",
    "SeparationWarning",
    "embed_cells",
]
