"""The training log: reading it, smoothing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.reading import parse_json

CURVES = {
    "total": ("Total loss", False),
    "masked": ("Masked genes: loss", False),
    "masked_accuracy": ("Masked genes: right bins", True),
    "discrimination": ("Tumour or normal: loss", False),
    "discrimination_accuracy": ("Tumour or normal: right cells", True),
    "contrastive": ("Two views of a cell: contrastive loss", False),
    "reconstruction": ("Other view from CLS: squared error", False),
    "learning_rate": ("Learning rate", False),
    "norm": ("Gradient norm", False),
    "cells_per_second": ("Cells per second", False),
}
"""Column of the log: title, and whether it is a fraction."""

KINDS = ("train", "valid")
MOST_POINTS = 600
"""Most points of a curve; a longer log is averaged over spans of steps."""


def read_history(log_jsonl: str | Path) -> pd.DataFrame:
    """Read the ``log.jsonl`` of a run.

    If a resumed run logged some steps twice, the later row is used. A truncated last line (the run is still writing, or
    was killed) is left out; damage anywhere else is an error.

    Parameters
    ----------
    log_jsonl
        The file, or the run folder that holds it.

    Returns
    -------
    pd.DataFrame
        One row per line, sorted by step: ``kind`` (``train``, ``valid``), ``step`` and a column for every other key
        (``total``, ``masked_accuracy``, ``cells_per_second``, ...), numbers as float with NaN for null. Notes are left
        out.

    Raises
    ------
    InputError
        No such file, a line that is not JSON, or no training step at all.
    """
    path = Path(log_jsonl)
    path = path / "log.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fix = "Give the run folder of cell-lm pretrain"
        raise InputError(f"cannot be read as a training log ({error})", where=str(path), fix=fix) from None
    rows = [row for row in _rows(lines, path) if row.get("kind") in KINDS]
    if not rows:
        raise InputError("holds no training step", where=str(path), fix="Let the run go on for at least one step")
    frame = pd.DataFrame(rows)
    numbers = [column for column in frame.columns if column != "kind"]
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    frame = frame.drop_duplicates(["kind", "step"], keep="last").sort_values(["step", "kind"], ignore_index=True)
    return frame.astype({"step": np.int64, **{name: np.float64 for name in numbers if name != "step"}})


def _rows(lines: list[str], path: Path) -> list[dict[str, object]]:
    rows = list[dict[str, object]]()
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and _is_step(row.get("step")):
            rows.append(dict(row))
        elif number < len(lines):
            fix = "Restore the log, or take the line out"
            raise InputError(f"line {number} of {len(lines)} is damaged", where=str(path), fix=fix)
    return rows


def _is_step(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def column(history: pd.DataFrame, kind: str, name: str) -> pd.DataFrame:
    """Return the defined values of one curve: columns ``step`` and ``value``, empty where there are none."""
    if name not in history:
        return pd.DataFrame({"step": np.empty(0, np.int64), "value": np.empty(0)})
    rows = history[(history["kind"] == kind) & np.isfinite(history[name])]
    return pd.DataFrame({"step": rows["step"].to_numpy(), "value": rows[name].to_numpy()})


def thinned(curve: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Average a curve over equal spans of rows until at most ``most`` points are left."""
    span = -(-len(curve) // most)
    if span <= 1:
        return curve
    return curve.groupby(np.arange(len(curve)) // span)[["step", "value"]].mean()


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a centred running mean over a twenty-fifth of the curve; the window is shorter at the ends."""
    window = max(1, len(values) // 25) | 1
    running = pd.Series(values).rolling(window, center=True, min_periods=1).mean()
    return running.to_numpy(dtype=np.float64)


def last(history: pd.DataFrame, name: str) -> tuple[float, str] | None:
    """Return the final value of a curve and its kind: validation if there is one, else the mean of the last steps."""
    for kind in ("valid", "train"):
        values = column(history, kind, name)["value"]
        if len(values):
            return float(values.iloc[-1] if kind == "valid" else values.iloc[-10:].mean()), kind
    return None
