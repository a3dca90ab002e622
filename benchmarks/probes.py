"""Probes of a pretrained model on unseen cells: labels from many or few labelled cells; hidden genes.

All choices are made on the labelled cells of the fit; the test cells are used once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from cell_lm.data import CellBatch, CellData
from cell_lm.data.loading.expression import log_expression
from cell_lm.evaluation.annotation_metrics import macro_f1
from cell_lm.evaluation.baselines import BASELINES
from cell_lm.evaluation.linear_head import fit_head
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter
from cell_lm.objectives.masked import choose_hidden

Labels: TypeAlias = NDArray[np.object_]
Rows: TypeAlias = NDArray[np.int64]
Predict: TypeAlias = Callable[[Rows, Rows], Labels]
"""Fits on the first cells and labels the second ones."""
CHUNK = 65_536


def labels_of(cells: CellData) -> Labels:
    return np.asarray(cells.obs["cell_type"].astype(str), dtype=object)


def linear_probe(cls: NDArray[np.float32], labels: Labels, seed: int) -> Predict:
    """Return the product's linear head on an embedding, its regularisation chosen on the cells of the fit."""

    def predict(fit: Rows, judged: Rows) -> Labels:
        head = fit_head(cls[fit], labels[fit], seed=seed)
        return np.array(head.classes, object)[head.probabilities(cls[judged]).argmax(axis=1)]

    return predict


def rival_probe(cells: CellData, seed: int, rival: str = "genes_lr") -> Predict:
    """Return a rival of :mod:`cell_lm.evaluation.baselines` on the log-normalised genes, chosen with the same care."""
    X, labels = log_expression(cells), labels_of(cells)

    def predict(fit: Rows, judged: Rows) -> Labels:
        return BASELINES[rival](seed).fit(X[fit], labels[fit]).predict(X[judged])

    return predict


def judge_labels(predict: Predict, labels: Labels, seed: int, *, shots: Sequence[int], draws: int) -> dict[str, float]:
    """Return macro-F1 as ``probe`` and ``shots_1`` and so on.

    ``probe``: on a fifth of the cells, stratified, after a fit on the others. ``shots_k``: after a fit on k cells of
    each type, on all other cells; the mean over some draws. The seed decides all of it, whatever is judged.
    """
    fit, judged = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    figures = {"probe": macro_f1(labels[judged], predict(fit, judged))}
    for count in shots:
        scores = []
        for chosen in few_cells(labels, count, draws, seed):
            others = np.setdiff1d(np.arange(len(labels)), chosen)
            scores.append(macro_f1(labels[others], predict(chosen, others)))
        figures[f"shots_{count}"] = float(np.mean(scores))
    return figures


def few_cells(labels: Labels, count: int, draws: int, seed: int) -> Iterator[Rows]:
    """Yield cells, so many of each type (half of a type that has fewer than twice that), as int64 [chosen]."""
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for draw in range(draws):
        rng = np.random.default_rng((seed, count, draw))
        chosen = [rng.permutation(rows)[: max(1, min(count, len(rows) // 2))] for rows in members]
        yield np.sort(np.concatenate(chosen))


@torch.inference_mode()
def hidden_genes(
    model: CellLM, batches: Iterable[CellBatch], *, rate: float, seed: int, draws: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return summed loss (nats), right guesses and number of hidden expressions of each gene, all [genes].

    Cells are read whole but for what is hidden, without dropout. What is hidden is a function of the seed alone, so
    models of one seed are asked the same.
    """
    genes = len(model.vocabulary)
    nats, right, asked = np.zeros(genes), np.zeros(genes), np.zeros(genes, np.int64)
    for number, batch in enumerate(batches):
        for chunk in batch.chunks(CHUNK):
            for draw in range(draws):
                hidden = choose_hidden(chunk, Counter.of(seed, number, chunk.slots, draw), rate)
                logits = model(chunk, hidden=hidden, counter=None).expression.float()
                truth, which = chunk.bins[hidden], chunk.genes[hidden].cpu().numpy()
                loss = torch.nn.functional.cross_entropy(logits, truth, reduction="none").double().cpu().numpy()
                hit = (logits.argmax(-1) == truth).cpu().numpy()
                nats += np.bincount(which, loss, minlength=genes)
                right += np.bincount(which, hit, minlength=genes)
                asked += np.bincount(which, minlength=genes)
    return nats, right, asked
