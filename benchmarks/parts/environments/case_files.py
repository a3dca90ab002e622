"""What a peer in an environment of its own reads and writes. It imports nothing of this repository.

``counts.npz``: counts of the reference, then of the query, CSR [cells, genes]. ``case.json``: ``labels`` of the
reference, ``genes``, ``batch`` of all cells, ``seed``, ``folds`` (rows of the reference to fit on, and left out). A
peer writes ``NAME.csv`` with ``predicted`` and a column a class, and ``notes.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse


class Case:
    """The cells and labels of a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        told = json.loads((self.folder / "case.json").read_text())
        self.counts = sparse.csr_matrix(sparse.load_npz(self.folder / "counts.npz"), dtype=np.float32)
        self.labels = np.array(told["labels"], object)
        self.genes, self.batch, self.seed = told["genes"], told["batch"], told["seed"]
        self.folds = [(np.array(rest), np.array(out)) for rest, out in told["folds"]]

    @property
    def known(self) -> int:
        return len(self.labels)

    def log(self) -> sparse.csr_matrix:
        """Return log1p of counts per 10,000 of all cells."""
        totals = np.asarray(self.counts.sum(axis=1)).ravel()
        scaled = sparse.diags(1e4 / np.maximum(totals, 1e-9)) @ self.counts
        return sparse.csr_matrix(scaled.log1p(), dtype=np.float32)

    def write(self, name: str, predicted: Any, probabilities: Any = None, classes: Any = ()) -> None:
        columns = ["predicted", *map(str, classes)]
        with (self.folder / f"{name}.csv").open("w", newline="") as file:
            import csv

            writer = csv.writer(file)
            writer.writerow(columns)
            for number, label in enumerate(predicted):
                row = [] if probabilities is None else [f"{value:.6g}" for value in probabilities[number]]
                writer.writerow([label, *row])

    def note(self, **notes: Any) -> None:
        (self.folder / "notes.json").write_text(json.dumps(notes))
