"""The fitted model as plain values and arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.files import JSON
from cell_lm.tasks.estimator import Arrays, checked
from cell_lm.tasks.response.core import ColdDrugs, ResponseModel
from cell_lm.tasks.response.drugs import DrugModel, Structures
from cell_lm.tasks.response.graphs import GraphCorrection
from cell_lm.tasks.response.impute import DrugScale
from cell_lm.tasks.response.lines import LineModel
from cell_lm.tasks.response.network import Network

_NETWORK = ("first", "bias", "last", "offset")
_NOTHING = 1e300
"""Stands for an infinite spread of a gene, which the file does not take."""


def pack(model: ResponseModel) -> tuple[dict[str, JSON], dict[str, NDArray[Any]]]:
    """Return the model as values and arrays."""
    lines, measured = model.lines, np.isfinite(model.residuals)
    arrays: dict[str, NDArray[Any]] = {
        "drug_mean": model.scale.mean,
        "drug_spread": model.scale.spread,
        "gene_centre": lines.centre,
        "gene_spread": np.where(np.isinf(lines.spread), _NOTHING, lines.spread),
        "weights": lines.weights,
        "intercept": lines.intercept,
        "left_out": model.left_out,
        "residuals": np.where(measured, model.residuals, 0.0),
        "measured": measured.astype(np.float64),
        "covariance": model.covariance,
    }
    values: dict[str, JSON] = {"factors": {str(k): float(v) for k, v in model.factors.items()}}
    if lines.network is not None:
        values["slope"] = float(lines.network.slope)
        arrays["basis"] = lines.network.basis
        arrays |= {f"network.{name}": lines.network.tensors[name] for name in _NETWORK}
    if model.cold is not None:
        cold, drugs = model.cold, model.cold.model
        values["cold"] = {"known_line": cold.known_line, "new_line": cold.new_line}
        arrays |= {
            "cold.columns": cold.columns,
            "cold.fingerprints": drugs.structures.fingerprints,
            "cold.descriptors": drugs.structures.descriptors,
            "cold.profiles": drugs.profiles,
        }
        if drugs.correction is not None:
            values["graphs"] = {"slope": drugs.correction.slope, "unit": drugs.correction.unit}
            arrays |= {f"graphs.{name}": value for name, value in drugs.correction.tensors.items()}
    return values, arrays


def unpack(values: Any, arrays: Arrays, lines: int, drugs: int, trees: int, seed: int) -> ResponseModel:
    """Return the model that :func:`pack` wrote; ValueError, KeyError or TypeError if it is inconsistent."""
    scale = DrugScale(checked(arrays, "drug_mean", (drugs,)), checked(arrays, "drug_spread", (drugs,)))
    centre = checked(arrays, "gene_centre", (-1,))
    spread = checked(arrays, "gene_spread", centre.shape)
    spread = np.where(spread >= _NOTHING, np.inf, spread)
    weights, intercept = checked(arrays, "weights", (len(centre), drugs)), checked(arrays, "intercept", (drugs,))
    network = None
    if "slope" in values:
        tensors = {name: np.ascontiguousarray(arrays[f"network.{name}"], np.float32) for name in _NETWORK}
        network = Network(checked(arrays, "basis", (len(centre), -1)), tensors, float(values["slope"]))
    residuals = checked(arrays, "residuals", (lines, drugs)).copy()
    residuals[checked(arrays, "measured", (lines, drugs)) == 0] = np.nan
    factors = {int(number): float(factor) for number, factor in values["factors"].items()}
    return ResponseModel(
        scale,
        LineModel(centre, spread, weights, intercept, network),
        checked(arrays, "left_out", (lines, drugs)),
        residuals,
        checked(arrays, "covariance", (drugs, drugs)),
        factors,
        _unpack_cold(values, arrays, scale, lines, trees, seed) if "cold" in values else None,
    )


def _unpack_cold(values: Any, arrays: Arrays, scale: DrugScale, lines: int, trees: int, seed: int) -> ColdDrugs:
    columns, bits = np.asarray(arrays["cold.columns"]), np.asarray(arrays["cold.fingerprints"])
    if columns.dtype != np.int64 or bits.dtype != np.uint8 or len(bits) != len(columns):
        raise ValueError("its fingerprints do not fit its drugs")
    structures = Structures(bits, checked(arrays, "cold.descriptors", (len(columns), -1)))
    profiles = checked(arrays, "cold.profiles", (len(columns), lines))
    model = DrugModel(structures, scale.mean[columns], scale.spread[columns], profiles, trees=trees, seed=seed)
    if "graphs" in values:
        prefix, about = "graphs.", values["graphs"]
        named = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        tensors = {name: np.ascontiguousarray(value, np.float32) for name, value in named.items()}
        model.correction = GraphCorrection(tensors, float(about["slope"]), float(about["unit"]))
    cold = values["cold"]
    return ColdDrugs(model, columns, float(cold["known_line"]), float(cold["new_line"]))
