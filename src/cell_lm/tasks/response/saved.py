"""The fitted model as plain values and arrays, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.files import JSON
from cell_lm.tasks.estimator import Arrays, checked
from cell_lm.tasks.response import packing
from cell_lm.tasks.response.core import ColdDrugs, ResponseModel
from cell_lm.tasks.response.drugs import DrugModel, Structures
from cell_lm.tasks.response.impute import DrugScale


def pack(model: ResponseModel) -> tuple[dict[str, JSON], dict[str, NDArray[Any]]]:
    """Return the model as values and arrays."""
    lines, measured = packing.pack_lines(model.lines), np.isfinite(model.residuals)
    arrays: dict[str, NDArray[Any]] = {
        "drug_mean": model.scale.mean,
        "drug_spread": model.scale.spread,
        **lines.arrays,
        "left_out": model.left_out,
        "residuals": np.where(measured, model.residuals, 0.0),
        "measured": measured.astype(np.float64),
        "covariance": model.covariance,
    }
    values: dict[str, JSON] = {"factors": packing.pack_factors(dict(model.factors)), **lines.values}
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
            graphs = packing.pack_graphs(drugs.correction)
            values["graphs"] = dict(graphs.values)
            arrays |= graphs.arrays
    return values, arrays


def unpack(values: Any, arrays: Arrays, lines: int, drugs: int, trees: int, seed: int) -> ResponseModel:
    """Return the model that :func:`pack` wrote; ValueError, KeyError or TypeError if it is inconsistent."""
    scale = DrugScale(checked(arrays, "drug_mean", (drugs,)), checked(arrays, "drug_spread", (drugs,)))
    residuals = checked(arrays, "residuals", (lines, drugs)).copy()
    residuals[checked(arrays, "measured", (lines, drugs)) == 0] = np.nan
    return ResponseModel(
        scale,
        packing.unpack_lines(values, arrays, drugs),
        checked(arrays, "left_out", (lines, drugs)),
        residuals,
        checked(arrays, "covariance", (drugs, drugs)),
        packing.unpack_factors(values["factors"]),
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
        model.correction = packing.unpack_graphs(values["graphs"], arrays)
    cold = values["cold"]
    return ColdDrugs(model, columns, float(cold["known_line"]), float(cold["new_line"]))
