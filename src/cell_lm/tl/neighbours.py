"""The nearest cells of a reference as evidence for a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.config import Precision
from cell_lm.data.obs.labels import read_labels
from cell_lm.data.opening import Data, open_data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, InputError
from cell_lm.model import CellLM
from cell_lm.tasks.annotation.nearest import nearest
from cell_lm.tasks.features import CACHE, Device, embed_cells
from cell_lm.tl.shared import Shown, about_cells, about_model, open_target, record_key, shown, target_of


def nearest_cells(
    adata: Data,
    reference: Data,
    model: CellLM | str | Path,
    *,
    k: int = 15,
    label: str | None = None,
    donor: str | None = None,
    key_added: str = "cell_lm_nearest",
    seed: int = 0,
    device: Device = None,
    precision: Precision = "float32",
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> pd.DataFrame | AnnData:
    """Return the nearest cells of a reference for each cell, by the cosine of CLS.

    Parameters
    ----------
    adata, reference
        Cells by human genes, files or stores. A view of another AnnData becomes one of its own.
    model
        The model, or the path of its folder.
    k
        Number of neighbours.
    label, donor
        Columns of ``obs`` of the reference to report.
    key_added
        Prefix of the new entries of an AnnData.
    seed
        Seed of the approximate search, for a reference of more than 20,000 cells; a smaller one is searched exactly.
    device, precision
        As in :func:`embed`.
    copy
        Return a copy with the result instead of the table, and leave ``adata`` unchanged.
    progress
        Show a progress bar; or a function that is called with the number of cells completed since the last call.
    **how
        How both are read; see :func:`embed`.

    Returns
    -------
    DataFrame or AnnData
        The copy with ``copy`` (for a file or a store: a new AnnData, without X). Otherwise ``k`` rows a cell, the
        nearest first: ``cell``, ``rank`` (from 1), ``neighbour`` (name), ``row`` (index in the reference), ``distance``
        (1 - cosine, 0 to 2), and ``label`` and ``donor`` where the columns were named. An AnnData also has new entries:

        ``obsm["cell_lm_nearest_distance"]``, ``obsm["cell_lm_nearest_row"]``
            float32 and int64 [cells, k].
        ``uns["cell_lm_nearest"]``
            What :func:`embed` records, ``reference`` (its name) and ``reference_cells``.

    Raises
    ------
    ConfigError
        ``k`` is below 1, a keyword is unknown, or there is no such device.
    InputError
        The reference has fewer than ``k`` cells or no such column, or cells cannot be read.
    """
    read = read_options(**how)
    record = record_key(adata, key_added, key_added)
    if k < 1:
        raise ConfigError(f"k is {k!r}", fix="Ask for at least 1 neighbour")
    model = model if isinstance(model, CellLM) else CellLM.from_pretrained(model)
    cells, others = open_target(adata, model.vocabulary, read), open_data(reference, model.vocabulary, read)
    if len(others) < k:
        found = f"the reference has {len(others):,} cells, fewer than k = {k}"
        raise InputError(found, where=others.name, fix="Lower k")
    columns = _columns(others, {"label": label, "donor": donor})
    with shown(progress, len(cells) + len(others), "embedding") as done:
        options: dict[str, Any] = {"device": device, "precision": precision, "cache": CACHE, "progress": done}
        found_cells = nearest(embed_cells(model, cells, **options), embed_cells(model, others, **options), k, seed=seed)
    if copy or isinstance(adata, AnnData):
        about = about_cells(cells, read) | about_model(model, device, precision)
        target = target_of(adata, cells, copy=copy)
        target.obsm[f"{key_added}_distance"] = found_cells.distances
        target.obsm[f"{key_added}_row"] = found_cells.rows
        target.uns[record] = about | {"key": key_added, "reference": others.name, "reference_cells": len(others)}
        if copy:
            return target
    rows = found_cells.rows.ravel()
    table = {
        "cell": np.repeat(cells.index.astype(str).to_numpy(object), k),
        "rank": np.tile(np.arange(1, k + 1), len(cells)),
        "neighbour": others.index.astype(str).to_numpy(object)[rows],
        "row": rows,
        "distance": found_cells.distances.ravel(),
    }
    return pd.DataFrame(table | {name: values[rows] for name, values in columns.items()})


def _columns(cells: CellView, names: dict[str, str | None]) -> dict[str, Any]:
    wanted = {kind: name for kind, name in names.items() if name is not None}
    obs = cells.obs(list(wanted.values()))
    return {kind: read_labels(obs, name, where=cells.name).text for kind, name in wanted.items()}
