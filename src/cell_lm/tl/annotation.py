"""Embedding and annotation of an AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.model import CellLM
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.reading import TOKEN_BUDGET, as_cells, embed_cells
from cell_lm.tl.shared import Shown, about, copy_of, record_key, refuse_other_kinds, shown


def embed(
    adata: AnnData,
    model: CellLM | str | Path,
    *,
    key_added: str = "X_cell_lm",
    token_budget: int = TOKEN_BUDGET,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Embed cells.

    Parameters
    ----------
    adata
        Cells by human genes. A view becomes an AnnData of its own, as ever when something is written into one.
    model
        The model, or the path of its folder (or of the run that made it).
    key_added
        Where in ``obsm`` the embedding goes; what is known about it goes to ``uns``, under the same key without ``X_``.
    layer
        Which matrix: X by default, the name of a layer, or ``"raw"``.
    input
        What it holds: ``"counts"``, or ``"log1p"`` (of counts scaled per cell to any total).
    gene_column
        Column of ``var`` with the gene symbols or Ensembl ids; default: ``var_names``.
    min_overlap
        Fewest genes of the vocabulary that must be there; by default one in twenty. Lower it for a targeted panel.
    token_budget
        Genes that one forward pass may hold: bounds memory, changes no result.
    copy
        Return a copy with the embedding and leave ``adata`` as it is.
    progress
        Show a bar; or a function that is told the number of cells done, a chunk at a time.

    Returns
    -------
    AnnData or None
        The copy, if one was asked for. Otherwise ``adata`` has two new entries:

        ``obsm["X_cell_lm"]``
            float32 [cells, width].
        ``uns["cell_lm"]``
            ``key``, ``model`` (what kind), ``model_path`` (if it was given), ``weights_sha256`` (as in the model's
            ``config.json``), ``vocabulary`` (hash), ``genes_given``, ``genes_used``, ``genes_found`` (of the
            vocabulary), ``coverage`` (share of the vocabulary that was found), ``genes`` (given ones by what became of
            them), ``input``, ``evidence`` (why the input is believed), ``params``, ``cell_lm_version``.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are; see :func:`cell_lm.data.from_anndata`.
    ModelError
        The model is missing or damaged.
    """
    read = read_options(**how)
    refuse_other_kinds(adata)
    record = record_key(adata, key_added, key_added.removeprefix("X_") if isinstance(key_added, str) else "")
    path, model = ("", model) if isinstance(model, CellLM) else (str(model), CellLM.from_pretrained(model))
    cells = as_cells(adata, model.vocabulary, read)
    with shown(progress, len(cells), "embedding") as done:
        embedding = embed_cells(model, cells, token_budget=token_budget, progress=done)
    found = about(cells, model) | {
        "key": key_added,
        "model_path": path,
        "params": read.to_json(),
    }
    target = copy_of(adata) if copy else adata
    target.obsm[key_added] = embedding
    target.uns[record] = found
    return target if copy else None


def annotate(
    adata: AnnData,
    classifier: CellTypeClassifier | str | Path,
    *,
    key_added: str = "cell_lm",
    probabilities: bool = False,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> AnnData | None:
    """Annotate cells.

    Parameters
    ----------
    adata
        Cells by human genes. A view becomes an AnnData of its own, as ever when something is written into one.
    classifier
        A fitted classifier, or the path of its folder.
    key_added
        What the names of the new entries begin with.
    layer, input, gene_column, min_overlap
        How the cells are read; see :func:`embed`.
    probabilities
        Add the probabilities of all labels, too.
    copy
        Return a copy with the annotation and leave ``adata`` as it is.
    progress
        Show a bar; or a function that is told the number of cells done, a chunk at a time.

    Returns
    -------
    AnnData or None
        The copy, if one was asked for. Otherwise ``adata`` has new entries:

        ``obs["cell_lm_label"]``
            The most probable label, categorical with all that the classifier knows.
        ``obs["cell_lm_confidence"]``
            Its probability, float32.
        ``obsm["cell_lm_proba"]``
            float32 [cells, labels], where asked for; the order is that of ``uns["cell_lm_annotation"]["classes"]``.
        ``uns["cell_lm_annotation"]``
            ``classes``, ``reference`` (file, label column and cells that it was fitted on), ``reference_coverage``
            (share of the reference's genes that these cells have), and all that :func:`embed` notes.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are; see :func:`cell_lm.data.from_anndata`.
    ModelError
        The classifier is missing, damaged or not fitted.

    Warns
    -----
    CoverageWarning
        The cells have less than half of the genes that the reference had.
    """
    read = read_options(**how)
    refuse_other_kinds(adata)
    record = record_key(adata, key_added, f"{key_added}_annotation")
    path = "" if isinstance(classifier, CellTypeClassifier) else str(classifier)
    classifier = classifier if isinstance(classifier, CellTypeClassifier) else CellTypeClassifier.load(classifier)
    reference = classifier.reference_
    cells = as_cells(adata, classifier.model.vocabulary, read)
    with shown(progress, len(cells), "annotating") as done:
        proba = np.asarray(classifier.predict_proba(cells, progress=done))
    found = about(cells, classifier.model) | {
        "key": key_added,
        "classes": np.array(classifier.classes_, dtype=object),
        "classifier_path": path,
        "reference": {"name": reference.name, "label": reference.label, "cells": reference.cells},
        "reference_coverage": classifier.coverage(cells).share,
        "params": read.to_json(),
    }
    target = copy_of(adata) if copy else adata
    # By position: names of cells need not be unique.
    target.obs[f"{key_added}_label"] = pd.Categorical.from_codes(
        proba.argmax(axis=1), categories=pd.Index(classifier.classes_, dtype=object)
    )
    target.obs[f"{key_added}_confidence"] = proba.max(axis=1).astype(np.float32)
    if probabilities:
        target.obsm[f"{key_added}_proba"] = proba.astype(np.float32)
    target.uns[record] = found
    return target if copy else None
