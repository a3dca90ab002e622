"""Initial weights: the reference of the linear path, and gene vectors from it, gene networks, co-expression, or random.

Initial gene vectors are projected to the model's ``gene_width`` by principal components, and scaled to the standard
deviation of the random vectors that they replace. Genes without one keep their random vectors.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.config import GENE_VECTORS, PretrainConfig
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.expression import MOST_CELLS
from cell_lm.errors import ConfigError
from cell_lm.files import JSON, sha256
from cell_lm.genes.alignment import principal_components
from cell_lm.genes.coexpression import coexpression_vectors
from cell_lm.genes.reference import Reference, compute_reference, gene_loadings
from cell_lm.genes.vectors import GeneVectors, packaged_path
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM

SPREAD = 0.02
"""Standard deviation of the initial vectors, as of the random ones."""

Known = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Vectors [genes, width] of standard deviation 1, and bool [genes]: whether a gene has one."""


def fresh_model(config: PretrainConfig, vocabulary: Vocabulary) -> CellLM:
    """Return a model of random weights; its gene vectors need no gradient if they are frozen."""
    model = CellLM(config.encoder, vocabulary, config.objectives, seed=config.training.seed)
    model.encoder.embedding.genes.weight.requires_grad_(not config.training.freeze_gene_vectors)
    return model


def vectors_file(config: PretrainConfig) -> Path | None:
    """Return the file that a run's gene vectors are read from, packaged or the user's; None if there is none.

    Raises
    ------
    ConfigError
        The setting is neither one of the named values nor a file.
    ModelError
        The packaged file is missing.
    """
    path = config.training.gene_vectors_file
    if path is not None:
        if not path.is_file():
            raise _neither(str(path))
        return path
    return packaged_path() if config.training.gene_vectors.startswith("network") else None


def _neither(value: str) -> ConfigError:
    close = difflib.get_close_matches(value, GENE_VECTORS, n=1)
    fix = f"Did you mean {close[0]}" if close else "Name a file that cell-lm genes pretrain wrote"
    found = f"'{value}' is none of {', '.join(GENE_VECTORS)}, and there is no such file"
    return ConfigError(found, where="training.gene_vectors", fix=fix)


def read_vectors(config: PretrainConfig, vocabulary: Vocabulary) -> GeneVectors | None:
    """Return the gene vectors of a run's file for its vocabulary; None if it has none.

    Raises
    ------
    ConfigError, ModelError
        As :func:`vectors_file`; the file is damaged, or has no gene of the vocabulary.
    """
    path = vectors_file(config)
    return None if path is None else GeneVectors.load(path).align(vocabulary)


def describe_vectors(config: PretrainConfig) -> JSON:
    """Return name and SHA-256 of the file of a run's gene vectors, for ``data.json``; None if it has none."""
    path = vectors_file(config)
    return None if path is None else {"name": path.name, "hash": sha256(path)}


def start_model(
    model: CellLM, config: PretrainConfig, vectors: GeneVectors | None, sample: Callable[[int], CellBatch]
) -> str:
    """Set reference and gene vectors of a fresh model; return a line that says where they are from.

    Parameters
    ----------
    model
        Fresh.
    config
        Of the run.
    vectors
        As :func:`read_vectors`, of the model's vocabulary.
    sample
        Returns so many training cells; the held-out ones must not be among them.
    """
    what, seed = config.training.gene_vectors, config.training.seed
    width, genes = model.config.gene_width, len(model.vocabulary)
    parts: list[Known] = []
    if model.config.linear_path or what == "components":
        counts = sample(MOST_CELLS).counts(genes)
        reference = compute_reference(counts, model.config.reference_genes, model.config.width, seed=seed)
        model.set_reference(reference)
        if what == "components":
            parts.append(_component_vectors(counts, reference, width))
    if vectors is not None:
        parts.append((vectors.project(width), vectors.known))
    if "coexpression" in what and config.training.gene_vectors_file is None:
        parts.append(_coexpression(sample(MOST_CELLS), genes, width, seed))
    known = put_vectors(model, *(parts[0] if len(parts) == 1 else join_vectors(parts, width))) if parts else 0
    return _account(config, vectors, known, genes)


def join_vectors(parts: list[Known], width: int) -> Known:
    """Join vectors of several kinds into one space of a width.

    Each kind is centred and scaled to standard deviation 1 at that width, so that all have the same weight. They are
    concatenated, with zeros (the mean) where a kind lacks a gene, and projected by principal components.

    Parameters
    ----------
    parts
        Vectors [genes, width] and the genes of each kind.
    width
        Width of each kind, and of the result.

    Returns
    -------
    vectors, known
        float32 [genes, width] of standard deviation 1; genes of any kind.
    """
    known: NDArray[np.bool_] = np.any([mask for _, mask in parts], axis=0)
    side_by_side = np.zeros((len(known), width * len(parts)), np.float32)
    for number, (vectors, mask) in enumerate(parts):
        side_by_side[mask, number * width : (number + 1) * width] = principal_components(vectors[mask], width)
    joined = np.zeros((len(known), width), np.float32)
    joined[known] = principal_components(side_by_side[known], width)
    return joined, known


def _coexpression(cells: CellBatch, genes: int, width: int, seed: int) -> Known:
    return coexpression_vectors(cells.expression(genes), width, seed=seed)


def _component_vectors(counts: sparse.csr_matrix[np.float32], reference: Reference, width: int) -> Known:
    """Return the loadings of the expressed genes at a width, scaled to standard deviation 1."""
    loadings = gene_loadings(counts, reference)[:, :width]
    known: NDArray[np.bool_] = np.any(loadings, axis=1)
    vectors = np.zeros((len(loadings), width), np.float32)
    vectors[:, : loadings.shape[1]] = loadings / max(float(loadings[known].std()), 1e-6)
    return vectors, known


def put_vectors(model: CellLM, vectors: NDArray[np.float32], known: NDArray[np.bool_]) -> int:
    """Set the gene vectors of a model, scaled to their initial spread, for the genes that have one; return how many."""
    table = model.encoder.embedding.genes.weight
    rows = torch.from_numpy(np.flatnonzero(known))
    with torch.no_grad():
        table[rows.to(table.device)] = torch.from_numpy(SPREAD * vectors[known]).to(table)
    return len(rows)


def _account(config: PretrainConfig, vectors: GeneVectors | None, known: int, genes: int) -> str:
    """Return a line on the source of the initial gene vectors, and how many genes start at random."""
    frozen = "; all are frozen" if config.training.freeze_gene_vectors else ""
    if not known:
        return f"gene vectors: all {genes:,} start at random{frozen}"
    source = f" ({vectors.source})" if vectors is not None else ""
    others = f", the other {genes - known:,} at random" if known < genes else ""
    start = f"gene vectors: {known:,} of {genes:,} start from {config.training.gene_vectors}"
    return f"{start}{source}{others}{frozen}"
