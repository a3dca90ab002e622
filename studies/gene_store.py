"""Results and gene vectors stored in a folder, each under the hash of its settings.

Several processes can share the folder: a process that needs a result of another process waits for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cell_lm.files import JSON, atomic_file, write_json


@dataclass(frozen=True, eq=False)
class Vectors:
    """``values``: float32 [genes, width], 0 where not known; ``known``: bool [genes]."""

    values: NDArray[np.float32]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, values: NDArray[np.float32], known: NDArray[np.bool_] | None = None) -> Vectors:
        """Scale to standard deviation 1; unless said otherwise, a gene is known whose vector is not 0."""
        known = np.any(values != 0, axis=1) if known is None else known
        spread = float(values[known].std()) if known.any() else 0.0
        return cls(np.where(known[:, None], values / (spread or 1.0), 0).astype(np.float32), known)


class ResultStore:
    """A folder of ``NAME-HASH.json`` and ``NAME-HASH.safetensors``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "locks").mkdir(parents=True, exist_ok=True)

    def result(self, name: str, settings: Mapping[str, JSON], make: Callable[[], dict[str, JSON]]) -> dict[str, JSON]:
        """Return what ``make`` once returned under these settings, or have it made and keep it."""
        path = self.path(name, settings, "json")
        with self._alone(path):
            if not path.is_file():
                write_json(path, cast("JSON", {"settings": dict(settings), "result": make()}))
            result: dict[str, JSON] = json.loads(path.read_text(encoding="utf-8"))["result"]
            return result

    def vectors(self, name: str, settings: Mapping[str, JSON], make: Callable[[], Vectors]) -> Vectors:
        """Return vectors likewise; in float16, which is what ships, whether they were made now or before."""
        path = self.path(name, settings, "safetensors")
        with self._alone(path):
            if not path.is_file():
                made = make()
                with atomic_file(path) as temporary:
                    save_file({"values": made.values.astype(np.float16), "known": made.known}, temporary)
            content = load_file(path)
        return Vectors(content["values"].astype(np.float32), content["known"])

    def path(self, name: str, settings: Mapping[str, JSON], ending: str) -> Path:
        text = json.dumps(settings, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.folder / f"{name.replace(' ', '_')}-{key}.{ending}"

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        with (self.folder / "locks" / f"{path.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
