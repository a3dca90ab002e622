"""The log of a run: one JSON object per line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from cell_lm.engine.board import quiet_writer_threads
from cell_lm.engine.disk import writing
from cell_lm.files import JSON, atomic_file
from cell_lm.reading import parse_json

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG, TENSORBOARD = "log.jsonl", "tensorboard"
Kind = Literal["train", "valid"]
_BEFORE_THE_FIRST = -1
"""A step before all rows: a run without a finished step starts its log anew, with the validation before step 1."""


class Log(Protocol):
    """Receives the metrics and notes of a run."""

    def metrics(self, kind: Kind, step: int, metrics: Mapping[str, float]) -> None:
        """Write numbers measured after ``step`` steps, by name."""

    def note(self, step: int, message: str) -> None:
        """Write a message."""

    def sync(self) -> None:
        """Flush all of it to the disk."""


class SilentLog:
    """The log of the ranks that do not write."""

    def metrics(self, kind: Kind, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def note(self, step: int, message: str) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_log(path: Path) -> list[dict[str, JSON]]:
    """Return the rows of a ``log.jsonl``; an incomplete line of a killed process is left out."""
    rows: list[dict[str, JSON]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _step(row: Mapping[str, JSON]) -> float:
    step = row.get("step")
    return step if isinstance(step, int) else math.inf


def truncate(path: Path, step: int) -> None:
    """Drop the rows after ``step``, atomically: a resumed run writes them again."""
    rows = [row for row in read_log(path) if _step(row) <= step]
    with writing(path), atomic_file(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class RunLog:
    """``log.jsonl`` (flushed after every row) and ``tensorboard/`` of a run folder.

    Rows have ``kind`` (``train``, ``valid``, ``note``) and ``step`` (steps done). The first two hold the metrics of the
    training, ``total`` among them, and ``seconds`` (since the run started, over all its sessions); ``train`` also
    ``learning_rate``, ``norm`` (of the gradient, before clipping) and the examples per second (``cells_per_second``); a
    ``note`` has a ``message``. A number that is not finite is null.

    Parameters
    ----------
    folder
        The run folder.
    done
        Steps of the checkpoint to resume from: later rows are dropped; without a checkpoint, all rows.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        self.path, self.folder, self.done = folder / LOG, folder / TENSORBOARD, done
        self._file: FileIO | None = None
        self._board: SummaryWriter | None = None

    def __enter__(self) -> RunLog:
        from torch.utils.tensorboard import SummaryWriter

        quiet_writer_threads()
        truncate(self.path, self.done or _BEFORE_THE_FIRST)
        with writing(self.folder):
            self._file = self.path.open("ab", buffering=0)
            self._board = SummaryWriter(str(self.folder), purge_step=self.done + 1 if self.done else 0)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Close both; an error of the disk here must not hide an earlier error."""
        file, board = self._file, self._board
        self._file = self._board = None
        try:
            if file is not None:
                file.close()
            if board is not None:
                with writing(self.folder):
                    board.close()
        except Exception:
            if error is None:
                raise

    def metrics(self, kind: Kind, step: int, metrics: Mapping[str, float]) -> None:
        """Write numbers measured after ``step`` steps, by name."""
        row = {name: _finite(value) for name, value in metrics.items()}
        self._write({"kind": kind, "step": step, **row})
        if self._board is not None:
            with writing(self.folder):
                for name, value in row.items():
                    if value is not None:
                        self._board.add_scalar(f"{name}/{kind}", value, step)

    def note(self, step: int, message: str) -> None:
        """Write a message."""
        self._write({"kind": "note", "step": step, "message": message})

    def _write(self, row: Mapping[str, JSON]) -> None:
        if self._file is None:
            raise RuntimeError("the log is not open")
        line = memoryview((json.dumps(row, allow_nan=False) + "\n").encode())
        with writing(self.path):
            while line:
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Flush all of it to the disk: no checkpoint may be ahead of its log."""
        if self._file is not None and self._board is not None:
            with writing(self.path):
                os.fsync(self._file.fileno())
                self._board.flush()
