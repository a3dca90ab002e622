"""Parts of the model as plain values and arrays, and back: for the folder of an estimator and for unfinished fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.files import JSON
from cell_lm.tasks.estimator import Arrays, Fitted, checked
from cell_lm.tasks.response.graphs import GraphCorrection
from cell_lm.tasks.response.lines import LineModel
from cell_lm.tasks.response.network import Network

_NETWORK = ("first", "bias", "last", "offset")
_GRAPHS = "graphs."
_NOTHING = 1e300
"""Stands for an infinite spread of a gene, which the file does not take."""


def pack_lines(lines: LineModel) -> Fitted:
    """Return the model of lines as values and arrays."""
    arrays: dict[str, NDArray[Any]] = {
        "gene_centre": lines.centre,
        "gene_spread": np.where(np.isinf(lines.spread), _NOTHING, lines.spread),
        "weights": lines.weights,
        "intercept": lines.intercept,
    }
    if lines.network is None:
        return Fitted({}, arrays)
    arrays |= {"basis": lines.network.basis}
    arrays |= {f"network.{name}": lines.network.tensors[name] for name in _NETWORK}
    return Fitted({"slope": float(lines.network.slope)}, arrays)


def unpack_lines(values: Any, arrays: Arrays, drugs: int) -> LineModel:
    """Return what :func:`pack_lines` packed; ValueError, KeyError or TypeError if it is inconsistent."""
    centre = checked(arrays, "gene_centre", (-1,))
    spread = checked(arrays, "gene_spread", centre.shape)
    spread = np.where(spread >= _NOTHING, np.inf, spread)
    weights, intercept = checked(arrays, "weights", (len(centre), drugs)), checked(arrays, "intercept", (drugs,))
    network = None
    if "slope" in values:
        tensors = {name: np.ascontiguousarray(arrays[f"network.{name}"], np.float32) for name in _NETWORK}
        network = Network(checked(arrays, "basis", (len(centre), -1)), tensors, float(values["slope"]))
    return LineModel(centre, spread, weights, intercept, network)


def pack_factors(factors: dict[int, float]) -> dict[str, JSON]:
    """Return conformal factors by number of measured drugs as JSON."""
    return {str(number): float(factor) for number, factor in factors.items()}


def unpack_factors(values: Any) -> dict[int, float]:
    """Return what :func:`pack_factors` packed."""
    return {int(number): float(factor) for number, factor in values.items()}


def pack_graphs(correction: GraphCorrection) -> Fitted:
    """Return the correction by the graph encoder as values and arrays."""
    arrays = {f"{_GRAPHS}{name}": value for name, value in correction.tensors.items()}
    return Fitted({"slope": correction.slope, "unit": correction.unit}, arrays)


def unpack_graphs(values: Any, arrays: Arrays) -> GraphCorrection:
    """Return what :func:`pack_graphs` packed."""
    named = {name.removeprefix(_GRAPHS): value for name, value in arrays.items() if name.startswith(_GRAPHS)}
    tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in named.items()}
    return GraphCorrection(tensors, float(values["slope"]), float(values["unit"]))
