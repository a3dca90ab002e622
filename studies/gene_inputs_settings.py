"""The settings that a result of ``studies.gene_inputs`` depends on, in addition to arm, seed and cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cell_lm.files import JSON

PROTOCOL = 1
"""Goes up with every change of what is done under the same settings: older results are then not mixed with new ones."""


@dataclass(frozen=True)
class Settings:
    """The same for all arms of a study.

    Attributes
    ----------
    cells
        Seen in pretraining.
    encoder
        ``small`` or ``light``.
    max_genes
        Of a cell that ``small`` reads.
    targets
        Data sets that the probes judge.
    shots, draws
        Labelled cells of each type, and how often they are drawn anew.
    batch
        Cells a step.
    validation
        Share of the pretraining cells that is held out.
    protocol
        Of the benchmark.
    """

    cells: int
    encoder: str
    max_genes: int
    targets: tuple[str, ...]
    shots: tuple[int, ...] = (1, 5, 10, 20)
    draws: int = 5
    batch: int = 128
    validation: float = 0.05
    protocol: int = PROTOCOL

    def to_json(self) -> dict[str, JSON]:
        return {**asdict(self), "targets": list(self.targets), "shots": list(self.shots)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Settings:
        """Read what :meth:`to_json` gave; other keys are passed over."""
        own = {key: values[key] for key in cls.__dataclass_fields__}
        return cls(**own | {"targets": tuple(own["targets"]), "shots": tuple(own["shots"])})

    @staticmethod
    def key(values: Mapping[str, JSON]) -> str:
        """Return ten hexadecimal digits that tell settings apart."""
        return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:10]
