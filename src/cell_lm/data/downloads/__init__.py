"""Public sets of cells, and networks of genes, by name: where they lie, their hashes, and how they are fetched."""

from cell_lm.data.downloads.fetch import Fetched, download
from cell_lm.data.downloads.registry import REGISTRY, Dataset, RemoteFile, find_dataset

__all__ = ["REGISTRY", "Dataset", "Fetched", "RemoteFile", "download", "find_dataset"]
