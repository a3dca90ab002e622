"""Units of drug response, and how other scales of the IC50 become ln µM.

Everything is learned and predicted in ``ln_ic50``, the natural logarithm of the half-maximal inhibitory concentration
in µM (GDSC's LN_IC50), or in ``auc``, the area under the dose-response curve as a fraction, 1 being no effect.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.remedies import option

Unit: TypeAlias = Literal["ln_ic50", "auc"]
Scale: TypeAlias = Literal["ln_ic50", "auc", "ic50", "ic50_nm", "log10_ic50", "pic50"]
"""What a column holds: ln of µM, a fraction, µM, nM, log10 of µM, or -log10 of mol/l."""

LARGEST_LN = 25.0
"""No |ln IC50| in µM is above this: e^25 µM is 72,000 mol/l, and e^-25 µM less than a molecule in a well."""
LARGEST_AUC = 2.0
"""PRISM's curves may rise above the control, so that some areas are a little above 1."""
_FEW = 20
"""Fewer values than this are not checked by their range alone."""


def unit_of(scale: Scale) -> Unit:
    """Return the unit that values of a scale have after :func:`to_unit`."""
    return "auc" if scale == "auc" else "ln_ic50"


def to_unit(values: NDArray[np.float64], scale: Scale, *, where: str) -> NDArray[np.float64]:
    """Return finite values in ln µM, or as the area under the curve.

    Raises
    ------
    InputError
        They cannot be on the stated scale; the message names the likely one.
    """
    if scale in ("ic50", "ic50_nm"):
        bad = int((values <= 0).sum())
        if bad:
            found = f"{bad:,} of {len(values):,} concentrations are zero or negative, the lowest {values.min():g}"
            fix = f"If they are logarithms, say {option('scale', 'ln_ic50')} or {option('scale', 'log10_ic50')}"
            raise InputError(found, where=where, fix=fix)
        values = np.log(values) - (math.log(1e3) if scale == "ic50_nm" else 0.0)
    elif scale == "log10_ic50":
        values = values * math.log(10)
    elif scale == "pic50":
        values = (6.0 - values) * math.log(10)
    refuse = _refuse_auc if scale == "auc" else _refuse_ln
    refuse(values, scale, where)
    return values


def _refuse_ln(values: NDArray[np.float64], scale: Scale, where: str) -> None:
    beyond = int((np.abs(values) > LARGEST_LN).sum())
    if beyond:
        extreme = values[np.abs(values).argmax()]
        found = (
            f"{beyond:,} of {len(values):,} responses cannot be ln IC50 in µM: the most extreme is {extreme:.4g}, "
            f"beyond {LARGEST_LN:g}"
        )
        if scale != "ln_ic50":
            found += f" after it was read as {scale}"
        fix = f"Say what the column holds by {option('scale')}: ic50 (µM), ic50_nm, log10_ic50, pic50 or auc"
        raise InputError(found, where=where, fix=fix)
    if scale == "ln_ic50" and len(values) >= _FEW and values.min() >= 0 and values.max() <= 1.5:
        found = f"all {len(values):,} responses lie between {values.min():.3g} and {values.max():.3g}"
        fix = f"If they are areas under the curve, say {option('scale', 'auc')}"
        raise InputError(f"{found}, which no ln IC50 in µM of many lines does", where=where, fix=fix)


def _refuse_auc(values: NDArray[np.float64], scale: Scale, where: str) -> None:  # noqa: ARG001
    beyond = int(((values < 0) | (values > LARGEST_AUC)).sum())
    if beyond:
        found = f"{beyond:,} of {len(values):,} responses are no area under a curve: below 0 or above {LARGEST_AUC:g}"
        fix = f"Name the column of the area, or say {option('scale', 'ln_ic50')} if it holds logarithms"
        raise InputError(f"{found} (from {values.min():.3g} to {values.max():.3g})", where=where, fix=fix)
