"""Cell type annotation: a frozen encoder and a linear head on its CLS embedding."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.view import CellView
from cell_lm.evaluation.linear_head import LinearHead, Selection, fit_head
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.estimator import Arrays, Fitted, Progress, checked
from cell_lm.tasks.features import CACHE, Device, embed_cells


class CellTypeClassifier(Classifier):
    """Annotates cells by a frozen encoder and a linear head (:mod:`cell_lm.evaluation.linear_head`).

    Parameters
    ----------
    model
        The encoder. Its weights are not changed; it is moved to the device, and stays there.
    seed
        Seed of the split of the training cells that selects the regularisation.
    device
        Device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None: CUDA where there is a device, else the CPU.
    precision
        Arithmetic of the encoder: ``"float32"``, or ``"bfloat16"``, which is faster and differs by its rounding.
    cache
        Cache embeddings in memory (:mod:`cell_lm.tasks.features`), so that several fits and predictions embed the same
        cells once.

    Attributes
    ----------
    head_ : LinearHead
        The linear head, with the selection of its regularisation.

    Examples
    --------
    >>> classifier = CellTypeClassifier(model).fit(reference, "cell_type", groups="donor")
    >>> labels = classifier.predict(adata)
    """

    head_: LinearHead
    unsaved: ClassVar[tuple[str, ...]] = ("model", "device")

    def __init__(
        self,
        model: CellLM,
        *,
        seed: int = 0,
        device: Device = None,
        precision: Precision = "float32",
        cache: bool = True,
    ) -> None:
        self.model = model
        self.seed = seed
        self.device = device
        self.precision = precision
        self.cache = cache

    @property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the model."""
        return self.model.vocabulary

    def placed(self, device: Device = None, precision: Precision | None = None) -> Self:
        """Return the same fitted classifier for another device or precision; None: unchanged."""
        other = copy(self)
        other.device, other.precision = device or self.device, precision or self.precision
        return other

    def embed(self, cells: CellView, progress: Progress = None) -> NDArray[np.float32]:
        """Return the inputs of the head, the embeddings, float32 [cells, width]."""
        cache = CACHE if self.cache else None
        return embed_cells(
            self.model, cells, device=self.device, precision=self.precision, cache=cache, progress=progress
        )

    def _learn_labels(
        self, cells: CellView, labels: NDArray[np.object_], groups: NDArray[np.object_] | None, progress: Progress
    ) -> None:
        self.head_ = fit_head(self.embed(cells, progress), labels, groups=groups, seed=self.seed)

    def _probabilities(self, cells: CellView, progress: Progress) -> NDArray[np.float64]:
        return self.head_.probabilities(self.embed(cells, progress))

    def _learned(self) -> Fitted:
        head = self.head_
        arrays = {"coefficients": head.coefficients, "intercept": head.intercept, "mean": head.mean}
        return Fitted({"selection": asdict(head.selection)}, arrays)

    def _restore_learned(self, values: Mapping[str, Any], arrays: Arrays) -> None:
        classes, width = len(self.classes_), self.model.config.width
        coefficients = checked(arrays, "coefficients", (classes, width))
        intercept, mean = checked(arrays, "intercept", (classes,)), checked(arrays, "mean", (width,))
        selection = Selection(**(values["selection"] | {"scores": tuple(map(tuple, values["selection"]["scores"]))}))
        self.head_ = LinearHead(tuple(self.classes_), coefficients, intercept, mean, selection)
