"""The rivals that a model has to beat: logistic regression on expression itself, and the most frequent label.

Both fit and predict as :class:`~cell_lm.tasks.annotation.CellTypeClassifier` does, on the same cells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from cell_lm.data.cells import CellData
from cell_lm.data.loading.expression import log_expression
from cell_lm.evaluation.linear_head import LinearHead, fit_head
from cell_lm.tasks.annotator import Annotator, Progress

COMPONENTS = 60


class LogisticBaseline(Annotator):
    """Logistic regression on expression, with all the care that the head of a model gets.

    Features are log1p of counts per 10,000 over all genes of the vocabulary, reduced to their leading components: a
    truncated singular value decomposition of the *training* cells, whose components keep their variance. Components
    rather than genes, as they scored higher on unseen donors at a tenth of the time: a rival is to be strong.

    Parameters
    ----------
    components
        Most components.
    seed
        Of the decomposition and of the folds.
    """

    def __init__(self, *, components: int = COMPONENTS, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.components = components
        self._fitted: tuple[TruncatedSVD, LinearHead] | None = None

    @property
    def head_(self) -> LinearHead:
        """The linear head on the components; :class:`ModelError` before the fit."""
        return self._parts()[1]

    def _learn(
        self, cells: CellData, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        X = log_expression(cells)
        most = max(1, min(self.components, len(cells) - 1, len(cells.vocabulary) - 1))
        components = TruncatedSVD(most, algorithm="arpack", random_state=self.seed)
        features = components.fit_transform(X)
        if progress is not None:
            progress(len(cells))
        self._fitted = components, fit_head(features, labels, groups=groups, whitening=0.0, seed=self.seed)

    def _probabilities(self, cells: CellData, progress: Progress) -> NDArray[np.float64]:
        components, head = self._parts()
        probabilities = head.probabilities(components.transform(log_expression(cells)))
        if progress is not None:
            progress(len(cells))
        return probabilities

    def _parts(self) -> tuple[TruncatedSVD, LinearHead]:
        if self._fitted is None:
            raise self._unfitted()
        return self._fitted


class MajorityBaseline(Annotator):
    """Gives every cell the most frequent label of the reference; probabilities are the shares of the labels."""

    def _learn(
        self, cells: CellData, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        """Learn nothing: the reference has all there is to know."""

    def _probabilities(self, cells: CellData, progress: Progress) -> NDArray[np.float64]:  # noqa: ARG002
        sizes = np.array(list(self.cells_per_class_.values()), np.float64)
        return np.tile(sizes / sizes.sum(), (len(cells), 1))
