"""A pool of views, and the reference of an adapted encoder, as arrays of an estimator's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.genes.reference import Reference
from cell_lm.model import CellLM
from cell_lm.tasks.annotation.propagation import LabelGraph
from cell_lm.tasks.annotation.trees import Trees
from cell_lm.tasks.annotation.views import Linear, Pool, graph_of
from cell_lm.tasks.estimator import Arrays

_READS = ("genes", "model", "adapted")


def pool_arrays(pool: Pool) -> dict[str, NDArray[Any]]:
    """Return the arrays of a pool; coefficients in single precision, or in half where that loses nothing."""
    found: dict[str, NDArray[Any]] = {}
    for name, linear in pool.linear.items():
        found[f"{name}.coefficients"] = _small(linear.coefficients)
        found[f"{name}.intercept"] = linear.intercept.astype(np.float32)
    for name, graph in pool.graphs.items():
        found |= {f"{graph_of(name)}.{part}": getattr(graph, part) for part in ("mean", "rotation", "points", "shares")}
    if pool.trees is not None:
        found |= {f"trees.{field.name}": getattr(pool.trees, field.name) for field in fields(pool.trees)}
    return found if pool.centre is None else found | {"genes.centre": pool.centre}


def read_pool(weights: Mapping[str, Any], arrays: Arrays, classes: int, width: int, genes: int) -> Pool:
    """Read what :func:`pool_arrays` returned; ValueError or KeyError if it is inconsistent."""
    linear, graphs = {}, {}
    for name in _READS:
        if f"{name}.coefficients" in arrays:
            shape = (classes, genes if name == "genes" else width)
            half = arrays[f"{name}.coefficients"].dtype == np.float16
            coefficients = _read(arrays, f"{name}.coefficients", shape, np.float16 if half else np.float32)
            intercept = _read(arrays, f"{name}.intercept", (classes,), np.float32)
            linear[name] = Linear(coefficients.astype(np.float64), intercept.astype(np.float64))
        if f"{graph_of(name)}.points" in arrays:
            graphs[name] = _graph(graph_of(name), arrays, classes, width)
    trees = _trees(arrays, classes, genes) if "trees.genes" in arrays else None
    if not linear and not graphs and trees is None:
        raise ValueError("it has no view")
    numbers = {str(name): float(weight) for name, weight in weights.items()}
    if any(graph_of(name) not in numbers for name in graphs):
        raise ValueError("a graph has no weight")
    if (trees is not None) != ("trees" in numbers):
        raise ValueError("the trees have no weight, or a weight has no trees")
    centre = _read(arrays, "genes.centre", (genes,), np.float32) if "genes" in linear else None
    return Pool(linear, graphs, numbers, None, trees, centre)


def reference_arrays(adapted: CellLM | None) -> dict[str, NDArray[Any]]:
    """Return the reference of an adapted encoder, which is all of it that differs from the model; empty for None."""
    reference = None if adapted is None else adapted.reference
    if reference is None:
        return {}
    return {f"reference.of adapted.{field.name}": getattr(reference, field.name) for field in fields(reference)}


def read_reference(arrays: Arrays, width: int, genes: int) -> Reference | None:
    """Read what :func:`reference_arrays` returned; ValueError or KeyError if it is inconsistent."""
    prefix = "reference.of adapted."
    if f"{prefix}genes" not in arrays:
        return None
    chosen = arrays[f"{prefix}genes"]
    rising = chosen.ndim == 1 and len(chosen) > 0 and (np.diff(chosen) > 0).all()
    if chosen.dtype != np.int64 or not rising or chosen[0] < 0 or chosen[-1] >= genes:
        raise ValueError("the genes of the adapted encoder are not those of the vocabulary")
    shapes = {"components": (len(chosen), width), "centre": (width,), "spread": (width,), "profile": (genes,)}
    return Reference(chosen, **{part: _read(arrays, prefix + part, shapes[part], np.float32) for part in shapes})


def in_half_precision(pool: Pool) -> Pool:
    """Return a pool whose coefficients are rounded to half precision, so that it takes half the space."""
    linear = {
        name: Linear(each.coefficients.astype(np.float16).astype(np.float64), each.intercept)
        for name, each in pool.linear.items()
    }
    return replace(pool, linear=linear)


def _small(coefficients: NDArray[np.float64]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        half = coefficients.astype(np.float16)
    return half if (half == coefficients).all() else coefficients.astype(np.float32)


def _graph(name: str, arrays: Arrays, classes: int, width: int) -> LabelGraph:
    points = arrays[f"{name}.points"]
    cells, directions = points.shape if points.ndim == 2 else (0, 0)
    if cells < 2:
        raise ValueError(f"'{name}' has {cells} cells")
    return LabelGraph(
        _read(arrays, f"{name}.mean", (width,), np.float64),
        _read(arrays, f"{name}.rotation", (width, directions), np.float64),
        _read(arrays, f"{name}.points", (cells, directions), np.float32),
        _read(arrays, f"{name}.shares", (cells, classes), np.float32),
    )


def _trees(arrays: Arrays, classes: int, genes: int) -> Trees:
    """Read trees whose every path stays among their nodes and ends: a damaged file must not be walked for ever."""
    chosen, roots, feature, right = (arrays[f"trees.{name}"] for name in ("genes", "roots", "feature", "right"))
    kinds = {"genes": np.int64, "roots": np.int32, "feature": np.int16, "right": np.int32}
    if any(arrays[f"trees.{name}"].dtype != kind or arrays[f"trees.{name}"].ndim != 1 for name, kind in kinds.items()):
        raise ValueError("the trees are not in the types they are saved in")
    nodes, leaf = np.arange(len(feature)), feature < 0
    leaves = int(leaf.sum())
    if not len(roots) or not leaves or not len(chosen) or chosen.min() < 0 or chosen.max() >= genes:
        raise ValueError("the trees have no root, no leaf or no gene, or genes outside the vocabulary")
    inner = ~leaf
    ends = len(feature) > 0 and leaf[-1] and (right[inner] > nodes[inner]).all() and (right[inner] < len(feature)).all()
    if not ends or (feature >= len(chosen)).any() or roots.min() < 0 or roots.max() >= len(feature):
        raise ValueError("a node of the trees leads nowhere")
    if (right[leaf] < 0).any() or (right[leaf] >= leaves).any():
        raise ValueError("a leaf of the trees has no shares")
    threshold = _read(arrays, "trees.threshold", (len(feature),), np.float32)
    return Trees(chosen, roots, feature, threshold, right, _read(arrays, "trees.leaves", (leaves, classes), np.float16))


def _read(arrays: Arrays, name: str, shape: tuple[int, ...], kind: type[np.floating[Any]]) -> NDArray[Any]:
    array = arrays[name]
    if array.shape != shape or array.dtype != kind or not np.isfinite(array).all():
        raise ValueError(f"'{name}' is {array.dtype} {array.shape}, not finite {np.dtype(kind)} {shape}")
    return array
