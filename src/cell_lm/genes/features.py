"""Input features of genes for GraphMAE: a network has edges, but no features of its genes.

The graph masked autoencoder masks features of genes and predicts them from the neighbours. Random features could only
be memorised. These features are computed from the networks (and optionally cells): NetMF of the first network, NetMF of
the union of all, and co-expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.config import GraphMAEConfig
from cell_lm.genes.coexpression import coexpression_vectors
from cell_lm.genes.interactions.network import Network, join_networks
from cell_lm.genes.netmf import netmf_vectors, reweigh


@dataclass(frozen=True, eq=False)
class Features:
    """Features of genes, and their NetMF vectors in the networks.

    Attributes
    ----------
    values : ndarray
        float32 [genes, F]; each block of columns has unit length for the genes in it, and is 0 for others.
    structure : ndarray
        float32 [genes, S]: NetMF of the first network and, if there are several, of their union, with eigenvalues to
        the power ``structure_power``; one block of columns each, of unit length.
    """

    values: NDArray[np.float32]
    structure: NDArray[np.float32]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale every row to length 1; rows of zeros are not changed."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return units


def node_features(
    networks: Sequence[Network], config: GraphMAEConfig, *, expression: sparse.csr_matrix[np.float32] | None = None
) -> Features:
    """Return the input features of the genes of networks.

    Parameters
    ----------
    networks
        The first has the largest influence.
    config
        Its ``dim``, ``features``, ``window``, ``negative``, ``structure_power`` and ``seed`` are used.
    expression
        [cells, genes] log1p of counts per 10,000: adds a block of co-expression.
    """
    seen = [networks[0]] if len(networks) == 1 else [networks[0], join_networks(networks)]
    places = [_place(network, config) for network in seen]
    structure = np.hstack([unit(reweigh(place, config.structure_power)) for place in places])
    if config.features == "random":
        random = np.random.default_rng(config.seed).standard_normal(places[0].shape, np.float32)
        return Features(unit(random), structure)
    blocks = [unit(place) for place in places]
    if expression is not None:
        blocks.append(unit(coexpression_vectors(expression, config.dim, seed=config.seed)[0]))
    return Features(np.hstack(blocks), structure)


def _place(network: Network, config: GraphMAEConfig) -> NDArray[np.float32]:
    return netmf_vectors(network, config.dim, window=config.window, negative=config.negative, seed=config.seed)
