"""Tumour or normal: calls for the cells of an AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.config import Precision
from cell_lm.data.opening import Data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.model import CellLM
from cell_lm.tasks.features import Device
from cell_lm.tasks.folder import MANIFEST
from cell_lm.tasks.malignancy import MalignancyClassifier, pretrained_table
from cell_lm.tasks.malignancy.pretrained import trained_head
from cell_lm.terminal import refuse_uncallable
from cell_lm.tl.shared import (
    Shown,
    about_cells,
    about_classifier,
    about_model,
    open_target,
    record_key,
    shown,
    target_of,
)

KEY = "cell_lm_malignancy"
_COLUMNS = {"probability": "", "call": "_call", "uncertain": "_uncertain", "unlike": "_unlike"}
"""Columns of the table of calls, and what is added to the key for each in ``obs``."""


def malignancy(
    adata: Data,
    model: MalignancyClassifier | CellLM | str | Path,
    *,
    key_added: str = KEY,
    certainty: float = 0.9,
    device: Device = None,
    precision: Precision | None = None,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Call cells tumour or normal.

    With a fitted :class:`~cell_lm.tasks.malignancy.MalignancyClassifier` (or its folder) the probability is calibrated,
    and cells unlike those of the fit are marked. With a pretrained model (or its folder, or that of a run) it is that
    of the discrimination head: not calibrated, and nothing is known of how unlike the cells are.

    Parameters
    ----------
    adata
        Cells by human genes. A view of another AnnData becomes one of its own. Also the path of a file of cells, or a
        store (or its path): the result is then a new AnnData.
    model
        The classifier or model, or the path of its folder.
    key_added
        Prefix of the new columns, and key in ``uns``.
    certainty
        Of a pretrained model only: a call of lower probability is uncertain. A classifier has its own.
    device, precision
        As in :func:`embed`; None: those of the classifier.
    copy
        Return a copy with the result and leave ``adata`` unchanged.
    progress
        Show a progress bar; or a function that is called with the number of cells completed since the last call.
    **how
        How the cells are read; see :func:`embed`.

    Returns
    -------
    AnnData or None
        As :func:`annotate`. New entries:

        ``obs["cell_lm_malignancy"]``
            float64: probability of being a tumour cell.
        ``obs["cell_lm_malignancy_call"]``, ``obs["cell_lm_malignancy_uncertain"]``
            The call (categorical, ``normal`` or ``tumour``), and whether it is doubtful (bool).
        ``obs["cell_lm_malignancy_unlike"]``
            With a classifier: whether the cell is unlike those of the fit (bool).
        ``uns["cell_lm_malignancy"]``
            ``source`` (``"classifier"`` or ``"pretrained head"``), ``calibrated`` (on left-out ``"donors"`` or
            ``"cells"``, or ``"no"``), ``tumour_cells`` and ``normal_cells`` of the fit, ``unlike`` (fraction of these
            cells), and everything that :func:`embed` records.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are.
    ModelError
        The classifier or model is missing or damaged, or its discrimination head was not trained.

    Warns
    -----
    DissimilarCellsWarning
        More than a quarter of the cells are unlike those of the fit.
    """
    refuse_uncallable(progress, flag=True)
    read = read_options(**how)
    record = record_key(adata, key_added, key_added)
    given, path = opened(model)
    if isinstance(given, MalignancyClassifier):
        given = given.placed(device, precision)
        _ = given.reference_  # before the slow steps
    else:
        trained_head(given, path or "the model")
    cells = open_target(adata, given.vocabulary, read)
    found: dict[str, Any] = about_cells(cells, read) | {"key": key_added}
    with shown(progress, len(cells), "calling") as done:
        if isinstance(given, MalignancyClassifier):
            table = given.table(cells, progress=done)
            found |= about_model(given.resolved_model, given.device, given.precision)
            found |= about_classifier(given, path, cells)
            found |= _about_fit(given, table)
        else:
            wanted = precision or "float32"
            table = pretrained_table(given, cells, certainty=certainty, device=device, precision=wanted, progress=done)
            found |= about_model(given, device, wanted) | {"model_path": path} | _about_head(given)
    target = target_of(adata, cells, copy=copy)
    for column, suffix in _COLUMNS.items():
        if column in table:  # by position: names of cells need not be unique
            values = table[column]
            target.obs[key_added + suffix] = pd.Categorical(values) if column == "call" else values.to_numpy()
    target.uns[record] = found
    return None if target is adata else target


def opened(model: MalignancyClassifier | CellLM | str | Path) -> tuple[MalignancyClassifier | CellLM, str]:
    """Return a classifier or a model and, where its folder was given, the path of that."""
    if isinstance(model, MalignancyClassifier | CellLM):
        return model, ""
    if (Path(model) / MANIFEST).is_file():
        return MalignancyClassifier.load(model), str(model)
    return CellLM.from_pretrained(model), str(model)


def _about_fit(classifier: MalignancyClassifier, table: pd.DataFrame) -> dict[str, Any]:
    sizes = classifier.cells_per_class_
    return {
        "source": "classifier",
        "calibrated": f"left-out {classifier.likeness_.unit}s",
        "certainty": classifier.certainty,
        "tumour_cells": sizes["tumour"],
        "normal_cells": sizes["normal"],
        "unlike_rate": classifier.likeness_.rate,
        "unlike": float(np.mean(table["unlike"])),
    }


def _about_head(model: CellLM) -> dict[str, Any]:
    seen = trained_head(model, "the model")
    return {
        "source": "pretrained head",
        "calibrated": "no",
        "tumour_cells": seen.tumour,
        "normal_cells": seen.normal,
    }
