"""Interactions of genes: the network that ships with cell-lm, STRING's, and one's own.

:mod:`~cell_lm.genes.interactions.network` says what a network is, :mod:`~cell_lm.genes.interactions.packaged` holds
ours. A table is opened by :mod:`~cell_lm.genes.interactions.text`; :mod:`~cell_lm.genes.interactions.columns` finds the
genes in it, :mod:`~cell_lm.genes.interactions.names` and :mod:`~cell_lm.genes.interactions.scores` read them, and
:mod:`~cell_lm.genes.interactions.edges` puts it all together; :mod:`~cell_lm.genes.interactions.options` is how errors
name what the caller can say. :mod:`~cell_lm.genes.interactions.string_files` knows
STRING's own files, and :mod:`~cell_lm.genes.interactions.read` reads any of these.
"""

from cell_lm.genes.interactions.edges import read_edges
from cell_lm.genes.interactions.network import Network, join_networks
from cell_lm.genes.interactions.packaged import packaged_network
from cell_lm.genes.interactions.read import read_network
from cell_lm.genes.interactions.string_files import read_string

__all__ = ["Network", "join_networks", "packaged_network", "read_edges", "read_network", "read_string"]
