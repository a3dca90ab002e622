"""Gene vectors from networks: GraphMAE trained step by step, and what its codes become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.nn.utils import clip_grad_norm_

from cell_lm._version import __version__
from cell_lm.config import GraphMAEConfig
from cell_lm.errors import InputError, TrainingError
from cell_lm.files import JSON
from cell_lm.genes.features import Features, node_features, unit
from cell_lm.genes.graph import Graph
from cell_lm.genes.graphmae import GraphMAE
from cell_lm.genes.interactions.network import Network, join_networks
from cell_lm.genes.vectors import GeneVectors
from cell_lm.nn.counter import mix
from cell_lm.training.checkpoint import Checkpoint
from cell_lm.training.optimiser import load_optimiser_tensors, optimiser_tensors
from cell_lm.training.schedule import learning_rate


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
    """

    def __init__(
        self,
        networks: Sequence[Network],
        features: Features,
        config: GraphMAEConfig,
        device: torch.device | None = None,
    ) -> None:
        self.networks, self.config, self.features = list(networks), config, features
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
        codes, names = self.codes(), " + ".join(network.source or network.name for network in self.networks)
        values = unit(codes)
        if self.config.beside == "structure":
            values = join(self.features.structure, self.config.code_weight * values, self.config.dim)
        known = np.zeros(len(values), np.bool_)
        known[self.graph.genes] = True
        vocabulary = self.networks[0].vocabulary
        return GeneVectors.from_values(
            values,
            known,
            vocabulary,
            source=f"GraphMAE on {names}",
            about=describe_learning(self.networks, self.config),
        )

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
    InputError
        There is no network, the vocabularies differ, or there are too few genes.
    """
    config = config or GraphMAEConfig()
    refuse_networks(networks)
    learner = GeneLearner(networks, node_features(networks, config, expression=expression), config, device)
    for number in range(config.steps):
        losses = learner.step(number)
        if progress is not None:
            progress(number + 1, losses)
    return learner.vectors()


def refuse_networks(networks: Sequence[Network]) -> None:
    """Raise :class:`~cell_lm.errors.InputError` where nothing can be learned on these networks."""
    if not networks:
        raise InputError("there is no network to learn on", fix="Name 'anat' or a file of edges")
    for network in networks:
        if network.vocabulary.hash != networks[0].vocabulary.hash:
            raise InputError("its vocabulary is not that of the first network", where=network.name)
        if network.known.sum() < 3:
            found = f"it connects {int(network.known.sum())} genes"
            raise InputError(found, where=network.name, fix="Give a network of more genes, or a lower --min-score")


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


def describe_learning(networks: Sequence[Network], config: GraphMAEConfig) -> dict[str, JSON]:
    """Return how vectors are made, as JSON."""
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
    return {"networks": described, "settings": dict(settings), "version": __version__}
