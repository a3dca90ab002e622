"""Learn gene vectors from networks in memory, and refuse unusable inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import sparse

from cell_lm._version import __version__
from cell_lm.config import GraphMAEConfig
from cell_lm.engine.log import Kind, SilentLog
from cell_lm.engine.loop import Trainer
from cell_lm.errors import ConfigError, InputError
from cell_lm.files import JSON
from cell_lm.genes.features import node_features
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vectors import GeneVectors
from cell_lm.pretraining.gene_step import GeneStep, gene_loop_settings


class _CallLog(SilentLog):
    """Passes the metrics of every step to a function."""

    def __init__(self, call: Callable[[int, Mapping[str, float]], None]) -> None:
        self.call = call

    def metrics(self, kind: Kind, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002
        self.call(step, metrics)


def learn_gene_vectors(
    networks: Sequence[Network],
    config: GraphMAEConfig | None = None,
    *,
    expression: sparse.csr_matrix[np.float32] | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, Mapping[str, float]], None] | None = None,
) -> GeneVectors:
    """Learn gene vectors on networks.

    Parameters
    ----------
    networks
        At least one, of one vocabulary. The first has the largest influence: the vectors include its structure besides
        the codes.
    config
        Settings; default: those of the packaged vectors.
    expression
        float32 [cells, genes], log1p of counts per 10,000: adds co-expression to the features.
    device
        Default: CUDA if there is one, else the CPU.
    progress
        Called after every step with the number of steps done and the metrics of the last one: ``total``, ``error`` (the
        scaled cosine error), ``links`` (the loss of left-out edges, nats), ``norm`` (of the gradient).

    Raises
    ------
    InputError, ConfigError
        As :func:`refuse_inputs`.
    TrainingError
        Losses were not finite in several steps in a row.
    """
    config = config or GraphMAEConfig()
    refuse_inputs(networks, config, expression)
    features, about = (
        node_features(networks, config, expression=expression),
        describe_learning(networks, config, expression),
    )
    step = GeneStep(networks, features, config, device, about=about)
    Trainer(step, gene_loop_settings(config), log=_CallLog(progress) if progress else None).run()
    return step.vectors()


def refuse_inputs(
    networks: Sequence[Network], config: GraphMAEConfig, expression: sparse.csr_matrix[np.float32] | None
) -> None:
    """Raise if nothing can be learned from these networks and cells.

    Raises
    ------
    InputError
        There is no network, vocabularies differ, a network connects fewer than three genes, or the cells have another
        vocabulary, no expression, or numbers that are not finite.
    ConfigError
        Cells are given, but ``features`` does not use them.
    """
    if not networks:
        raise InputError("there is no network to learn on", fix="Name 'anat' or a file of edges")
    for network in networks:
        if network.vocabulary.hash != networks[0].vocabulary.hash:
            raise InputError("its vocabulary is not that of the first network", where=network.name)
        if network.known.sum() < 3:
            found = f"it connects {int(network.known.sum())} genes"
            fix = "Give a network of more genes, or a lower min_score (--min-score)"
            raise InputError(found, where=network.name, fix=fix)
    if expression is not None:
        _refuse_expression(expression, len(networks[0].vocabulary), config)


def _refuse_expression(expression: sparse.csr_matrix[np.float32], genes: int, config: GraphMAEConfig) -> None:
    if config.features == "random":
        found = "'features' is 'random', so that the co-expression of the cells would be left out"
        raise ConfigError(found, fix="Leave out the cells, or set features=structure")
    if expression.shape[1] != genes:
        found = f"cells of {expression.shape[1]:,} genes, and networks over {genes:,}"
        raise InputError(found, where="expression", fix="Read the cells with the vocabulary of the networks")
    if not expression.nnz or not np.isfinite(expression.data).all():
        found = "it holds no number" if not expression.nnz else "it holds numbers that are not finite"
        raise InputError(found, where="expression", fix="Give log1p of counts per 10,000")


def describe_learning(
    networks: Sequence[Network], config: GraphMAEConfig, expression: sparse.csr_matrix[np.float32] | None = None
) -> dict[str, JSON]:
    """Return the networks, cells and settings of the vectors, as JSON."""
    described: list[JSON] = [
        {
            "name": network.name,
            "source": network.source,
            "edges": len(network),
            "genes": int(network.known.sum()),
            "hash": network.hash,
        }
        for network in networks
    ]
    settings: Mapping[str, JSON] = config.model_dump(mode="json")
    cells: JSON = None
    if expression is not None:
        cells = {"count": int(expression.shape[0]), "hash": _hash(expression)}
    return {"networks": described, "cells": cells, "settings": dict(settings), "version": __version__}


def _hash(matrix: sparse.csr_matrix[np.float32]) -> str:
    digest = hashlib.sha256()
    for array, kind in ((matrix.indptr, np.int64), (matrix.indices, np.int64), (matrix.data, np.float32)):
        digest.update(array.astype(kind).tobytes())
    return digest.hexdigest()
