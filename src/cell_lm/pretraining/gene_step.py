"""A step of learning gene vectors, for the loop: GraphMAE on the whole graph, and vectors from its codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cell_lm.config import GraphMAEConfig
from cell_lm.engine.device import choose_device
from cell_lm.engine.loop import LoopSettings, Metrics
from cell_lm.files import JSON
from cell_lm.genes.features import Features, unit
from cell_lm.genes.graph import Graph
from cell_lm.genes.graphmae import GraphMAE
from cell_lm.genes.interactions.network import Network, join_networks
from cell_lm.genes.vectors import GeneVectors
from cell_lm.nn.counter import mix


def gene_loop_settings(config: GraphMAEConfig) -> LoopSettings:
    """Return the loop settings of GraphMAE; nothing is held out, so there is no validation."""
    names = {"steps", "learning_rate", "warmup", "final_rate", "clip", "checkpoint_every"}
    return LoopSettings(**config.model_dump(include=names), validate_every=config.steps)


class GeneStep:
    """Learning gene vectors as a :class:`~cell_lm.engine.loop.Step`. All ranks compute the same.

    Parameters
    ----------
    networks
        At least one, of one vocabulary; messages pass over their union.
    features
        Of :func:`~cell_lm.genes.features.node_features`.
    config
        Settings of the training.
    device
        Device; default: CUDA if there is one, else the CPU.
    about
        How the vectors are made (:func:`~cell_lm.pretraining.gene_vectors.describe_learning`), for their file.
    """

    examples = "genes"
    if_not_finite = "Lower learning_rate (--set learning_rate=0.0005), in a new run; the last checkpoint is good"

    def __init__(
        self,
        networks: Sequence[Network],
        features: Features,
        config: GraphMAEConfig,
        device: torch.device | None = None,
        *,
        about: Mapping[str, JSON],
    ) -> None:
        self.networks, self.config, self.features, self.about = list(networks), config, features, dict(about)
        self.device = device or choose_device()
        self.graph = Graph.of(join_networks(networks)).to(self.device)
        self.inputs = torch.from_numpy(features.values[self.graph.genes]).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.module = GraphMAE(self.inputs.shape[1], config).to(self.device)

    def optimiser(self) -> torch.optim.AdamW:
        """Return AdamW over all parameters."""
        config = self.config
        return torch.optim.AdamW(self.module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)

    def gradient(self, step: int) -> Metrics:
        """Add the gradient over the whole graph to ``.grad``; masks and edges are drawn from seed and step."""
        generator = torch.Generator(self.device)
        generator.manual_seed(int(mix(mix(torch.tensor(self.config.seed)) ^ step)) & 0x7FFF_FFFF_FFFF_FFFF)
        error, links = self.module.losses(self.inputs, self.graph, generator)
        total = error + self.config.links * links
        torch.autograd.backward(total)
        return Metrics({"total": total.item(), "error": error.item(), "links": links.item()}, len(self.inputs))

    def validate(self) -> None:
        """Return None: nothing is held out."""

    def describe(self, metrics: Metrics, per_second: float) -> str:
        """Return both losses and the speed in a few words."""
        error, links = metrics.values["error"], metrics.values["links"]
        return f"hidden features {error:.4f}, left-out edges {links:.3f} nats, {per_second:,.0f} genes/s"

    @torch.inference_mode()
    def codes(self) -> NDArray[np.float32]:
        """Return the codes of all genes, float32 [genes, dim]; 0 outside the networks."""
        self.module.eval()
        codes = np.zeros((len(self.features.values), self.config.dim), np.float32)
        codes[self.graph.genes] = self.module.encode(self.inputs, self.graph.messages()).float().cpu().numpy()
        self.module.train()
        return codes

    def vectors(self) -> GeneVectors:
        """Return the gene vectors as they are now."""
        values = unit(self.codes())
        if self.config.combine_with == "structure":
            values = join(self.features.structure, self.config.code_weight * values, self.config.dim)
        known = np.zeros(len(values), np.bool_)
        known[self.graph.genes] = True
        vocabulary = self.networks[0].vocabulary
        return GeneVectors.from_values(values, known, vocabulary, source=self._source(), about=self.about)

    def _source(self) -> str:
        cells = self.about.get("cells")
        coexpression = [f"the co-expression of {cells['count']:,} cells"] if isinstance(cells, dict) else []
        return "GraphMAE on " + " + ".join([*(each.source or each.name for each in self.networks), *coexpression])


def join(structure: NDArray[np.float32], codes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return vectors whose inner products best approximate the sum of those of both.

    This is the best rank-``width`` approximation of the concatenated vectors (Eckart and Young 1936).

    Parameters
    ----------
    structure, codes
        float32 [genes, S] and [genes, D]; unknown genes have rows of zeros.
    width
        Width of the result, at most S + D.
    """
    both = np.hstack([structure, codes]).astype(np.float64)
    _, axes = np.linalg.eigh(both.T @ both)
    joined: NDArray[np.float32] = (both @ axes[:, ::-1][:, :width]).astype(np.float32)
    return joined
