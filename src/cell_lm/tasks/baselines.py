"""Baselines as estimators: they take the same cells as a model, and are saved in the same way.

Each uses log1p of counts per 10,000 over all genes of the vocabulary. The methods are implemented and described in
:mod:`cell_lm.evaluation.baselines`.
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
from cell_lm.evaluation import baselines as models
from cell_lm.files import JSON
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.estimator import Arrays, Fitted, Progress, checked


class _Baseline(Classifier):
    """A classifier of :mod:`cell_lm.evaluation.baselines`.

    Attributes
    ----------
    baseline_ : BaselineClassifier
        The fitted classifier.
    """

    baseline_: models.BaselineClassifier
    shapes: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Fitted attributes of the classifier, float64, with their shapes in ``classes``, ``genes`` or other names."""

    @abstractmethod
    def _baseline(self) -> models.BaselineClassifier:
        """Return the unfitted classifier."""

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        self.baseline_ = self._baseline().fit(log_expression(cells), labels, groups)
        if progress is not None:
            progress(len(cells))

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        found = np.empty((len(cells), len(self.classes_)))
        for places, block in cells.blocks():
            found[places] = self.baseline_.predict_proba(log_expression(block))
            if progress is not None:
                progress(len(block))
        return found

    def _learned(self) -> Fitted:
        arrays = {name: np.asarray(getattr(self.baseline_, name), np.float64) for name in self.shapes}
        return Fitted({"genes": self.baseline_.n_features_in_}, arrays)

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        model = self._baseline()
        sizes = {"classes": len(self.classes_), "genes": int(values["genes"]), "one": 1}
        model.classes_, model.n_features_in_ = self.classes_, sizes["genes"]
        for name, shape in self.shapes.items():
            setattr(model, name, checked(arrays, name, tuple(sizes.get(word, -1) for word in shape)))
        self.baseline_ = model


class _LogisticBaseline(_Baseline):
    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"coef_": ("classes", "genes"), "intercept_": ("classes",)}


class GeneLogisticBaseline(_LogisticBaseline):
    """Logistic regression on all genes.

    Parameters
    ----------
    seed
        Seed of the split of the training cells that selects the regularisation.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _baseline(self) -> models.BaselineClassifier:
        return models.GeneLogisticRegression(seed=self.seed)


class PCALogisticBaseline(_LogisticBaseline):
    """Logistic regression on the leading principal components of the centred genes.

    Parameters
    ----------
    components
        Most principal components.
    seed
        Seed of the decomposition and of the split of the training cells.
    """

    def __init__(self, *, components: int = models.COMPONENTS, seed: int = 0) -> None:
        self.components = components
        self.seed = seed

    def _baseline(self) -> models.BaselineClassifier:
        return models.PCALogisticRegression(components=self.components, seed=self.seed)


class CentroidBaseline(_Baseline):
    """The class whose centroid has the highest cosine with the cell.

    Parameters
    ----------
    seed
        Seed of the split of the training cells that selects the temperature.
    """

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {
        "mean_": ("genes",),
        "centroids_": ("classes", "genes"),
        "temperature_": ("one",),
    }

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def _baseline(self) -> models.BaselineClassifier:
        return models.NearestCentroid(seed=self.seed)


class NeighboursBaseline(_Baseline):
    """The vote of the nearest training cells, in the space of their leading principal components.

    Parameters
    ----------
    neighbours
        Most neighbours.
    components
        Most principal components.
    seed
        Seed of the decomposition.
    """

    baseline_: models.NearestNeighbours
    shapes: ClassVar[dict[str, tuple[str, ...]]] = {
        "mean_": ("genes",),
        "directions_": ("components", "genes"),
        "points_": ("cells", "components"),
    }

    def __init__(
        self, *, neighbours: int = models.NEIGHBOURS, components: int = models.COMPONENTS, seed: int = 0
    ) -> None:
        self.neighbours = neighbours
        self.components = components
        self.seed = seed

    def _baseline(self) -> models.NearestNeighbours:
        return models.NearestNeighbours(neighbours=self.neighbours, components=self.components, seed=self.seed)

    def _learned(self) -> Fitted:
        model = self.baseline_
        found = super()._learned()
        neighbours: dict[str, JSON] = {"neighbours": int(model.votes_.n_neighbors)}
        return Fitted({**found.values, **neighbours}, {**found.arrays, "codes_": np.asarray(model.codes_, np.int64)})

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        super()._restore_learned(values, arrays)
        model, codes = self.baseline_, arrays["codes_"]
        if model.points_.shape != (len(codes), len(model.directions_)):
            raise ValueError("'points_' are not those of the training cells")
        if codes.dtype != np.int64 or sorted(set(codes.tolist())) != list(range(len(self.classes_))):
            raise ValueError("its training cells are not of the classes")
        votes = KNeighborsClassifier(int(values["neighbours"]), weights="distance", metric="cosine")
        model.codes_, model.votes_ = codes, votes.fit(model.points_, codes)


class MajorityBaseline(_Baseline):
    """Gives every cell the most frequent label; probabilities are the label frequencies."""

    shapes: ClassVar[dict[str, tuple[str, ...]]] = {"shares_": ("classes",)}

    def _baseline(self) -> models.BaselineClassifier:
        return models.MajorityClass()
