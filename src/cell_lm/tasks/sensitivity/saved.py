"""What a fit learned as plain values and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_lm.files import JSON
from cell_lm.tasks.estimator import Arrays, checked
from cell_lm.tasks.sensitivity.components import Components
from cell_lm.tasks.sensitivity.fitting import Fit
from cell_lm.tasks.sensitivity.learning import Learned
from cell_lm.tasks.sensitivity.self_training import Line


def pack(learned: Learned) -> tuple[dict[str, JSON], dict[str, NDArray[Any]]]:
    """Return what was learned as values and arrays."""
    found = learned.fit
    arrays: dict[str, NDArray[Any]] = {"coefficients": found.line.coefficients, "spreads": learned.spreads}
    for name, space in (("genes", learned.genes), ("encoder", learned.encoder)):
        if space is not None:
            arrays |= {
                f"{name}.genes": space.genes,
                f"{name}.mean": space.mean,
                f"{name}.directions": space.directions,
            }
    values: dict[str, JSON] = {
        "intercept": found.line.intercept,
        "slope": found.slope,
        "shift": found.intercept,
        "prevalence": found.prevalence,
        "separation": found.separation,
        "calibrated": found.calibrated,
        "losses": [list(each) for each in found.losses],
    }
    return values, arrays


def unpack(values: Mapping[str, Any], arrays: Arrays) -> Learned:
    """Return what :func:`pack` wrote; ValueError, KeyError or TypeError if it is inconsistent."""
    genes, encoder = (_restored(arrays, name) for name in ("genes", "encoder"))
    widths = [len(space.directions) for space in (genes, encoder) if space is not None]
    if not widths:
        raise ValueError("it has no components")
    line = Line(checked(arrays, "coefficients", (sum(widths),)), float(values["intercept"]))
    spreads = checked(arrays, "spreads", (0 if genes is None else len(genes.genes),))
    slope, shift, prevalence, separation = (
        float(values[name]) for name in ("slope", "shift", "prevalence", "separation")
    )
    losses = tuple((int(number), bool(kind), float(loss)) for number, kind, loss in values["losses"])
    columns = np.arange(sum(widths))
    found = Fit(columns, line, slope, shift, prevalence, separation, values["calibrated"], losses)
    return Learned(found, genes, encoder, spreads)


def _restored(arrays: Arrays, name: str) -> Components | None:
    """Return components that were saved under a name; None if there are none."""
    if f"{name}.genes" not in arrays:
        return None
    genes = arrays[f"{name}.genes"]
    if genes.dtype != np.int64 or genes.ndim != 1:
        raise ValueError(f"'{name}.genes' are not whole numbers in a row")
    mean = checked(arrays, f"{name}.mean", (len(genes),))
    return Components(genes, mean, checked(arrays, f"{name}.directions", (-1, len(genes))))
