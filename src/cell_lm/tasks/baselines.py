"""The baselines that a model has to beat, as estimators: they take the same cells, and are saved the same way.

Each works on log1p of counts per 10,000 over all genes of the vocabulary; what it does is said in
:mod:`cell_lm.evaluation.baselines`, where the methods themselves are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from cell_lm.data.loading.expression import log_expression
from cell_lm.data.view import CellView
from cell_lm.evaluation import baselines as rivals
from cell_lm.files import JSON
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.estimator import Arrays, Fitted, Progress, checked


class _Baseline(Classifier):
    """A classifier of :mod:`cell_lm.evaluation.baselines`.

    Attributes
    ----------
    rival_ : Rival
        It, after the fit.
    """

    rival_: rivals.Rival
    shapes: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Attributes of the rival that a fit sets, float64, and their shape in ``classes``, ``genes`` or other words."""

    @abstractmethod
    def _rival(self) -> rivals.Rival:
        """Return it, to be fitted."""

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        self.rival_ = self._rival().fit(log_expression(cells), labels, groups)
        if progress is not None:
            progress(len(cells))

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        found = np.empty((len(cells), len(self.classes_)))
        for places, block in cells.blocks():
            found[places] = self.rival_.predict_proba(log_expression(block))
            if progress is not None:
                progress(len(block))
        return found

    def _learned(self) -> Fitted:
        arrays = {name: np.asarray(getattr(self.rival_, name), np.float64) for name in self.shapes}
        return Fitted({"genes": self.rival_.n_features_in_}, arrays)

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        rival = self._rival()
        sizes = {"classes": len(self.classes_), "genes": int(values["genes"]), "one": 1}
        rival.classes_, rival.n_features_in_ = self.classes_, sizes["genes"]
        for name, shape in self.shapes.items():
            setattr(rival, name, checked(arrays, name, tuple(sizes.get(word, -1) for word in shape)))
        self.rival_ = rival


class _LogisticBaseline(_Baseline):
    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"coef_": ("classes", "genes"), "intercept_": ("classes",)}


class GeneLogisticBaseline(_LogisticBaseline):
    """Logistic regression on all genes.

    Parameters
    ----------
    seed
        Of the division of the training cells on which the regularisation is chosen.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _rival(self) -> rivals.Rival:
        return rivals.GeneLogisticRegression(seed=self.seed)


class PCALogisticBaseline(_LogisticBaseline):
    """Logistic regression on the leading principal components of the centred genes.

    Parameters
    ----------
    components
        Most components.
    seed
        Of the decomposition, and of the division of the training cells.
    """

    def __init__(self, *, components: int = rivals.COMPONENTS, seed: int = 0) -> None:
        self.components = components
        self.seed = seed

    def _rival(self) -> rivals.Rival:
        return rivals.PCALogisticRegression(components=self.components, seed=self.seed)


class CentroidBaseline(_Baseline):
    """The class whose mean cell points in the direction most like the cell's own.

    Parameters
    ----------
    seed
        Of the division of the training cells on which the temperature is chosen.
    """

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {
        "mean_": ("genes",),
        "centroids_": ("classes", "genes"),
        "temperature_": ("one",),
    }

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _rival(self) -> rivals.Rival:
        return rivals.NearestCentroid(seed=self.seed)


class NeighboursBaseline(_Baseline):
    """The vote of the nearest training cells, in the space of their leading principal components.

    Parameters
    ----------
    neighbours
        Most neighbours.
    components
        Most components.
    seed
        Of the decomposition.
    """

    rival_: rivals.NearestNeighbours
    shapes: ClassVar[dict[str, tuple[str, ...]]] = {
        "mean_": ("genes",),
        "directions_": ("components", "genes"),
        "points_": ("cells", "components"),
    }

    def __init__(
        self, *, neighbours: int = rivals.NEIGHBOURS, components: int = rivals.COMPONENTS, seed: int = 0
    ) -> None:
        self.neighbours = neighbours
        self.components = components
        self.seed = seed

    def _rival(self) -> rivals.NearestNeighbours:
        return rivals.NearestNeighbours(neighbours=self.neighbours, components=self.components, seed=self.seed)

    def _learned(self) -> Fitted:
        rival = self.rival_
        found = super()._learned()
        neighbours: dict[str, JSON] = {"neighbours": int(rival.votes_.n_neighbors)}
        return Fitted({**found.values, **neighbours}, {**found.arrays, "codes_": np.asarray(rival.codes_, np.int64)})

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        super()._restore_learned(values, arrays)
        rival, codes = self.rival_, arrays["codes_"]
        if rival.points_.shape != (len(codes), len(rival.directions_)):
            raise ValueError("'points_' are not those of the training cells")
        if codes.dtype != np.int64 or sorted(set(codes.tolist())) != list(range(len(self.classes_))):
            raise ValueError("its training cells are not of the classes")
        votes = KNeighborsClassifier(int(values["neighbours"]), weights="distance", metric="cosine")
        rival.codes_, rival.votes_ = codes, votes.fit(rival.points_, codes)


class MajorityBaseline(_Baseline):
    """Gives every cell the most frequent label; probabilities are the shares of the labels."""

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"shares_": ("classes",)}

    def _rival(self) -> rivals.Rival:
        return rivals.MajorityClass()
