"""Embedded cells of a file for the report: a map, its colours, its geometry, and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data import find_column, obs_column, read_h5ad
from cell_lm.errors import InputError
from cell_lm.evaluation.geometry import geometry
from cell_lm.report import Annotation, Embedding, Panel, project

MOST_CELLS = 10_000
"""Most cells on a map: more overlap, and take minutes."""
CONFIDENCE = "cell_lm_confidence"


@dataclass(frozen=True)
class ShownCells:
    """Cells with their embedding and the chosen columns.

    Attributes
    ----------
    name : str
        Name of the file.
    embedded : ndarray
        float [cells, width].
    obs : DataFrame
        One row per cell.
    label, malignancy, predicted : str or None
        Columns of ``obs``.
    """

    name: str
    embedded: NDArray[np.floating]
    obs: pd.DataFrame
    label: str | None
    malignancy: str | None
    predicted: str | None
    notes: Sequence[str] = field(default=())

    @classmethod
    def read(
        cls, path: Path, key: str, *, label: str | None, malignancy: str | None, predicted: str | None
    ) -> ShownCells:
        """Read a file that ``cell-lm embed`` wrote.

        Raises
        ------
        InputError
            It cannot be read, or lacks the embedding or a column.
        """
        adata = read_h5ad(path)
        if key not in adata.obsm:
            there = ", ".join(adata.obsm) or "nothing"
            found = f"obsm has no '{key}' (it has: {there})"
            raise InputError(found, where=str(path), fix="Run cell-lm embed on it first, or name another --key")
        for column in (label, malignancy, predicted):
            if column is not None:
                obs_column(adata.obs, column, where=str(path))
        rows = np.arange(adata.n_obs)
        notes = []
        if len(rows) > MOST_CELLS:
            rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CELLS, replace=False))
            notes.append(f"{MOST_CELLS:,} of {adata.n_obs:,} cells are shown, drawn at random")
        embedded = np.asarray(adata.obsm[key])[rows]
        return cls(path.name, embedded, adata.obs.iloc[rows], label, malignancy, predicted, notes)

    def embedding(self, explorer: str = "") -> Embedding:
        """Return map and geometry; ``explorer`` is the path to the explorer of these cells."""
        columns = [column for column in (self.label, self.malignancy, self.predicted) if column is not None]
        panels = [Panel(column, self.obs[column], on_map=column == self.label) for column in dict.fromkeys(columns)]
        labelled = self.obs[self.label].notna().to_numpy() if self.label else np.ones(len(self.obs), bool)
        labels = self.obs.loc[labelled, self.label] if self.label else None
        drawn = project(self.embedded)
        return Embedding(
            coordinates=drawn.coordinates,
            method=drawn.method,
            panels=tuple(panels),
            geometry={"cell-lm": geometry(self.embedded[labelled], labels=labels)},
            cells=f"{len(self.obs):,} cells of {self.name}",
            explorer=explorer,
        )

    def annotation(self) -> Annotation | None:
        """Return the scores of the predicted labels, if they are wanted; unlabelled cells are left out."""
        if self.predicted is None or self.label is None:
            return None
        known = self.obs[self.label].notna() & self.obs[self.predicted].notna()
        scored = self.obs[known]
        has_confidence = CONFIDENCE in scored
        return Annotation(
            truth=scored[self.label],
            predicted=scored[self.predicted],
            tested_on=f"{len(scored):,} cells of {self.name}",
            confidence=find_column(scored, CONFIDENCE, axis="obs", where=self.name).to_numpy(dtype=np.float64)
            if has_confidence
            else None,
        )
