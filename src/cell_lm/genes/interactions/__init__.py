"""Interactions of genes: the network that ships with cell-lm, and one's own.

:mod:`~cell_lm.genes.interactions.network` says what a network is.
"""

from cell_lm.genes.interactions.network import Network, join_networks

__all__ = ["Network", "join_networks"]
