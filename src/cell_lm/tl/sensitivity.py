"""Drug sensitivity of the cells of an AnnData: calls, transfer from bulk lines, and summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.data.obs.columns import obs_column
from cell_lm.data.opening import Data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.errors import InputError
from cell_lm.tasks.sensitivity import BulkSignature, DrugSensitivityClassifier, summarise
from cell_lm.tl.shared import (
    Shown,
    about_cells,
    about_classifier,
    about_model,
    loaded,
    open_target,
    record_key,
    shown,
    target_of,
)

KEY = "cell_lm_sensitivity"


def sensitivity(
    adata: Data,
    classifier: DrugSensitivityClassifier | str | Path,
    *,
    key_added: str = KEY,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Call cells sensitive or resistant.

    Parameters
    ----------
    adata
        Cells by human genes. A view of another AnnData becomes one of its own. Also the path of a file of cells, or a
        store (or its path): the result is then a new AnnData.
    classifier
        A fitted classifier, or the path of its folder.
    key_added
        Prefix of the new columns, and key in ``uns``.
    copy
        Return a copy with the result and leave ``adata`` unchanged.
    progress
        Show a progress bar; or a function that is called with the number of cells completed since the last call.
    **how
        How the cells are read; see :func:`embed`. ``scale="scaled"`` for z-scores.

    Returns
    -------
    AnnData or None
        As :func:`annotate`. New entries:

        ``obs["cell_lm_sensitivity"]``, ``obs["cell_lm_sensitivity_score"]``
            float64: probability of being sensitive, and its logit.
        ``obs["cell_lm_sensitivity_call"]``, ``obs["cell_lm_sensitivity_uncertain"]``
            The call (categorical), and whether its probability is below the classifier's ``certainty`` (bool).
        ``uns["cell_lm_sensitivity"]``
            ``sensitive`` (its label), ``prevalence`` (of the fit), ``prior`` (if it was stated), ``separation``,
            ``calibrated``, ``labelled`` and ``learned_from`` (cells of the fit with and without a label),
            ``reference_coverage``, and everything that :func:`embed` records.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are.
    ModelError
        The classifier is missing, damaged or not fitted.
    """
    read = read_options(**how)
    record = record_key(adata, key_added, key_added)
    classifier, path = loaded(classifier, DrugSensitivityClassifier)
    reference = classifier.reference_
    cells = open_target(adata, classifier.vocabulary, read)
    with shown(progress, len(cells), "calling") as done:
        table = classifier.table(cells, progress=done)
    found: dict[str, Any] = about_cells(cells, read)
    model = classifier.resolved_model
    if model is not None:
        found |= about_model(model, classifier.device, classifier.precision)
    found |= {
        "key": key_added,
        "sensitive": classifier.sensitive,
        "prevalence": classifier.prevalence_,
        "separation": classifier.separation_,
        "calibrated": classifier.fit_.calibrated,
        "labelled": reference.cells,
        "learned_from": classifier.learned_from_,
    }
    found |= about_classifier(classifier, path, cells)
    if classifier.prior is not None:
        found["prior"] = classifier.prior
    target = target_of(adata, cells, copy=copy)
    _write(target, table, key_added)
    target.uns[record] = found
    return None if target is adata else target


def sensitivity_transfer(
    adata: Data,
    signature: BulkSignature,
    *,
    prior: float | None = None,
    certainty: float = 0.9,
    refine: bool | None = None,
    key_added: str = KEY,
    copy: bool = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Score cells without any label by the response of bulk lines to a drug.

    Parameters
    ----------
    adata
        As in :func:`sensitivity`.
    signature
        From :func:`cell_lm.tasks.sensitivity.bulk_signature`.
    prior, certainty, refine
        See :meth:`cell_lm.tasks.sensitivity.BulkSignature.transfer`.
    key_added, copy, **how
        As in :func:`sensitivity`.

    Returns
    -------
    AnnData or None
        The columns of :func:`sensitivity` (``score`` is that of the signature); ``uns["cell_lm_sensitivity"]`` holds
        ``drug``, ``lines``, ``genes_shared``, ``table`` (genes with their weight in bulk and their correlation with the
        score among the cells), and ``trusted`` with ``reasons`` (one per test that failed) and ``tests`` (figures).

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are, or share too few genes with the lines.

    Warns
    -----
    TransferWarning
        The signature cannot be trusted for these cells; the message says why.
    """
    read = read_options(**how)
    record = record_key(adata, key_added, key_added)
    cells = open_target(adata, None, read)
    result = signature.transfer(cells, prior=prior, certainty=certainty, refine=refine)
    target = target_of(adata, cells, copy=copy)
    _write(target, result.cells, key_added)
    target.uns[record] = about_cells(cells, read) | {
        "key": key_added,
        "sensitive": "sensitive",
        "drug": signature.drug,
        "lines": signature.lines,
        "genes_shared": len(result.genes),
        "table": result.genes,
        "trusted": result.trust.trusted,
        "reasons": np.array(result.trust.reasons, object),
        "tests": result.trust.figures(),
        "prevalence": result.prevalence,
    }
    return None if target is adata else target


def sensitivity_summary(adata: AnnData, groupby: str, *, key: str = KEY) -> pd.DataFrame:
    """Summarise the calls of each cluster or sample.

    Parameters
    ----------
    adata
        With the columns of :func:`sensitivity`.
    groupby
        Column of ``obs`` with clusters or samples.
    key
        ``key_added`` of the call.

    Returns
    -------
    DataFrame
        See :func:`cell_lm.tasks.sensitivity.summarise`.

    Raises
    ------
    InputError
        A column is missing, or no cell has a group.
    """
    if key not in adata.obs:
        fix = "Call cell_lm.tl.sensitivity(adata, classifier) first, or name another key"
        raise InputError(f"obs has no column '{key}'", where="adata", fix=fix)
    groups = obs_column(adata.obs, groupby, where="adata")
    return summarise(groups, adata.obs[key], adata.obs.get(f"{key}_uncertain"))


def _write(adata: AnnData, table: pd.DataFrame, key: str) -> None:
    """Add the columns by position: names of cells need not be unique."""
    adata.obs[key] = table["probability"].to_numpy()
    adata.obs[f"{key}_score"] = table["score"].to_numpy()
    adata.obs[f"{key}_call"] = pd.Categorical(table["call"])
    adata.obs[f"{key}_uncertain"] = table["uncertain"].to_numpy()
