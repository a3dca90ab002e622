"""Majority voting over clusters of annotated cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from cell_lm._version import __version__
from cell_lm.data.obs.columns import obs_column
from cell_lm.data.obs.labels import read_labels
from cell_lm.errors import ConfigError, InputError
from cell_lm.tasks.annotation.voting import over_cluster, vote
from cell_lm.tl.shared import record_key, refuse_other_kinds, writable


def majority_vote(
    adata: AnnData,
    key: str = "cell_lm",
    *,
    over_clustering: str | None = None,
    basis: str = "X_cell_lm",
    min_share: float = 0.5,
    seed: int = 0,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Give all cells of a cluster the label that most of them have, beside the label of each cell.

    Parameters
    ----------
    adata
        Cells annotated by :func:`annotate`; the labels of the single cells stay as they are.
    key
        ``key_added`` of the annotation.
    over_clustering
        Column of ``obs`` with clusters, many more than there are types (such as Leiden at a high resolution); cells
        without one get no label. None: clusters are made from ``basis``.
    basis
        Key of ``obsm`` with the embedding to cluster.
    min_share
        Fraction of a cluster that must agree, 0 to 1; cells of a cluster with less, or with a tie, are ``mixed``.
    seed
        Seed of the clustering.
    key_added
        Prefix of the new entries; None: ``key``.
    copy
        Return a copy with the result and leave ``adata`` unchanged.

    Returns
    -------
    AnnData or None
        The copy with ``copy``. Otherwise ``adata`` has new entries:

        ``obs["cell_lm_majority_label"]``
            Categorical; ``unknown`` where most cells are.
        ``obs["cell_lm_majority_share"]``
            Fraction of the cluster that has its most frequent label, float32.
        ``obs["cell_lm_over_clustering"]``
            The clusters, if they were made.
        ``uns["cell_lm_majority"]``
            ``over_clustering`` (the column), ``clusters`` (number), ``changed`` and ``mixed`` (numbers of cells whose
            label differs from that of the single cell, and of mixed ones), ``params``, ``cell_lm_version``.

    Raises
    ------
    InputError
        The cells are not annotated, there is no such column or embedding, or the entry of ``uns`` is taken.
    ConfigError
        ``min_share`` is not between 0 and 1.
    """
    refuse_other_kinds(adata)
    if not 0.0 <= min_share <= 1.0:
        raise ConfigError(f"min_share is {min_share!r}", fix="Choose a fraction between 0 and 1, as 0.5")
    prefix = key if key_added is None else key_added
    record = record_key(adata, prefix, f"{prefix}_majority")
    labels = _labels(adata, f"{key}_label")
    column = over_clustering or f"{prefix}_over_clustering"
    if over_clustering is None:
        clusters, known = _made(adata, basis, seed), np.ones(adata.n_obs, bool)
    else:
        clusters, known = read_labels(adata.obs, over_clustering, where="adata")
    found = vote(labels[known], clusters[known], min_share)
    target = writable(adata, copy=copy)
    if over_clustering is None:
        target.obs[column] = pd.Categorical(clusters)
    winners, share = np.full(len(labels), None, object), np.full(len(labels), np.nan, np.float32)
    winners[known], share[known] = found.labels, found.share
    target.obs[f"{prefix}_majority_label"] = pd.Categorical(winners)
    target.obs[f"{prefix}_majority_share"] = share
    target.uns[record] = {
        "cell_lm_version": __version__,
        "over_clustering": column,
        "clusters": len(np.unique(clusters[known].astype(str))),
        "changed": int(((winners != labels) & known).sum()),
        "mixed": int((winners == "mixed").sum()),
        "params": {"min_share": min_share, "seed": seed, "basis": basis if over_clustering is None else ""},
    }
    return target if copy else None


def _labels(adata: AnnData, column: str) -> NDArray[np.object_]:
    if column not in adata.obs:
        fix = "Call cell_lm.tl.annotate(adata, classifier) first, or name another key"
        raise InputError(f"obs has no column '{column}'", where="adata", fix=fix)
    series = obs_column(adata.obs, column, where="adata")
    return series.astype(str).to_numpy(object)


def _made(adata: AnnData, basis: str, seed: int) -> NDArray[np.object_]:
    if basis not in adata.obsm:
        fix = "Call cell_lm.tl.embed(adata, model) first, or name a column of clusters as over_clustering"
        raise InputError(f"obsm has no '{basis}' to make clusters from", where="adata", fix=fix)
    return over_cluster(np.asarray(adata.obsm[basis]), seed).astype(str).astype(object)
