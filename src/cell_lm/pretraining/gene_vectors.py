"""Gene vectors from networks: GraphMAE trained step by step, and what its codes become."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.nn.utils import clip_grad_norm_

from cell_lm._version import __version__
from cell_lm.config import GraphMAEConfig
from cell_lm.engine.checkpoint import Checkpoint
from cell_lm.engine.optimiser import load_optimiser_tensors, optimiser_tensors
from cell_lm.engine.schedule import learning_rate
from cell_lm.errors import ConfigError, InputError, TrainingError
from cell_lm.files import JSON
from cell_lm.genes.features import Features, node_features, unit
from cell_lm.genes.graph import Graph
from cell_lm.genes.graphmae import GraphMAE
from cell_lm.genes.interactions.network import Network, join_networks
from cell_lm.genes.vectors import GeneVectors
from cell_lm.nn.counter import mix


@dataclass(frozen=True)
class GeneLosses:
    """What a step cost: the scaled cosine error, the loss of unheard edges (nats), and the gradient's norm."""

    error: float
    links: float
    norm: float


class GeneLearner:
    """GraphMAE in training. A step is a function of its number, so that a resumed run needs weights and moments alone.

    Parameters
    ----------
    networks
        At least one, of one vocabulary; messages pass over their union.
    features
        Of :func:`~cell_lm.genes.features.node_features`.
    config
        Of the training.
    device
        Where to; default: CUDA where there is one, else the CPU.
    about
        How the vectors are made, of :func:`describe_learning`; default: from the networks alone.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        features: Features,
        config: GraphMAEConfig,
        device: torch.device | None = None,
        *,
        about: Mapping[str, JSON] | None = None,
    ) -> None:
        self.networks, self.config, self.features = list(networks), config, features
        self.about = describe_learning(networks, config) if about is None else dict(about)
        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.graph = Graph.of(join_networks(networks)).to(self.device)
        self.inputs = torch.from_numpy(features.values[self.graph.genes]).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = GraphMAE(self.inputs.shape[1], config).to(self.device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def step(self, number: int) -> GeneLosses:
        """Take one step over the whole graph; ``number`` counts from 0.

        Raises
        ------
        TrainingError
            Losses or gradient are not finite.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(number, self.config)
        generator = torch.Generator(self.device)
        generator.manual_seed(int(mix(mix(torch.tensor(self.config.seed)) ^ number)) & 0x7FFF_FFFF_FFFF_FFFF)
        self.optimiser.zero_grad(set_to_none=True)
        error, links = self.model.losses(self.inputs, self.graph, generator)
        torch.autograd.backward(error + self.config.links * links)
        norm = clip_grad_norm_(self.model.parameters(), self.config.clip)
        losses = GeneLosses(error.item(), links.item(), norm.item())
        if not np.isfinite([losses.error, losses.links, losses.norm]).all():
            fix = "Lower learning_rate (--set learning_rate=0.0005)"
            raise TrainingError(f"the losses of step {number + 1} are not finite ({losses})", fix=fix)
        self.optimiser.step()
        return losses

    @torch.inference_mode()
    def codes(self) -> NDArray[np.float32]:
        """Return the codes of all genes, float32 [genes, dim]; 0 outside the networks."""
        self.model.eval()
        codes = np.zeros((len(self.features.values), self.config.dim), np.float32)
        codes[self.graph.genes] = self.model.encode(self.inputs, self.graph.messages()).float().cpu().numpy()
        self.model.train()
        return codes

    def vectors(self) -> GeneVectors:
        """Return the gene vectors as they are now."""
        codes = self.codes()
        values = unit(codes)
        if self.config.combine_with == "structure":
            values = join(self.features.structure, self.config.code_weight * values, self.config.dim)
        known = np.zeros(len(values), np.bool_)
        known[self.graph.genes] = True
        vocabulary = self.networks[0].vocabulary
        return GeneVectors.from_values(values, known, vocabulary, source=self._source(), about=self.about)

    def _source(self) -> str:
        cells = self.about.get("cells")
        together = [f"the co-expression of {cells['count']:,} cells"] if isinstance(cells, dict) else []
        return "GraphMAE on " + " + ".join([*(each.source or each.name for each in self.networks), *together])

    def checkpoint(self, step: int) -> Checkpoint:
        """Return what a later session needs to go on after ``step`` steps."""
        return Checkpoint(self.model.state_dict(), optimiser_tensors(self.model, self.optimiser), {"step": step})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(dict(checkpoint.model))
        load_optimiser_tensors(self.model, self.optimiser, checkpoint.optimiser)


def learn_gene_vectors(
    networks: Sequence[Network],
    config: GraphMAEConfig | None = None,
    *,
    expression: sparse.csr_matrix[np.float32] | None = None,
    device: torch.device | None = None,
    progress: Callable[[int, GeneLosses], None] | None = None,
) -> GeneVectors:
    """Learn gene vectors on networks.

    Parameters
    ----------
    networks
        At least one, of one vocabulary. The first is the one that is trusted most: its structure stands in the vectors
        beside the codes.
    config
        Settings; default: those of the packaged vectors.
    expression
        float32 [cells, genes], log1p of counts per 10,000: lets co-expression take part.
    device
        Default: CUDA where there is one, else the CPU.
    progress
        Told after every step how many are done and what the last one cost.

    Raises
    ------
    InputError, ConfigError
        As :func:`refuse_inputs`.
    """
    config = config or GraphMAEConfig()
    refuse_inputs(networks, config, expression)
    features, about = (
        node_features(networks, config, expression=expression),
        describe_learning(networks, config, expression),
    )
    learner = GeneLearner(networks, features, config, device, about=about)
    for number in range(config.steps):
        losses = learner.step(number)
        if progress is not None:
            progress(number + 1, losses)
    return learner.vectors()


def refuse_inputs(
    networks: Sequence[Network], config: GraphMAEConfig, expression: sparse.csr_matrix[np.float32] | None
) -> None:
    """Raise where nothing can be learned on these networks and cells.

    Raises
    ------
    InputError
        There is no network, vocabularies differ, a network connects fewer than three genes, or the cells are of another
        vocabulary, express nothing, or hold numbers that are not finite.
    ConfigError
        Cells are given, and ``features`` leaves them out.
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


def join(structure: NDArray[np.float32], codes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return vectors whose inner products are as near as can be to the sum of those of both.

    That is the best approximation of rank ``width`` of both side by side (Eckart and Young 1936).

    Parameters
    ----------
    structure, codes
        float32 [genes, S] and [genes, D]; rows of zeros where not known.
    width
        Of the result, at most S + D.
    """
    both = np.hstack([structure, codes]).astype(np.float64)
    _, axes = np.linalg.eigh(both.T @ both)
    joined: NDArray[np.float32] = (both @ axes[:, ::-1][:, :width]).astype(np.float32)
    return joined


def describe_learning(
    networks: Sequence[Network], config: GraphMAEConfig, expression: sparse.csr_matrix[np.float32] | None = None
) -> dict[str, JSON]:
    """Return what vectors are learned on and how, as JSON."""
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
