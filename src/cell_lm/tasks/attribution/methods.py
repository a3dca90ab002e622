"""One function for all methods: it returns a number for each expressed gene of each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.cells import CellData
from cell_lm.data.loading.batch import CellBatch
from cell_lm.errors import GeneError, InputError
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.attribution.explained import Explained, pieces
from cell_lm.tasks.attribution.gradients import integrated_gradients, plain_gradient
from cell_lm.tasks.attribution.occlusion import occlusion
from cell_lm.tasks.attribution.rollout import attention_rollout, refuse_without_attention
from cell_lm.tasks.estimator import Progress
from cell_lm.tasks.features import TOKEN_BUDGET

Method = Literal["integrated_gradients", "gradient", "occlusion", "attention"]
"""How the contribution of a gene is measured.

integrated_gradients
    the gradient by its presence, integrated from a cell without genes; sums to the difference of the scores.
gradient
    the gradient by its presence where all genes are present.
occlusion
    the drop of the score without it; one forward pass per gene.
attention
    its fraction of CLS by attention roll-out; not for ``performer``, never negative, the same for every class.
"""
METHODS: tuple[Method, ...] = get_args(Method)
STEPS = 16
"""Default number of points of the path at which gradients are taken."""


@dataclass(frozen=True, eq=False)
class Attributions:
    """Contribution of each gene to the prediction for each cell.

    Attributes
    ----------
    values : csr_matrix
        float32 [cells, vocabulary]; an entry for every gene that the encoder read, positive if it is evidence for the
        target. Unit: logit (``attention``: fraction of CLS).
    targets : ndarray
        int64 [cells]: the explained class, as an index in ``classes``.
    classes : tuple of str
        Of the classifier.
    score, nothing : ndarray
        float64 [cells]: the logit of the target minus the mean of the others, of the cell and of a cell without genes.
    method : str
        One of :data:`METHODS`.
    """

    values: sparse.csr_matrix
    targets: NDArray[np.int64]
    classes: tuple[str, ...]
    score: NDArray[np.float64]
    nothing: NDArray[np.float64]
    method: Method

    @property
    def gap(self) -> float:
        """By how much the attributions miss the difference of the scores, as a fraction of it, over all cells.

        About 0 for ``integrated_gradients`` (completeness); not guaranteed for the other methods.
        """
        difference = self.score - self.nothing
        sums = np.asarray(self.values.sum(axis=1, dtype=np.float64)).ravel()
        scale = float(np.abs(difference).sum())
        return float(np.abs(sums - difference).sum()) / scale if scale else 0.0


def check_method(method: str, classifier: CellTypeClassifier) -> None:
    """Raise :class:`InputError` for a method that does not exist, or that the encoder does not allow."""
    if method not in METHODS:
        raise InputError(f"no method is called '{method}'", where="method", fix=f"Choose one of {', '.join(METHODS)}")
    if method == "attention":
        refuse_without_attention(classifier.encoder)


def attribute(
    classifier: CellTypeClassifier,
    cells: CellData,
    targets: NDArray[np.int64],
    *,
    method: Method = "integrated_gradients",
    steps: int = STEPS,
    token_budget: int = TOKEN_BUDGET,
    progress: Progress = None,
) -> Attributions:
    """Attribute the score of one class of each cell to its genes.

    Parameters
    ----------
    classifier
        A fitted classifier; it is not changed.
    cells
        Cells aligned to its vocabulary.
    targets
        int64 [cells]: the class to explain, as an index in ``classifier.classes_``.
    method
        See :data:`Method`.
    steps
        ``integrated_gradients`` only: points of the path.
    token_budget
        Most genes in one pass, over all points of the path or all cells with a gene removed. It limits memory; the
        result does not depend on it.
    progress
        Called with the number of cells completed since the last call.

    Raises
    ------
    InputError
        No such method, or none for this encoder; no step; a target that is no class.
    GeneError
        The cells are aligned to another vocabulary.
    ModelError
        The classifier has not been fitted.
    """
    explained = Explained.of(classifier, cells.audit.found)
    check_method(method, classifier)
    targets = np.asarray(targets, np.int64)
    _refuse(classifier, cells, targets, steps, token_budget)
    lengths = np.minimum(cells.genes_per_cell, classifier.resolved_model.config.max_genes)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    values, genes = np.empty(bounds[-1], np.float32), np.empty(bounds[-1], np.int64)
    score, nothing = np.empty(len(cells)), np.empty(len(cells))
    for block, batch in explained.blocks(cells):
        tokens = slice(bounds[block.start], bounds[block.stop])
        genes[tokens] = batch.genes.cpu().numpy()
        score[block], nothing[block] = _ends(explained, batch, targets[block], token_budget)
        for part, _ in pieces(explained.costs(batch), 1, token_budget):
            chunk, asked = batch[part], targets[block][part]
            here = tokens.start + batch.offsets[part.start], tokens.start + batch.offsets[part.stop]
            values[slice(*here)] = _values(explained, chunk, asked, method, steps, token_budget)
            if progress is not None:
                progress(len(chunk))
    shape = len(cells), len(cells.vocabulary)
    found = sparse.csr_matrix((values, genes, bounds), shape=shape)
    found.sort_indices()
    return Attributions(found, targets, tuple(classifier.classes_), score, nothing, method)


def _values(
    explained: Explained, batch: CellBatch, targets: NDArray[np.int64], method: Method, steps: int, budget: int
) -> NDArray[np.float64]:
    if method == "attention":
        return attention_rollout(explained, batch)
    if method == "occlusion":
        return occlusion(explained, batch, targets, budget)
    if method == "gradient":
        return plain_gradient(explained, batch, targets, budget)
    return integrated_gradients(explained, batch, targets, steps, budget)


@torch.no_grad()
def _ends(
    explained: Explained, batch: CellBatch, targets: NDArray[np.int64], budget: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the score of each cell with all of its genes and without genes, each float64 [C]."""
    scores = np.empty((2, len(batch)))
    for cells, variants in pieces(explained.costs(batch), 2, budget):
        part = batch[cells]
        presence = torch.tensor([1.0, 0.0], device=explained.device)[variants, None].expand(-1, part.tokens)
        scores[variants, cells] = explained.scores(part, presence, targets[cells]).cpu().numpy()
    return scores[0], scores[1]


def _refuse(
    classifier: CellTypeClassifier, cells: CellData, targets: NDArray[np.int64], steps: int, budget: int
) -> None:
    if cells.vocabulary.hash != classifier.reference_.vocabulary:
        found = "the cells are aligned to another vocabulary than those of the fit"
        raise GeneError(found, where=cells.name, fix="Read both with the same vocabulary")
    if steps < 1 or budget < 1:
        found = f"steps = {steps} and token_budget = {budget}"
        raise InputError(found, where="attribution", fix="Give at least 1 of each")
    if targets.shape != (len(cells),) or not ((targets >= 0) & (targets < len(classifier.classes_))).all():
        found = f"targets of shape {targets.shape} for {len(cells):,} cells and {len(classifier.classes_):,} classes"
        raise InputError(found, where=cells.name, fix="Give the index of one class a cell")
