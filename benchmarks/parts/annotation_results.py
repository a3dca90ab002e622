"""The file of results of :mod:`benchmarks.annotation`, one line of JSON a method and case, and what follows from it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parts.annotation_tasks import FEW
from cell_lm.errors import InputError
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.files import JSON

Record = dict[str, Any]
Key = tuple[str, str, str, str]
"""Task, setting, part, method."""
OURS = "ours"
SECONDS = ("fit_s", "predict_s")
SEE_QUERY = ("pca_all_lr", "scanvi")
"""Peers that see the counts of the query in the fit."""


def key(record: Mapping[str, Any]) -> Key:
    return record["task"], record["setting"], record["part"], record["method"]


class Results:
    """Results by key; a later line replaces an earlier one of the same key.

    Parameters
    ----------
    path
        The file; None: in memory only. A last line that was cut off when a run ended is left out.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.records: dict[Key, Record] = {}
        if path is not None and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines, 1):
                record = _parsed(line, last=number == len(lines), where=f"{path}: line {number}")
                if record is not None:
                    self.records[key(record)] = record

    def done(self, of: Key) -> bool:
        """Return whether there is a score; what failed is tried again."""
        return "macro_f1" in self.records.get(of, {})

    def forget(self, methods: Collection[str]) -> None:
        """Leave out the results of some methods; new ones replace them in the file as they come."""
        self.records = {of: record for of, record in self.records.items() if of[-1] not in methods}

    def add(self, record: Record) -> None:
        """Append a line, at once and on disk."""
        self.records[key(record)] = record
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        drop_cut_line(self.path)
        with self.path.open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def drop_cut_line(path: Path) -> None:
    """Remove a last line without an end: it was cut off as it was written."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def _parsed(line: str, *, last: bool, where: str) -> Record | None:
    if not line.strip():
        return None
    try:
        record = json.loads(line)
        key(record)
    except (ValueError, KeyError, TypeError):
        if last:
            return None
        fix = "Remove this line, or name another file with --out"
        raise InputError("this is not a result of benchmarks.annotation", where=where, fix=fix) from None
    return dict(record)


Parts = dict[str, Record]
Table = dict[tuple[str, str], dict[str, Parts]]
"""Task and setting, then method, then part."""


def table(records: Iterable[Record]) -> Table:
    found: Table = {}
    for record in records:
        if "macro_f1" in record:
            methods = found.setdefault((record["task"], record["setting"]), {})
            methods.setdefault(record["method"], {})[record["part"]] = record
    return found


def by_unit(parts: Parts, figure: str) -> list[float]:
    """Return the mean of a figure of each unit: of each donor over its draws, or of each seed."""
    units: dict[str, list[float]] = {}
    for record in parts.values():
        if record[figure] is not None:
            units.setdefault(record["unit"], []).append(record[figure])
    return [float(np.mean(values)) for values in units.values()]


def scores(parts: Parts) -> dict[str, JSON]:
    """Return the figures of a method in a task and setting."""
    told = mean_interval(by_unit(parts, "macro_f1"))
    over = "donors" if any("donor" in record["unit"] for record in parts.values()) else "seeds"
    ece = by_unit(parts, "ece")
    return {
        "macro_f1": round(told.mean, 4),
        "interval": told.bounds() if told.n > 1 else None,
        "over": f"{told.n} {over}",
        "cases": len(parts),
        "accuracy": round(float(np.mean(by_unit(parts, "accuracy"))), 4),
        "ece": round(float(np.mean(ece)), 4) if ece else None,
        **{name: round(float(np.median([record[name] for record in parts.values()])), 2) for name in SECONDS},
    }


def difference(first: Parts, second: Parts) -> float | None:
    """Return the mean difference in points on the parts that both have; None where the second lacks one."""
    if not set(first) <= set(second):
        return None
    units: dict[str, list[float]] = {}
    for part, record in first.items():
        units.setdefault(record["unit"], []).append(100 * (record["macro_f1"] - second[part]["macro_f1"]))
    return float(np.mean([np.mean(values) for values in units.values()]))


def is_ours(method: str) -> bool:
    return method == OURS or method.startswith(f"{OURS}_")


def against(methods: Mapping[str, Parts], ours: str, rivals: Collection[str] | None) -> float | None:
    """Return ours minus the best of some peers (None: all) with answers to its cases; None where there is none."""
    if ours not in methods:
        return None
    peers = [name for name in methods if not is_ours(name) and (rivals is None or name in rivals)]
    known = [each for name in peers if (each := difference(methods[ours], methods[name])) is not None]
    return min(known) if known else None


def incomplete(methods: Mapping[str, Parts]) -> list[str]:
    """Return the peers that have not answered all cases of ours, so that no margin counts them."""
    ours = set(methods.get(OURS, ()))
    return sorted(name for name, parts in methods.items() if not is_ours(name) and not ours <= set(parts))


def margins(found: Table, ours: str = OURS) -> dict[str, JSON]:
    """Return the margins of a method of ours in points, averaged over the tasks where both have answered."""

    return {
        "margin_best_peer": mean_margin(found, ours, None, ("all",)),
        "margin_best_peer_fewshot": mean_margin(found, ours, None, FEW),
        "margin_lr": mean_margin(found, ours, {"genes_lr"}, ("all",)),
        "margin_lr_fewshot": mean_margin(found, ours, {"genes_lr"}, FEW),
        "margin_scbert": mean_margin(found, ours, {"scbert"}, ("all",)),
    }


def mean_margin(found: Table, ours: str, rivals: Collection[str] | None, settings: Sequence[str]) -> float | None:
    """Return the margin over the best of some peers (None: of all) on each task, averaged over tasks and settings."""
    each = [against(methods, ours, rivals) for (_, setting), methods in found.items() if setting in settings]
    known = [value for value in each if value is not None]
    return round(float(np.mean(known)), 2) if known else None


def by_setting(found: Table, ours: str) -> dict[str, JSON]:
    """Return, for each setting, the margins over the best peer of each task, of all or of those that do not see the
    query, and over every peer."""
    settings = dict.fromkeys(setting for _, setting in found)
    peers = dict.fromkeys(name for methods in found.values() for name in methods if not is_ours(name))
    blind = [peer for peer in peers if peer not in SEE_QUERY]
    return {
        setting: {
            "best_peer": mean_margin(found, ours, None, (setting,)),
            "best_peer_without_query": mean_margin(found, ours, blind, (setting,)),
            **{peer: mean_margin(found, ours, {peer}, (setting,)) for peer in peers},
        }
        for setting in settings
    }


def summary(records: Iterable[Record]) -> dict[str, JSON]:
    """Return the last line: every task, setting and method, the margins of ours, and what failed."""
    records = list(records)
    found = table(records)
    result: dict[str, JSON] = {
        f"{task}.{setting}.{method}": scores(parts)
        for (task, setting), methods in found.items()
        for method, parts in methods.items()
    }
    result |= margins(found)
    methods = dict.fromkeys(name for each in found.values() for name in each)
    result["margins"] = {name: margins(found, name) for name in methods if is_ours(name) and name != OURS}
    result["by_setting"] = {name: by_setting(found, name) for name in methods if is_ours(name)}
    result["worst"] = {
        f"{task}.{setting}": round(margin, 2)
        for (task, setting), each in found.items()
        if (margin := against(each, OURS, None)) is not None and margin < 0
    }
    result["not_in_margins"] = {
        f"{task}.{setting}": names for (task, setting), each in found.items() if (names := incomplete(each))
    }
    failed = {record["method"]: record["failed"] for record in records if "failed" in record}
    return result | {"failed": failed}
