"""Gene attributions for the predictions of a classifier, and deletion curves that test them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.data.cells import CellData, from_anndata
from cell_lm.data.obs.labels import read_labels
from cell_lm.data.read_options import ReadKeywords, read_options
from cell_lm.data.view import CellView
from cell_lm.errors import InputError
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.attribution import Method, attribute, check_method, choose_cells, deletion_curves, gene_table
from cell_lm.tasks.attribution.curves import SHARES
from cell_lm.tasks.attribution.methods import STEPS
from cell_lm.tasks.features import TOKEN_BUDGET, Device, place
from cell_lm.terminal import refuse_uncallable
from cell_lm.tl.shared import (
    Shown,
    about_cells,
    about_model,
    loaded,
    record_key,
    refuse_lost_layer,
    refuse_other_kinds,
    shown,
    writable,
)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Cells [n] to explain: their rows in the AnnData, the class of each, and the label it is averaged under."""

    cells: CellData
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    labels: NDArray[np.object_]


def gene_attribution(
    adata: AnnData,
    classifier: CellTypeClassifier | str | Path,
    *,
    method: Method = "integrated_gradients",
    target: str | None = None,
    groupby: str | None = None,
    n_cells: int | None = 100,
    steps: int = STEPS,
    seed: int = 0,
    key_added: str = "cell_lm_attribution",
    per_cell: bool = False,
    token_budget: int = TOKEN_BUDGET,
    device: Device = None,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> pd.DataFrame | AnnData:
    """Compute how much each gene contributed to the predictions of a cell type classifier.

    The explained score is the logit of one class minus the mean of the others. A gene is removed as a token; the
    expression of the other genes, scaled to the total of the cell, does not change. See ``docs/attribution.md``.

    Parameters
    ----------
    adata
        Cells by human genes. A view of another AnnData becomes one of its own.
    classifier
        A fitted classifier, or the path of its folder.
    method
        ``"integrated_gradients"`` (sums to the difference from a cell without genes), ``"gradient"``, ``"occlusion"``
        (a forward pass a gene: slow) or ``"attention"`` (roll-out; the same for all classes, not for ``performer``).
    target
        The class to explain. None: the class predicted for each cell; the name of a class: that one, for all cells; a
        column of ``obs`` with classes: the class of each cell (cells without one are left out).
    groupby
        Column of ``obs`` with the labels to average over (cells without a label are left out). Default: the predicted
        label, or ``target`` where that is a column.
    n_cells
        Most cells of a label to explain, chosen at random; None: all.
    steps
        ``"integrated_gradients"`` only: points at which gradients are taken.
    seed
        Seed of the choice of cells.
    key_added
        Key in ``uns`` for the table, and in ``layers`` for the attributions of single cells.
    per_cell
        Also keep the attributions of single cells. They replace those of an earlier call, but no other layer.
    token_budget
        Most genes in one pass. It limits memory and changes no result.
    device
        Where to compute; see :func:`cell_lm.tl.embed`.
    copy
        Return a copy with the result instead of the table, and leave ``adata`` unchanged.
    progress
        Show a progress bar; or a function that is called with the number of cells completed since the last call.
    **how
        How the cells are read; see :func:`cell_lm.tl.embed`.

    Returns
    -------
    DataFrame or AnnData
        The copy with ``copy``. Otherwise one row for each label and gene: ``label``, ``gene``, ``attribution`` (mean
        over the cells of the label, in logits; 0 for a cell that does not express the gene, or in which the encoder did
        not read it: of a cell with more than ``max_genes`` genes it reads only the most highly expressed),
        ``expressed`` (fraction of the cells that express it, read or not), ``cells`` (number explained). The genes of a
        label are sorted from the highest attribution down. ``adata`` has new entries:

        ``uns["cell_lm_attribution"]``
            ``table`` (the same), ``method``, ``target``, ``gap`` (by how much the attributions miss the difference of
            the scores, as a fraction of it), ``cells`` (number explained), ``per_cell``, and everything that
            :func:`cell_lm.tl.embed` records.
        ``layers["cell_lm_attribution"]``
            float32 [cells, genes], sparse, with ``per_cell``: 0 for cells that were not chosen and genes that were not
            read; genes that were merged into one share its attribution equally.

    Raises
    ------
    InputError, CountsError, GeneError
        The cells cannot be read as they are; there is no such method, class or column; no cell is left; or
        ``key_added`` would overwrite an entry of ``uns`` or a layer that this function did not write.
    ModelError
        The classifier is missing, damaged or not fitted.
    """
    refuse_uncallable(progress, flag=True)
    read = read_options(**how)
    refuse_other_kinds(adata)
    record = record_key(adata, key_added, key_added)
    if per_cell:
        refuse_lost_layer(adata, key_added, read.layer)
    classifier, path = loaded(classifier, CellTypeClassifier)
    check_method(method, classifier)
    classifier = classifier.placed(device)
    _place_encoders(classifier)
    cells = _like_fit(from_anndata(adata, vocabulary=classifier.vocabulary, read=read), classifier)
    asked = _asked(cells, classifier, target, groupby, n_cells, seed)
    with shown(progress, len(asked.rows), "explaining") as done:
        found = attribute(
            classifier,
            asked.cells,
            asked.targets,
            method=method,
            steps=steps,
            token_budget=token_budget,
            progress=done,
        )
    table = gene_table(found.values, asked.cells.X, asked.labels, cells.vocabulary.symbols)
    kept = _to_columns(found.values, asked.rows, cells) if per_cell else None
    result = writable(adata, copy=copy)
    result.uns[record] = (
        about_cells(CellView.of(cells), read)
        | about_model(classifier.resolved_model, classifier.device, "float32")
        | {
            "key": key_added,
            "table": table.copy(),
            "method": method,
            "target": target or "",
            "gap": found.gap,
            "cells": len(asked.rows),
            "per_cell": per_cell,
            "classifier_path": path,
        }
    )
    if kept is not None:
        result.layers[key_added] = kept
    return result if copy else table


def deletion_curve(
    adata: AnnData,
    classifier: CellTypeClassifier | str | Path,
    *,
    methods: Sequence[Method] = ("integrated_gradients",),
    n_cells: int | None = 20,
    shares: Sequence[float] = SHARES,
    seeds: int = 3,
    steps: int = STEPS,
    seed: int = 0,
    key_added: str = "cell_lm_deletion",
    token_budget: int = TOKEN_BUDGET,
    device: Device = None,
    copy: bool = False,
    progress: Shown = False,
    **how: Unpack[ReadKeywords],
) -> pd.DataFrame | AnnData:
    """Test attributions: remove the genes of each cell in their order, and record how the probability falls.

    Parameters
    ----------
    adata
        Cells by human genes.
    classifier
        A fitted classifier, or the path of its folder.
    methods
        Methods of :func:`gene_attribution` to test.
    n_cells
        Most cells of each predicted label, chosen at random; None: all.
    shares
        Fractions of a cell's genes to remove, increasing from 0 to 1.
    seeds
        Number of random orders to average.
    steps, seed, token_budget, device, copy, progress, **how
        As in :func:`gene_attribution`.
    key_added
        Key in ``uns`` for the curves.

    Returns
    -------
    DataFrame or AnnData
        The copy with ``copy``. Otherwise ``order`` (the methods, then ``random`` and ``random, equally expressed``,
        which takes as many genes of each expression bin as the first method), ``deleted`` (fraction of the genes),
        ``probability`` (of the class predicted for the whole cell, mean over the cells), ``area`` (under the curve of
        the order: lower is better). ``adata.uns["cell_lm_deletion"]`` holds it as ``table``, with what
        :func:`cell_lm.tl.embed` records.

    Raises
    ------
    InputError, CountsError, GeneError, ModelError
        As :func:`gene_attribution`; or no method was given, or ``shares`` do not increase from 0 to 1.
    """
    refuse_uncallable(progress, flag=True)
    read = read_options(**how)
    refuse_other_kinds(adata)
    record = record_key(adata, key_added, key_added)
    classifier, _ = loaded(classifier, CellTypeClassifier)
    for method in methods:
        check_method(method, classifier)
    classifier = classifier.placed(device)
    _place_encoders(classifier)
    cells = _like_fit(from_anndata(adata, vocabulary=classifier.vocabulary, read=read), classifier)
    asked = _asked(cells, classifier, None, None, n_cells, seed)
    with shown(progress, len(asked.rows) * (len(methods) + 1), "deleting genes") as done:
        orders = {
            str(method): attribute(
                classifier,
                asked.cells,
                asked.targets,
                method=method,
                steps=steps,
                token_budget=token_budget,
                progress=done,
            ).values
            for method in methods
        }
        curves = deletion_curves(
            classifier,
            asked.cells,
            orders,
            shares=shares,
            seeds=seeds,
            seed=seed,
            token_budget=token_budget,
            progress=done,
        )
    table = curves.table()
    table["area"] = table["order"].map({name: curves.area(name) for name in curves.probability})
    result = writable(adata, copy=copy)
    result.uns[record] = (
        about_cells(CellView.of(cells), read)
        | about_model(classifier.resolved_model, classifier.device, "float32")
        | {
            "key": key_added,
            "table": table.copy(),
            "cells": len(asked.rows),
        }
    )
    return result if copy else table


def _asked(
    cells: CellData,
    classifier: CellTypeClassifier,
    target: str | None,
    groupby: str | None,
    n_cells: int | None,
    seed: int,
) -> _Asked:
    if n_cells is not None and n_cells < 1:
        raise InputError(f"n_cells is {n_cells}", where="adata", fix="Explain at least 1 cell of each label, or all")
    classes = np.array(classifier.classes_, object)
    wanted, column = _targets(cells, classes, target)
    labels = None if groupby is None else read_labels(cells.obs, groupby, where=cells.name).text
    called = np.asarray(classifier.predict_proba(cells)).argmax(axis=1)
    targets = called if wanted is None else wanted
    if labels is None:
        labels = np.where(targets < 0, "", classes[targets]) if column else classes[called]
    rows = choose_cells(np.where(targets < 0, "", labels), n_cells, seed=seed)
    if not len(rows):
        found = f"none of the {len(cells):,} cells has both a target and a label"
        raise InputError(found, where=cells.name, fix="Choose other columns")
    return _Asked(cells[rows], rows, targets[rows].astype(np.int64), labels[rows])


def _targets(
    cells: CellData, classes: NDArray[np.object_], target: str | None
) -> tuple[NDArray[np.int64] | None, bool]:
    """Return the class to explain in each cell (-1: none; None: the predicted one), and if ``target`` is a column."""
    index = {str(name): place for place, name in enumerate(classes)}
    if target is None:
        return None, False
    if target in index:
        return np.full(len(cells), index[target]), False
    if target not in cells.columns:
        found = f"target '{target}' is neither a class of the classifier nor a column of obs"
        raise InputError(found, where=cells.name, fix=f"The classes are {', '.join(index)}")
    labels = read_labels(cells.obs, target, where=cells.name)
    strange = sorted(set(labels.text[labels.known]) - set(index))
    if strange:
        found = f"obs column '{target}' holds {len(strange):,} labels that the classifier lacks ('{strange[0]}')"
        raise InputError(found, where=cells.name, fix=f"Its classes are {', '.join(index)}")
    return np.array([index.get(str(text), -1) for text in labels.text], np.int64), True


def _like_fit(cells: CellData, classifier: CellTypeClassifier) -> CellData:
    """Return the cells cut to the genes of the fit, where it was made on genes that it shared with others."""
    view = classifier.cut_like_fit(CellView.of(cells))
    return cells if view.kept is None else replace(cells, X=view.X)


def _to_columns(values: sparse.csr_matrix, rows: NDArray[np.int64], cells: CellData) -> sparse.csr_matrix:
    """Map attributions [chosen cells, vocabulary] to the cells and genes of the AnnData, [cells, genes]."""
    columns = cells.audit.columns
    used = np.flatnonzero(columns >= 0)
    fraction = 1.0 / np.bincount(columns[used], minlength=len(cells.vocabulary))[columns[used]]
    to_genes = sparse.csr_matrix((fraction, (columns[used], used)), shape=(len(cells.vocabulary), len(columns)))
    ones = np.ones(len(rows), np.float32)
    to_cells = sparse.csr_matrix((ones, (rows, np.arange(len(rows)))), shape=(len(cells), len(rows)))
    return sparse.csr_matrix(to_cells @ (values @ to_genes), dtype=np.float32)


def _place_encoders(classifier: CellTypeClassifier) -> None:
    """Move all encoders of a classifier to its device."""
    for model in (classifier.encoder_, classifier.adapted_):
        if model is not None:
            place(model, classifier.device)
