"""Tools in the manner of scanpy: they take an AnnData and write what they find into it, X excepted.

Everything is computed before anything is written: after an error the AnnData is as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import safetensors.torch
from anndata import AnnData
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cell_lm._version import __version__
from cell_lm.data.cells import CellData
from cell_lm.data.counts import Scale
from cell_lm.errors import InputError
from cell_lm.model import CellLM
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.reading import TOKEN_BUDGET, as_cells, embed_cells

Shown: TypeAlias = "bool | Callable[[int], None]"
_OURS = "cell_lm_version"
"""Key that marks entries of ``uns`` as ours."""


def embed(
    adata: AnnData,
    model: CellLM | str | Path,
    *,
    key_added: str = "X_cell_lm",
    layer: str | None = None,
    input: Scale = "counts",  # noqa: A002
    gene_column: str | None = None,
    min_overlap: int | None = None,
    token_budget: int = TOKEN_BUDGET,
    copy: bool = False,
    progress: Shown = False,
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
    _refuse_other_kinds(adata)
    record = _record_key(adata, key_added, key_added.removeprefix("X_") if isinstance(key_added, str) else "")
    path, model = ("", model) if isinstance(model, CellLM) else (str(model), CellLM.from_pretrained(model))
    cells = as_cells(
        adata, model.vocabulary, layer=layer, input=input, gene_column=gene_column, min_overlap=min_overlap
    )
    with _shown(progress, len(cells), "embedding") as done:
        embedding = embed_cells(model, cells, token_budget=token_budget, progress=done)
    about = _about(cells, model) | {
        "key": key_added,
        "model_path": path,
        "params": _params(layer, input, gene_column, min_overlap),
    }
    target = _copy(adata) if copy else adata
    target.obsm[key_added] = embedding
    target.uns[record] = about
    return target if copy else None


def annotate(
    adata: AnnData,
    classifier: CellTypeClassifier | str | Path,
    *,
    key_added: str = "cell_lm",
    layer: str | None = None,
    input: Scale = "counts",  # noqa: A002
    gene_column: str | None = None,
    min_overlap: int | None = None,
    probabilities: bool = False,
    copy: bool = False,
    progress: Shown = False,
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
    _refuse_other_kinds(adata)
    record = _record_key(adata, key_added, f"{key_added}_annotation")
    path = "" if isinstance(classifier, CellTypeClassifier) else str(classifier)
    classifier = classifier if isinstance(classifier, CellTypeClassifier) else CellTypeClassifier.load(classifier)
    reference = classifier.reference_
    cells = as_cells(
        adata,
        classifier.model.vocabulary,
        layer=layer,
        input=input,
        gene_column=gene_column,
        min_overlap=min_overlap,
    )
    with _shown(progress, len(cells), "annotating") as done:
        proba = np.asarray(classifier.predict_proba(cells, progress=done))
    about = _about(cells, classifier.model) | {
        "key": key_added,
        "classes": np.array(classifier.classes_, dtype=object),
        "classifier_path": path,
        "reference": {"name": reference.name, "label": reference.label, "cells": reference.cells},
        "reference_coverage": classifier.coverage(cells).share,
        "params": _params(layer, input, gene_column, min_overlap),
    }
    target = _copy(adata) if copy else adata
    # By position: names of cells need not be unique.
    target.obs[f"{key_added}_label"] = pd.Categorical.from_codes(
        proba.argmax(axis=1), categories=pd.Index(classifier.classes_, dtype=object)
    )
    target.obs[f"{key_added}_confidence"] = proba.max(axis=1).astype(np.float32)
    if probabilities:
        target.obsm[f"{key_added}_proba"] = proba.astype(np.float32)
    target.uns[record] = about
    return target if copy else None


def weights_hash(model: CellLM) -> str:
    """Return the SHA-256 that the weights have as a file, the one in ``config.json`` of the model's folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()


def _refuse_other_kinds(adata: object) -> None:
    if not isinstance(adata, AnnData):
        fix = "Read a file with anndata.read_h5ad(path) first"
        raise InputError(f"expected an AnnData, found {type(adata).__name__}", fix=fix)


def _record_key(adata: AnnData, key_added: object, record: str) -> str:
    """Return ``record``, unless that would destroy an entry of ``uns`` that is somebody else's."""
    if not isinstance(key_added, str) or not key_added or not record:
        raise InputError(f"key_added is {key_added!r}", fix="Give it a name, as X_cell_lm")
    there = adata.uns.get(record)
    if there is not None and not (isinstance(there, dict) and _OURS in there):
        found = f"uns['{record}'], which is to describe the result, holds something else"
        raise InputError(found, where="adata", fix="Choose another key_added")
    return record


def _about(cells: CellData, model: CellLM) -> dict[str, Any]:
    """Return what is to be known of a result, in types that h5ad can hold."""
    config, audit = model.config, cells.audit
    return {
        _OURS: __version__,
        "model": f"{config.attention} attention, {config.layers} layers of width {config.width}",
        "weights_sha256": weights_hash(model),
        "vocabulary": model.vocabulary.hash,
        "genes_given": len(audit),
        "genes_used": audit.used,
        "genes_found": len(audit.found),
        "coverage": audit.coverage,
        "genes": audit.counts(),
        "input": cells.scale,
        "evidence": cells.report.evidence if cells.report else "",
    }


def _params(layer: str | None, scale: Scale, gene_column: str | None, min_overlap: int | None) -> dict[str, str | int]:
    """Return how the cells were read; what was not said is left out, as h5ad holds no None."""
    said = {"layer": layer, "input": scale, "gene_column": gene_column, "min_overlap": min_overlap}
    return {name: value for name, value in said.items() if value is not None}


def _copy(adata: AnnData) -> AnnData:
    return adata.to_memory(copy=True) if adata.isbacked else adata.copy()


@contextmanager
def _shown(progress: Shown, cells: int, what: str) -> Iterator[Callable[[int], None] | None]:
    """Yield what is to be told of the cells done: the caller's function, a bar's, or nothing."""
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=cells)
            yield lambda done: bar.advance(task, done)
