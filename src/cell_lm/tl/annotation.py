"""Embedding and annotation of an AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.obs.ontology import ontology_column
from cell_lm.data.opening import Data
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.model import CellLM
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.classifier import Classifier
from cell_lm.tasks.features import TOKEN_BUDGET, Device, embed_cells
from cell_lm.terminal import refuse_uncallable
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

CALLS = (
    "label",
    "confidence",
    "novelty",
    "label_set",
    "set_size",
    "ontology",
    "majority_label",
    "majority_share",
    "over_clustering",
)
"""Columns of obs that a call may add, after the prefix; those of an earlier call are removed."""


def embed(
    adata: Data,
    model: CellLM | str | Path,
    *,
    key_added: str = "X_cell_lm",
    token_budget: int = TOKEN_BUDGET,
    device: Device = None,
    precision: Precision = "float32",
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Embed cells.

    Parameters
    ----------
    adata
        Cells by human genes. A view of another AnnData becomes one of its own. Also the path of a file
        of cells, or a store (or its path): the result is then a new AnnData.
    model
        The model, or the path of its folder (or of the run that made it). It is moved to the device and stays there.
    key_added
        Key in ``obsm`` for the embedding; its record goes to ``uns``, under the same key without ``X_``.
    token_budget
        Most genes in one forward pass. It limits memory and changes no result.
    device
        Device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; None: CUDA where there is a device, else the CPU.
    precision
        Arithmetic of the encoder: ``"float32"``, or ``"bfloat16"``, which is faster and differs by its rounding.
    copy
        Return a copy with the embedding and leave ``adata`` unchanged.
    progress
        Show a progress bar; or a function that is called with the number of cells completed since the last call.
    **how
        How the cells are read: ``layer`` (X by default, the name of a layer, or ``"raw"``), ``scale`` (``"counts"``, or
        ``"log1p"`` of counts scaled per cell to any total), ``gene_column`` (column of ``var`` with gene symbols or
        Ensembl ids), ``min_overlap`` (fewest genes of the vocabulary that must be there; lower it for a targeted
        panel), ``min_genes``; or ``read=`` with a :class:`cell_lm.data.ReadOptions`.

    Returns
    -------
    AnnData or None
        The copy with ``copy``; a new AnnData, without X, for a file or a store. Otherwise ``adata`` has two new
        entries:

        ``obsm["X_cell_lm"]``
            float32 [cells, width].
        ``uns["cell_lm"]``
            ``key``, ``model`` (its kind), ``model_path`` (if it was given), ``weights_sha256`` (as in the model's
            ``config.json``), ``device``, ``precision``, ``vocabulary`` (hash), ``genes_given``, ``genes_used``,
            ``genes_found`` (of the vocabulary), ``coverage`` (fraction of the vocabulary that was found),
            ``median_genes`` (of the vocabulary that a cell expresses), ``genes``
            (number of given genes by status), ``scale``, ``evidence`` (what proves the scale), ``params`` (how the
            cells were read), ``cell_lm_version``. Of a store, ``store`` and ``store_sha256`` instead of genes and
            scale.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are; see :func:`cell_lm.data.from_anndata`.
    ConfigError
        A keyword is unknown, or there is no such device.
    ModelError
        The model is missing or damaged.
    """
    refuse_uncallable(progress, flag=True)
    read = read_options(**how)
    record = record_key(adata, key_added, key_added.removeprefix("X_") if isinstance(key_added, str) else "")
    path, model = ("", model) if isinstance(model, CellLM) else (str(model), CellLM.from_pretrained(model))
    cells = open_target(adata, model.vocabulary, read)
    with shown(progress, len(cells), "embedding") as done:
        embedding = embed_cells(
            model, cells, token_budget=token_budget, device=device, precision=precision, progress=done
        )
    found = about_cells(cells, read) | about_model(model, device, precision) | {"key": key_added, "model_path": path}
    target = target_of(adata, cells, copy=copy)
    target.obsm[key_added] = embedding
    target.uns[record] = found
    return None if target is adata else target


def annotate(
    adata: Data,
    classifier: Classifier | str | Path,
    *,
    key_added: str = "cell_lm",
    probabilities: bool = False,
    unknown: float | None = None,
    device: Device = None,
    precision: Precision | None = None,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Annotate cells.

    Parameters
    ----------
    adata
        Cells by human genes. A view of another AnnData becomes one of its own. Also the path of a file
        of cells, or a store (or its path): the result is then a new AnnData.
    classifier
        A fitted classifier, the path of its folder, or the name of a ready annotator: ``"blood"``, ``"pancreas"``,
        ``"ovarian-cancer"``.
    key_added
        Prefix of the new entries.
    probabilities
        Also add the probabilities of all labels.
    unknown
        Rate at which cells of known types may be called ``unknown``; 0: never. None: that of the fit if it had donors,
        else never (:meth:`CellTypeClassifier.table`).
    device, precision
        As in :func:`embed`; None: those of the classifier.
    copy
        Return a copy with the annotation and leave ``adata`` unchanged.
    progress
        Show a progress bar; or a function that is called with the number of cells completed since the last call.
    **how
        How the cells are read; see :func:`embed`.

    Returns
    -------
    AnnData or None
        The copy with ``copy``; a new AnnData, without X, for a file or a store. Otherwise ``adata`` has new
        entries:

        ``obs["cell_lm_label"]``
            The most probable label, categorical with all labels of the classifier; or ``unknown``.
        ``obs["cell_lm_confidence"]``
            Its probability, float32.
        ``obs["cell_lm_novelty"]``, ``obs["cell_lm_label_set"]``, ``obs["cell_lm_set_size"]``
            Of a :class:`CellTypeClassifier`, where cells could be left out of its fit; see
            :meth:`CellTypeClassifier.table`.
        ``obs["cell_lm_ontology"]``
            Cell Ontology id of the label, categorical, missing where the name is not known
            (:mod:`cell_lm.data.obs.ontology`); only if that of some label is.
        ``obsm["cell_lm_proba"]``
            float32 [cells, labels], with ``probabilities``; the order is that of
            ``uns["cell_lm_annotation"]["classes"]``.
        ``uns["cell_lm_annotation"]``
            ``classes``, ``classifier`` (its kind), ``reference`` (file, label column and number of cells of the fit),
            ``reference_coverage`` (fraction of the reference's genes that these cells have), ``genes_of_fit``
            (number of genes read, where the fit was made with ``genes_of``), ``unknown_rate``, ``learned_from``, and
            everything that :func:`embed` records.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are; see :func:`cell_lm.data.from_anndata`.
    ConfigError
        A keyword is unknown, or there is no such device.
    ModelError
        The classifier is missing, damaged or not fitted.

    Warns
    -----
    CoverageWarning
        The genes of the cells hold less than 70 % of the expression of the reference; under 20 % they are refused.
    """
    refuse_uncallable(progress, flag=True)
    read = read_options(**how)
    record = record_key(adata, key_added, f"{key_added}_annotation")
    classifier, path = loaded(classifier, Classifier)  # type: ignore[type-abstract]
    _ = classifier.reference_  # before the slow steps
    if isinstance(classifier, CellTypeClassifier):
        classifier = classifier.placed(device, precision)
        rate = classifier.caller_.rate(unknown)
    cells = open_target(adata, classifier.vocabulary, read)
    with shown(progress, len(cells), "annotating") as done:
        proba = np.asarray(classifier.predict_proba(cells, progress=done))
    found: dict[str, Any] = about_cells(cells, read)
    if isinstance(classifier, CellTypeClassifier):
        found |= about_model(classifier.resolved_model, classifier.device, classifier.precision)
        found |= {"unknown_rate": rate, "learned_from": classifier.learned_from_}
    found |= {
        "key": key_added,
        "classes": np.array(classifier.classes_, dtype=object),
        "classifier": type(classifier).__name__,
    }
    found |= about_classifier(classifier, path, cells)
    calls = _calls(classifier, cells, proba, unknown)
    target = target_of(adata, cells, copy=copy)
    # By position: cell names need not be unique.
    for name in CALLS:  # of an earlier call
        if f"{key_added}_{name}" in target.obs:
            del target.obs[f"{key_added}_{name}"]
    if f"{key_added}_proba" in target.obsm:
        del target.obsm[f"{key_added}_proba"]
    for name, values in calls.items():
        target.obs[f"{key_added}_{name}"] = values
    if probabilities:
        target.obsm[f"{key_added}_proba"] = proba.astype(np.float32)
    target.uns[record] = found
    return None if target is adata else target


def _calls(
    classifier: Classifier, cells: CellView, proba: NDArray[np.float64], unknown: float | None
) -> dict[str, Any]:
    """Return the columns of a call by name, one value per cell each."""
    if isinstance(classifier, CellTypeClassifier):
        table = classifier.caller_.table(classifier.cut_like_fit(cells), proba, unknown)
        found: dict[str, Any] = {name: table[name].array for name in table.columns}
    else:
        names = pd.Index(classifier.classes_, dtype=object)
        found = {"label": pd.Categorical.from_codes(proba.argmax(axis=1), categories=names)}
    found["confidence"] = proba.max(axis=1).astype(np.float32)
    ids = ontology_column(list(found["label"].categories), found["label"].codes)
    return found if ids is None else {**found, "ontology": ids}
