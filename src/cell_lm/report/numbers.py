"""Number formats of the page. An undefined value (None, NaN) is an en dash."""

from __future__ import annotations

import math

from cell_lm.evaluation.intervals import Interval
from cell_lm.plots.style import compact

NONE = "–"
_GAP = "\u00a0"
"""A non-breaking space."""


def _undefined(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def count(value: float | None) -> str:
    """Write a whole number with thousands separators, as ``12,345``."""
    return NONE if value is None or _undefined(value) else f"{round(value):,}"


def score(value: float | None, digits: int = 3) -> str:
    """Write a score in [0, 1] or a coordinate of the geometry with three decimals, as ``0.934``."""
    if value is None or _undefined(value):
        return NONE
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def interval(value: Interval | None, *, signed: bool = False) -> str:
    """Write a score with its interval, as ``0.934 (0.921 to 0.946)``; a difference with its sign."""
    if value is None or _undefined(value.mean):
        return NONE
    mean, low, high = (_signed(each) if signed else score(each) for each in (value.mean, value.low, value.high))
    return f"{mean} ({low} to {high})".replace(" ", _GAP)


def _signed(value: float) -> str:
    text = score(value)
    return text if text[0] in f"−{NONE}" or not float(text) else f"+{text}"


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction as percent, as ``93.4 %``; a fraction below 1 never becomes 100 %, one above 0 never 0 %."""
    if value is None or _undefined(value):
        return NONE
    step = 10.0**-digits
    if 0 < value * 100 < step / 2:
        return f"<{_GAP}{step:g}{_GAP}%"
    if 100 - step / 2 <= value * 100 < 100:
        return f">{_GAP}{100 - step:g}{_GAP}%"
    return f"{value * 100:.{digits}f}{_GAP}%"


def amount(value: float | None) -> str:
    """Write a large number in short form, as ``5.42M``."""
    return NONE if value is None or _undefined(value) else compact(value)


def size(value: float) -> str:
    """Write a number of bytes in the unit that fits, as ``7.01 GB``."""
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB")) if value >= u), (1e3, "kB"))
    return f"{value / unit:.3g}{_GAP}{name}"


def duration(seconds: float | None) -> str:
    """Write a time in its two largest units, as ``6 min 12 s``."""
    if seconds is None or _undefined(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.1f}{_GAP}s"
    whole = round(seconds)
    for size, unit, part_size, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size}{_GAP}{unit} {whole % size // part_size}{_GAP}{part}"
    return f"{whole}{_GAP}s"
