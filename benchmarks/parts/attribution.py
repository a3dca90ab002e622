"""References for the attribution benchmark: lists of markers, Wilcoxon's test, a linear model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from cell_lm.data import CellData
from cell_lm.data.loading.expression import log_expression
from cell_lm.evaluation.baselines import COMPONENTS
from cell_lm.evaluation.linear_head import fit_head

_CD4 = r"(.* )?cd4\+ t cells?|(naive |memory |regulatory |(central|effector) memory )?t cells?|t (helper|memory).*"
_CD8 = r"(.* )?cd8\+ t cells?|(naive |memory |cytotoxic )?t cells?|t cytotoxic cells?"
_NK = r"natural killer +cells?|nk cells?"
_B = r"(naive |memory |follicular )?b cells?( naive| memory)?"
_MONOCYTE = r"(classical |non-classical |cd14.* )?monocytes?"
NAMES = {
    "CD19+ B": _B,
    "CD34+": r"hematopoietic (stem|progenitor) cells?|progenitor cells?|lymphoid-primed multipotent.*",
    "CD56+ NK": _NK,
    "CD8+ Cytotoxic T": _CD8,
    "CD8+/CD45RA+ Naive Cytotoxic": _CD8,
    "CD4+ T Helper2": _CD4,
    "CD4+/CD45RO+ Memory": _CD4,
    "CD4+/CD25 T Reg": _CD4,
    "CD4+/CD45RA+/CD25- Naive T": _CD4,
    "CD14+ Monocyte": _MONOCYTE,
    "Naive CD4 T": _CD4,
    "Memory CD4 T": _CD4,
    "CD14+ Mono": _MONOCYTE,
    "FCGR3A+ Mono": _MONOCYTE,
    "B": _B,
    "CD8 T": _CD8,
    "NK": _NK,
    "DC": r".*dendritic cells?(\(.*\))?",
    "Platelet": r"platelets?|megakaryocytes?",
    "alpha": r"alpha cells?( \(.*\))?",
    "beta": r"beta cells?( ?\(.*\))?",
    "delta": r"delta cells?( ?\(.*\))?",
    "gamma": r"gamma \(pp\) cells?|(pp|gamma) cells?.*",
    "epsilon": r"epsilon cells?( ?\(.*\))?",
    "acinar": r"acinar cells?",
    "ductal": r"ductal cells?",
    "endothelial": r"(vascular )?endothelial( cells?)?",
    "quiescent_stellate": r"(pancreatic )?stellate cells?",
    "activated_stellate": r"(pancreatic )?stellate cells?",
    "macrophage": r"macrophages?",
    "mast": r"mast cells?",
}
"""Type in the data to the names that the lists of markers give it, as a regular expression."""


def read_markers(path: Path, genes: set[str]) -> dict[str, set[str]]:
    """Return the markers of each type of :data:`NAMES` among ``genes``, of all lists together."""
    rows = pd.read_parquet(path, columns=["cell_type", "condition", "gene"])
    rows = rows[(rows["condition"] == "normal") & rows["gene"].isin(genes)]
    folded = rows["cell_type"].str.casefold().str.strip()
    return {name: set(rows["gene"][folded.str.fullmatch(pattern)]) for name, pattern in NAMES.items()}


def linear_weights(train: CellData, labels: NDArray[np.object_], *, seed: int) -> NDArray[np.float64]:
    """Return what logistic regression on the leading components gives each gene, [classes, vocabulary].

    The weight of a class less the mean of the others', as the attributions of the classifier.
    """
    components = TruncatedSVD(COMPONENTS, algorithm="arpack", random_state=seed)
    head = fit_head(components.fit_transform(log_expression(train)), labels, whitening=0.0, seed=seed)
    weights = head.coefficients @ components.components_
    classes = len(weights)
    return np.asarray((weights - weights.mean(axis=0)) * classes / (classes - 1))


def weight_times_value(weights: NDArray[np.float64], cells: CellData, targets: NDArray[np.int64]) -> sparse.csr_matrix:
    """Return the weight of each gene for the target times its log expression, [cells, vocabulary]."""
    X = log_expression(cells)
    rows = np.repeat(np.arange(len(cells)), np.diff(X.indptr))
    return sparse.csr_matrix((X.data * weights[targets[rows], X.indices], X.indices, X.indptr), shape=X.shape)


def wilcoxon_markers(train: CellData, labels: NDArray[np.object_], most: int) -> dict[str, list[str]]:
    """Return the genes that Wilcoxon's test ranks first for each type, against all other cells (scanpy)."""
    import scanpy as sc
    from anndata import AnnData

    X = log_expression(train)
    seen = np.flatnonzero(np.bincount(X.indices, minlength=X.shape[1]) >= 0.01 * len(train))
    symbols = np.asarray(train.vocabulary.symbols, object)[seen]
    obs = pd.DataFrame({"type": pd.Categorical(labels)}, index=[str(cell) for cell in range(len(train))])
    adata = AnnData(X[:, seen], obs=obs, var=pd.DataFrame(index=symbols))
    sc.tl.rank_genes_groups(adata, "type", method="wilcoxon", n_genes=most)
    return {name: list(adata.uns["rank_genes_groups"]["names"][name]) for name in np.unique(labels)}


def precision(tops: dict[str, list[str]], markers: dict[str, set[str]]) -> float:
    """Return the mean share of markers among the genes ranked first, over the types that have markers."""
    shares = [np.mean([gene in markers[name] for gene in genes]) for name, genes in tops.items() if markers.get(name)]
    return float(np.mean(shares))
