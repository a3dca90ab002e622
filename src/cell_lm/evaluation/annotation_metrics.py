"""Agreement of predicted with true labels: accuracy, and F1 of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score, precision_recall_fscore_support

from cell_lm.errors import InputError
from cell_lm.evaluation.labels import Labels, as_labels


@dataclass(frozen=True)
class AnnotationScores:
    """Agreement of predicted with true labels."""

    accuracy: float
    """Fraction of the cells that are labelled correctly."""
    macro_f1: float
    """Mean F1 over the classes *present in the truth*, with equal weights."""
    classes: tuple[str, ...]
    """All classes of the truth or the predictions, sorted."""
    confusion: NDArray[np.int64]
    """Cells [classes, classes]: rows are the truth, columns the prediction."""
    per_class: pd.DataFrame
    """Indexed by class: precision, recall, f1, support. If support is 0, recall and f1 are undefined: NaN."""

    @property
    def cells(self) -> int:
        """Number of cells that were scored."""
        return int(self.confusion.sum())


def annotation_scores(truth: Labels, predicted: Labels) -> AnnotationScores:
    """Compare predicted with true labels.

    A class of the truth that is never predicted has precision 0 and F1 0, and is included. A class that is predicted
    but absent from the truth has no recall and no F1 (NaN) and is not part of the macro-F1; cells wrongly assigned to
    it lower the recall of their true classes.

    Parameters
    ----------
    truth, predicted
        One label per cell each, in the same order, none missing; compared as strings.

    Raises
    ------
    InputError
        Labels are missing, there are no cells, or the numbers of cells differ.
    """
    true, guess = _as_pair(truth, predicted)
    classes, codes = np.unique(np.concatenate([true, guess]), return_inverse=True)
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (codes[: len(true)], codes[len(true) :]), 1)
    precision, recall, f1, support = precision_recall_fscore_support(true, guess, labels=classes, zero_division=0.0)
    per_class = pd.DataFrame(
        {"precision": precision, "recall": recall, "f1": f1, "support": support.astype(np.int64)},
        index=pd.Index(classes.astype(object), name="class"),
    )
    per_class.loc[per_class["support"] == 0, ["recall", "f1"]] = np.nan
    return AnnotationScores(
        accuracy=float(np.mean(true == guess)),
        macro_f1=float(per_class["f1"].mean()),
        classes=tuple(str(name) for name in classes),
        confusion=confusion,
        per_class=per_class,
    )


def macro_f1(truth: Labels, predicted: Labels) -> float:
    """Return the mean F1 of the classes that are present in the truth; see :class:`AnnotationScores`.

    Raises
    ------
    InputError
        As :func:`annotation_scores`.
    """
    true, guess = _as_pair(truth, predicted)
    return float(f1_score(true, guess, labels=np.unique(true), average="macro", zero_division=0.0))


def _as_pair(truth: Labels, predicted: Labels) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    true, guess = as_labels(truth, where="true labels"), as_labels(predicted, where="predicted labels")
    if len(true) != len(guess):
        found = f"{len(true)} true labels but {len(guess)} predicted ones"
        raise InputError(found, where="annotation scores", fix="Pass the same cells in the same order")
    return true, guess
