"""A network of real genes in communities: dense inside, sparse between, so that what is learned of it is known."""

from __future__ import annotations

import numpy as np

from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vocabulary import Vocabulary


def community_network(
    *, communities: int = 4, size: int = 15, inside: float = 0.5, between: float = 0.02, seed: int = 0, spare: int = 5
) -> tuple[Network, np.ndarray]:
    """Return a network over the first genes of a small vocabulary, and the community of each gene (-1: outside it)."""
    generator = np.random.default_rng(seed)
    human, n = Vocabulary.human(), communities * size
    vocabulary = Vocabulary(human.symbols[: n + spare], human.ensembl[: n + spare])
    community = np.repeat(np.arange(communities), size)
    first, second = np.triu_indices(n, 1)
    chance = np.where(community[first] == community[second], inside, between)
    kept = generator.random(len(first)) < chance
    ring = np.arange(n)  # every gene has an edge
    first = np.concatenate([first[kept], ring])
    second = np.concatenate([second[kept], (ring // size) * size + (ring + 1) % size])
    score = generator.uniform(0.4, 1.0, len(first))
    network = Network.from_pairs(first, second, score, vocabulary=vocabulary, name="communities", source="made up")
    return network, np.concatenate([community, np.full(spare, -1)])
