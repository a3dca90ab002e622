"""Extremely randomised trees on genes (Geurts et al. 2006), as arrays.

A linear function of thousands of genes moves with every small shift between two experiments; trees ask only whether
some gene is expressed above a threshold, and each of them has one vote. On cells of another platform they are often far
better, on cells of the same experiment a little worse (docs/decisions/0020). scikit-learn grows them; here they are
stored, without pickles, and walked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import ExtraTreesClassifier

from cell_lm.evaluation.folds import Codes, Fold
from cell_lm.evaluation.linear_head import LEAST, LeftOut
from cell_lm.evaluation.span import Matrix

Floats: TypeAlias = NDArray[np.float64]

TREES, GENES = 100, 2000
"""Trees, and the genes that vary most among the labelled cells, which are all that they read."""
LEAF, FEW_LEAF, MANY = 5, 2, 50
"""Fewest cells of a leaf; the second where there are fewer than :data:`MANY` labelled cells a type."""
MOST_A_TYPE = 1000
"""Cells of a type that the trees grow on; of more, so many are drawn."""
_BLOCK = 512
_LEAF = -1


@dataclass(frozen=True, eq=False)
class Trees:
    """A forest. The nodes of all trees follow each other, each tree in preorder: left of a node is the next node.

    Attributes
    ----------
    genes : ndarray
        int64 [features]: the genes of the vocabulary that are read.
    roots : ndarray
        int32 [trees]: the first node of each tree.
    feature : ndarray
        int16 [nodes]: index in ``genes``; -1: a leaf.
    threshold : ndarray
        float32 [nodes]: a cell with at most this expression goes left.
    right : ndarray
        int32 [nodes]: the node to the right; of a leaf, its row in ``leaves``.
    leaves : ndarray
        float16 [leaves, classes]: share of each class.
    """

    genes: NDArray[np.int64]
    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    right: NDArray[np.int32]
    leaves: NDArray[np.float16]

    def shares(self, x: Matrix) -> Floats:
        """Return the mean share of each class over the trees, float64 [cells, classes]; x is log expression."""
        total, leaves = np.zeros((x.shape[0], self.leaves.shape[1])), self.leaves.astype(np.float64)
        for start in range(0, len(total), _BLOCK):
            reached = self.right[self._reached(_dense(x[start : start + _BLOCK], self.genes))]
            total[start : start + _BLOCK] = leaves[reached].sum(axis=1)
        return np.asarray(total / total.sum(axis=1, keepdims=True))

    def _reached(self, own: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the leaf that each cell reaches in each tree, int64 [cells, trees], at the expression of the genes."""
        node = np.broadcast_to(self.roots.astype(np.int64), (len(own), len(self.roots))).copy()
        cell, tree = np.nonzero(self.feature[node] >= 0)
        while len(cell):
            at = node[cell, tree]
            left = own[cell, self.feature[at]] <= self.threshold[at]
            node[cell, tree] = np.where(left, at + 1, self.right[at])
            inner = self.feature[node[cell, tree]] >= 0
            cell, tree = cell[inner], tree[inner]
        return node

    def log_shares(self, x: Matrix) -> Floats:
        """Return the log of the shares; one of 0 counts as a millionth."""
        return log_of(self.shares(x))


def log_of(shares: Floats) -> Floats:
    """Return the log of shares [cells, classes], at least log(:data:`LEAST`)."""
    return np.asarray(np.log(np.maximum(shares, LEAST)))


def fit_trees(
    x: sparse.csr_matrix[np.float32], codes: Codes, folds: Sequence[Fold], seed: int
) -> tuple[Trees, LeftOut | None]:
    """Grow trees on labelled cells, and return their predictions for the cells of the folds.

    Parameters
    ----------
    x
        Log expression of the labelled cells [cells, vocabulary].
    codes
        int64: the class of each cell; every class has the same weight.
    folds
        Cells to fit on, and to leave out.
    seed
        Seed of the trees and of the choice among many cells of a type.
    """
    genes = _most_variable(x)
    own, classes = _dense(x, genes), int(codes.max()) + 1
    logs = list[Floats]()
    for rest, left_out in folds:
        shares = _grow(own, codes, rest, seed).predict_proba(own[left_out])
        every = np.zeros((len(left_out), classes))
        every[:, np.unique(codes[rest])] = shares
        logs.append(log_of(every))
    trees = _pack(_grow(own, codes, np.arange(len(codes)), seed), genes)
    if not folds:
        return trees, None
    number = np.repeat(np.arange(len(folds)), [len(left_out) for _, left_out in folds])
    return trees, LeftOut(np.concatenate([left_out for _, left_out in folds]), number, np.concatenate(logs))


def _most_variable(x: sparse.csr_matrix[np.float32]) -> NDArray[np.int64]:
    mean = np.asarray(x.mean(axis=0), np.float64).ravel()
    variance = np.asarray(x.multiply(x).mean(axis=0), np.float64).ravel() - mean**2
    chosen = np.argsort(-variance, kind="stable")[: min(GENES, int((variance > 0).sum()))]
    return np.sort(chosen).astype(np.int64)


def _grow(own: NDArray[np.float32], codes: Codes, rows: Codes, seed: int) -> Any:
    few = len(rows) < MANY * len(np.unique(codes[rows]))
    forest = ExtraTreesClassifier(
        TREES, min_samples_leaf=FEW_LEAF if few else LEAF, class_weight="balanced", random_state=seed
    )
    chosen = _at_most(codes, rows, seed)
    return forest.fit(own[chosen], codes[chosen])


def _at_most(codes: Codes, rows: Codes, seed: int) -> Codes:
    rng = np.random.default_rng(seed)
    each = [rng.permutation(rows[codes[rows] == code])[:MOST_A_TYPE] for code in np.unique(codes[rows])]
    return np.sort(np.concatenate(each))


def _pack(forest: Any, genes: NDArray[np.int64]) -> Trees:
    roots, feature, threshold, right, leaves = [0], [], [], [], []
    first_leaf = 0
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        leaf, first = tree.children_left < 0, roots[-1]
        if not (tree.children_left[~leaf] == np.flatnonzero(~leaf) + 1).all():
            raise RuntimeError("the nodes of a tree are not in preorder in this version of scikit-learn")
        feature.append(np.where(leaf, _LEAF, tree.feature).astype(np.int16))
        threshold.append(_not_above(np.where(leaf, 0.0, tree.threshold)))
        rows = first_leaf + np.cumsum(leaf) - 1
        right.append(np.where(leaf, rows, first + tree.children_right).astype(np.int32))
        values = tree.value[leaf][:, 0]
        leaves.append((values / values.sum(axis=1, keepdims=True)).astype(np.float16))
        roots.append(first + tree.node_count)
        first_leaf += int(leaf.sum())
    joined = (np.concatenate(each) for each in (feature, threshold, right, leaves))
    return Trees(genes, np.array(roots[:-1], np.int32), *joined)


def _not_above(threshold: Floats) -> NDArray[np.float32]:
    """Return the largest numbers of single precision that are not above: the same expressions go left."""
    single = threshold.astype(np.float32)
    return np.where(single > threshold, np.nextafter(single, np.float32(-np.inf)), single)


def _dense(x: Any, genes: NDArray[np.int64]) -> NDArray[np.float32]:
    own = x[:, genes]
    dense = own.toarray() if isinstance(own, sparse.csr_matrix) else own
    return np.ascontiguousarray(dense, np.float32)
