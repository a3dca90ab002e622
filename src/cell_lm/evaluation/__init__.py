"""Evaluation, shared by all tasks, reports and benchmarks.

:mod:`~cell_lm.evaluation.splits` defines the test cells, and :mod:`~cell_lm.evaluation.saved_splits` stores them. The
metrics are :mod:`~cell_lm.evaluation.annotation_metrics`, :mod:`~cell_lm.evaluation.calibration`,
:mod:`~cell_lm.evaluation.novelty`, :mod:`~cell_lm.evaluation.regression` and :mod:`~cell_lm.evaluation.geometry`.
:mod:`~cell_lm.evaluation.intervals` computes confidence intervals, :mod:`~cell_lm.evaluation.baselines` holds the
baselines, and :mod:`~cell_lm.evaluation.comparison` compares methods. :mod:`~cell_lm.evaluation.linear_head` is the
classification head for embeddings and for the features of the baselines, and
:mod:`~cell_lm.evaluation.linear_classifier` is the same as an estimator of scikit-learn.

The function :func:`cell_lm.evaluation.geometry.geometry` is imported from its module, which has the same name.
"""

from cell_lm.evaluation.annotation_metrics import AnnotationScores, annotation_scores, macro_f1
from cell_lm.evaluation.baselines import (
    BASELINES,
    BaselineClassifier,
    GeneLogisticRegression,
    MajorityClass,
    NearestCentroid,
    NearestNeighbours,
    PCALogisticRegression,
)
from cell_lm.evaluation.calibration import calibration_error
from cell_lm.evaluation.comparison import Comparison, compare
from cell_lm.evaluation.geometry import (
    Geometry,
    alignment,
    effective_rank,
    label_alignment,
    mean_cosine,
    uniformity,
)
from cell_lm.evaluation.intervals import (
    Interval,
    mean_interval,
    paired_bootstrap,
    paired_bootstrap_over,
    score_interval,
)
from cell_lm.evaluation.learning_curve import FewShotCurve, few_shot_curve
from cell_lm.evaluation.linear_classifier import LinearHeadClassifier
from cell_lm.evaluation.linear_head import LinearHead, Selection, fit_head
from cell_lm.evaluation.novelty import novelty_auroc
from cell_lm.evaluation.regression import ResponseScores, predict_mean_effects, response_scores
from cell_lm.evaluation.saved_splits import Splits, cells_hash
from cell_lm.evaluation.selective import RiskCoverage, label_reliability, risk_coverage
from cell_lm.evaluation.splits import Split, few_shot, leave_one_group_out, pairs, refuse_leakage, stratified

__all__ = [
    "BASELINES",
    "AnnotationScores",
    "BaselineClassifier",
    "Comparison",
    "FewShotCurve",
    "GeneLogisticRegression",
    "Geometry",
    "Interval",
    "LinearHead",
    "LinearHeadClassifier",
    "MajorityClass",
    "NearestCentroid",
    "NearestNeighbours",
    "PCALogisticRegression",
    "ResponseScores",
    "RiskCoverage",
    "Selection",
    "Split",
    "Splits",
    "alignment",
    "annotation_scores",
    "calibration_error",
    "cells_hash",
    "compare",
    "effective_rank",
    "few_shot",
    "few_shot_curve",
    "fit_head",
    "label_alignment",
    "label_reliability",
    "leave_one_group_out",
    "macro_f1",
    "mean_cosine",
    "mean_interval",
    "novelty_auroc",
    "paired_bootstrap",
    "paired_bootstrap_over",
    "pairs",
    "predict_mean_effects",
    "refuse_leakage",
    "response_scores",
    "risk_coverage",
    "score_interval",
    "stratified",
    "uniformity",
]
