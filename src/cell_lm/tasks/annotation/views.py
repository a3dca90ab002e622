"""The views of a cell that a classifier of cell types pools, each with its own prediction.

==============  =======================================================================================================
``genes``       logistic regression on log1p of counts per 10,000 of all genes
``components``  the same on the leading principal components of these, of all cells of the fit, labelled or not
``model``       the linear head on CLS of the encoder (:mod:`cell_lm.evaluation.linear_head`)
``adapted``     the same on CLS of the encoder adapted to the cells of the fit (:mod:`cell_lm.pretraining.adapt`)
``trees``       randomised trees on the genes that vary most (:mod:`cell_lm.tasks.annotation.trees`), at a fixed share
                of the pool; left out where no cell can be left out
``graph``       labels spread over the nearest neighbours in both embeddings; only if there are unlabelled cells
==============  =======================================================================================================

*Left-out cells.* Weights, regularisation and label sets come from cells that were left out. Principal components and
the adapted encoder are learned from cells, too: without unlabelled cells, those of each fold are learned without its
left-out cells, since the cells to predict will not take part either. With unlabelled cells, the left-out ones take part
in them without their labels, as those do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.evaluation.baselines import COMPONENTS, GRID, UNTRIED, GeneLogisticRegression
from cell_lm.evaluation.calibration import log_softmax
from cell_lm.evaluation.folds import Fold, training_folds
from cell_lm.evaluation.linear_head import LeftOut, LinearHead, fit_head_and_left_out
from cell_lm.evaluation.span import Matrix, leading_components
from cell_lm.evaluation.stacking import Fixed, fit_weights, left_out_of_pool
from cell_lm.tasks.annotation.propagation import LabelGraph, spread_labels
from cell_lm.tasks.annotation.trees import Trees, fit_trees

Floats: TypeAlias = NDArray[np.float64]
View: TypeAlias = Literal["genes", "components", "trees", "model", "adapted", "graph"]
VIEWS: tuple[View, ...] = get_args(View)
TREES_SHARE = 1 / 3
"""Share of the trees in the pool. Left-out cells of the same experiment would give them less: it is on the cells of
another platform that they are better (docs/decisions/0020)."""
GRAPHS = 2.0
"""Weight of each graph relative to other views where no cell can be left out: with one label a type a graph was the
best view of three data sets (pbmc_scminer638, qian2020_ovarian, baron_human)."""
SPREAD = 2.5
"""Standard deviation of the logits of the pool where no cell can be left out: with one label a type the calibration
error was .04 to .21 on three data sets (the same three), and no single value did better on all."""
Features: TypeAlias = Mapping[str, Matrix]
"""What the views read of some cells: ``genes`` (log expression, [cells, genes]), ``model`` and ``adapted`` (CLS)."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Logits that are linear in features: [cells, width] @ coefficients.T + intercept.

    Attributes
    ----------
    coefficients, intercept : ndarray
        float64 [classes, width] and [classes].
    """

    coefficients: Floats
    intercept: Floats

    def logits(self, x: Matrix) -> Floats:
        """Return the logits, float64 [cells, classes]."""
        return np.asarray(np.asarray(x @ self.coefficients.T) + self.intercept, np.float64)


@dataclass(frozen=True, eq=False)
class Pool:
    """All views of a fit, pooled.

    The log-probabilities of a linear view are its logits but for a constant of each cell, which the softmax cancels. So
    the weighted views of the same features are one linear function.

    Attributes
    ----------
    linear : dict
        By what it reads (``genes``, ``model``, ``adapted``): the weighted sum of its linear views.
    graphs : dict
        By what it reads (``model``, ``adapted``): the graph of labels.
    weights : dict
        Weight of each view and, as ``graph of model`` and ``graph of adapted``, of each graph.
    left_out : LeftOut or None
        Predictions of the pool for left-out cells, with weights from the other folds.
    trees : Trees or None
        The trees.
    centre : ndarray or None
        float32 [vocabulary]: mean log expression over the cells of the fit, which stands for a gene that is not
        measured in the linear function of genes; None without one.
    """

    linear: Mapping[str, Linear]
    graphs: Mapping[str, LabelGraph]
    weights: Mapping[str, float]
    left_out: LeftOut | None = None
    trees: Trees | None = None
    centre: NDArray[np.float32] | None = None

    def measuring(self, genes: NDArray[np.int64]) -> Pool:
        """Return the pool for cells in which only these genes were measured: each other one counts as its mean."""
        linear = self.linear.get("genes")
        if linear is None or self.centre is None:
            return self
        absent = self.centre.astype(np.float64)
        absent[genes] = 0.0
        moved = Linear(linear.coefficients, linear.intercept + linear.coefficients @ absent)
        return replace(self, linear={**self.linear, "genes": moved})

    def logits(self, features: Features) -> Floats:
        """Return the logits of cells, float64 [cells, classes]; up to a constant of each cell."""
        parts = [linear.logits(features[name]) for name, linear in self.linear.items()]
        for name, graph in self.graphs.items():
            parts.append(self.weights[graph_of(name)] * graph.log_shares(np.asarray(features[name])))
        if self.trees is not None:
            parts.append(self.weights["trees"] * self.trees.log_shares(features["genes"]))
        return np.asarray(sum(parts), np.float64)

    def log_probabilities(self, features: Features) -> Floats:
        """Return the log-probabilities of cells, float64 [cells, classes]."""
        return log_softmax(self.logits(features))


def in_single_precision(linear: Linear) -> Linear:
    """Return the function with coefficients rounded to single precision, in which they are saved."""
    single = (each.astype(np.float32).astype(np.float64) for each in (linear.coefficients, linear.intercept))
    return Linear(*single)


def replace_head(pool: Pool, head: LinearHead) -> Pool:
    """Return a pool with another head on CLS of the model, at the weight of the one before."""
    weight = pool.weights.get("model", 0.0)
    linear = Linear(weight * head.coefficients, weight * (head.intercept - head.coefficients @ head.mean))
    return replace(pool, linear={**pool.linear, "model": in_single_precision(linear)})


def graph_of(name: str) -> str:
    """Return the name of a graph's weight."""
    return f"graph of {name}"


@dataclass(frozen=True, eq=False)
class _Fitted:
    reads: str
    predict: Linear | LabelGraph | Trees
    left_out: LeftOut | None

    def log_probabilities(self, features: Features) -> Floats:
        x = features[self.reads]
        if isinstance(self.predict, LabelGraph):
            return self.predict.log_shares(np.asarray(x))
        if isinstance(self.predict, Trees):
            return self.predict.log_shares(x)
        return log_softmax(self.predict.logits(x))


@dataclass(frozen=True, eq=False)
class TrainingCells:
    """What a pool is fitted on.

    Attributes
    ----------
    features : dict
        Of the labelled cells first, then of the unlabelled ones; only those that the views read.
    codes : ndarray
        int64: the class of each labelled cell.
    groups : ndarray or None
        The donor of each labelled cell: whole donors are left out then.
    seed : int
        Seed of the folds and the decomposition.
    adapted : sequence of ndarray or None
        For each fold CLS of the labelled cells by an encoder that was adapted without its left-out cells; None: they
        may take part, as unlabelled cells do.
    """

    features: Features
    codes: NDArray[np.int64]
    groups: NDArray[np.object_] | None
    seed: int
    adapted: Sequence[NDArray[np.float32]] | None = None

    @cached_property
    def folds(self) -> list[Fold]:
        """The cells to fit on and those left out, fold by fold."""
        return list(training_folds(self.codes, self.groups, self.seed))

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """Text that sorts as the codes do."""
        width = len(str(int(self.codes.max())))
        return np.array([f"{code:0{width}d}" for code in self.codes], object)

    def labelled(self, name: str) -> Matrix:
        """Return the features of the labelled cells."""
        x: Matrix = self.features[name][: len(self.codes)]
        return x


def fit_pool(cells: TrainingCells, views: Sequence[str]) -> Pool:
    """Fit views and their weights.

    Parameters
    ----------
    cells
        The labelled cells, and the unlabelled ones.
    views
        Names of the views, at least one; ``graph`` needs unlabelled cells.
    """
    features, codes = cells.features, cells.codes
    fitted: dict[str, _Fitted] = {}
    for name in VIEWS:
        if name in views:
            fitted |= _FIT[name](cells)
    weights = _weights(fitted, features, codes)
    held = [view.left_out for view in fitted.values()]
    known = [each for each in held if each is not None]
    left_out = left_out_of_pool(known, codes, fixed=_fixed(fitted)) if len(known) == len(held) else None
    centre = np.asarray(features["genes"].mean(axis=0), np.float32).ravel() if "genes" in features else None
    return _pooled(fitted, weights, left_out, centre)


def _fixed(fitted: Mapping[str, _Fitted]) -> Fixed | None:
    return Fixed(list(fitted).index("trees"), TREES_SHARE) if "trees" in fitted else None


def _weights(fitted: Mapping[str, _Fitted], features: Features, codes: NDArray[np.int64]) -> Floats:
    held = [view.left_out for view in fitted.values()]
    known = [each for each in held if each is not None]
    if len(known) == len(held):
        return fit_weights(known, codes, fixed=_fixed(fitted))
    logs = np.stack([view.log_probabilities(features) for view in fitted.values()])
    return _scaled(
        logs, np.array([GRAPHS if isinstance(view.predict, LabelGraph) else 1.0 for view in fitted.values()])
    )


def _scaled(logs: Floats, shares: Floats) -> Floats:
    """Return weights with which the spread of the logits [views, cells, classes] of each view is in given proportion.

    Where no cell can be left out, only the strength of regularisation sets how far apart the logits of a view are. So
    they are brought to the same spread, and those of the pool to :data:`SPREAD`.
    """
    spread = _centred(logs).std(axis=(1, 2))
    weights = shares / np.maximum(spread, np.finfo(np.float64).tiny)
    return np.asarray(weights * SPREAD / max(float(np.tensordot(weights, _centred(logs), 1).std()), 1e-12))


def _centred(logs: Floats) -> Floats:
    return np.asarray(logs - logs.mean(axis=-1, keepdims=True))


def _pooled(
    fitted: Mapping[str, _Fitted], weights: Floats, left_out: LeftOut | None, centre: NDArray[np.float32] | None
) -> Pool:
    linear: dict[str, Linear] = {}
    graphs: dict[str, LabelGraph] = {}
    trees: Trees | None = None
    for view, weight in zip(fitted.values(), weights, strict=True):
        if isinstance(view.predict, LabelGraph):
            graphs[view.reads] = view.predict
            continue
        if isinstance(view.predict, Trees):
            trees = view.predict
            continue
        before = linear.get(view.reads)
        coefficients, intercept = weight * view.predict.coefficients, weight * view.predict.intercept
        if before is not None:
            coefficients, intercept = coefficients + before.coefficients, intercept + before.intercept
        linear[view.reads] = Linear(coefficients, intercept)
    linear = {name: in_single_precision(each) for name, each in linear.items()}
    centre = centre if "genes" in linear else None
    return Pool(linear, graphs, dict(zip(fitted, map(float, weights), strict=True)), left_out, trees, centre)


def _fit_genes(cells: TrainingCells) -> dict[str, _Fitted]:
    rival = GeneLogisticRegression(seed=cells.seed)
    rival.fit(cells.labelled("genes"), cells.labels, cells.groups)
    return {"genes": _Fitted("genes", Linear(rival.coef_, rival.intercept_), rival.left_out_)}


def _fit_components(cells: TrainingCells) -> dict[str, _Fitted]:
    x, labelled = cells.features["genes"], cells.labelled("genes")
    pca = leading_components(x, COMPONENTS, cells.seed)
    by_fold = None
    if x.shape[0] == len(cells.codes):
        by_fold = [leading_components(x[rest], COMPONENTS, cells.seed)(x) for rest, _ in cells.folds]
    head, left_out = fit_head_and_left_out(
        pca(labelled),
        cells.labels,
        groups=cells.groups,
        whitening=0.0,
        grid=GRID,
        untried=UNTRIED,
        seed=cells.seed,
        by_fold=by_fold,
    )
    coefficients = head.coefficients @ pca.directions
    intercept = head.intercept - head.coefficients @ head.mean - coefficients @ pca.mean
    return {"components": _Fitted("genes", Linear(coefficients, intercept), left_out)}


def _fit_trees(cells: TrainingCells) -> dict[str, _Fitted]:
    labelled = sparse.csr_matrix(cells.labelled("genes"))
    trees, left_out = fit_trees(labelled, cells.codes, cells.folds, cells.seed)
    return {"trees": _Fitted("genes", trees, left_out)}


def _fit_cls(name: str, cells: TrainingCells) -> dict[str, _Fitted]:
    by_fold = cells.adapted if name == "adapted" else None
    head, left_out = fit_head_and_left_out(
        np.asarray(cells.labelled(name)),
        cells.labels,
        groups=cells.groups,
        seed=cells.seed,
        by_fold=by_fold,
    )
    linear = Linear(head.coefficients, head.intercept - head.coefficients @ head.mean)
    return {name: _Fitted(name, linear, left_out)}


def _fit_graph(cells: TrainingCells) -> dict[str, _Fitted]:
    codes, found = cells.codes, {}
    for name in ("model", "adapted"):
        if name in cells.features:
            embedding = np.asarray(cells.features[name])
            graph, left_out = spread_labels(embedding, codes, int(codes.max()) + 1, cells.folds)
            found[graph_of(name)] = _Fitted(name, graph, left_out)
    return found


_FIT: Mapping[str, Callable[[TrainingCells], dict[str, _Fitted]]] = {
    "genes": _fit_genes,
    "components": _fit_components,
    "trees": _fit_trees,
    "model": partial(_fit_cls, "model"),
    "adapted": partial(_fit_cls, "adapted"),
    "graph": _fit_graph,
}
