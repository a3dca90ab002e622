"""What a gene is given before it is trained on: a network has edges, and its genes nothing of their own.

The graph masked autoencoder hides features of genes and asks the neighbours for them, so there must be some. Random
ones would have it learn by heart what nobody can know; here they are what the networks (and, on request, cells) say of
each gene: its place in the first network, its place in the union of all, and its co-expression.
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
    """Features of genes, and where the genes stand in the networks.

    Attributes
    ----------
    values : ndarray
        float32 [genes, F]; each block of columns has unit length where the gene is known to it, and 0 where not.
    structure : ndarray
        float32 [genes, S]: NetMF of the first network and, where there are several, of their union, its eigenvalues to
        the power of the settings; a block of columns each, of unit length.
    """

    values: NDArray[np.float32]
    structure: NDArray[np.float32]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale every row to length 1; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return units


def node_features(
    networks: Sequence[Network], config: GraphMAEConfig, *, expression: sparse.csr_matrix[np.float32] | None = None
) -> Features:
    """Return what the genes of networks are described by.

    Parameters
    ----------
    networks
        The first is the one that is trusted most.
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
