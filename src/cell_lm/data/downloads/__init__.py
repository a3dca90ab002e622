"""Public data sets of cells, and gene networks, by name: addresses, hashes, and download."""

from cell_lm.data.downloads.fetch import Fetched, download
from cell_lm.data.downloads.registry import REGISTRY, Dataset, RemoteFile, find_dataset

__all__ = ["REGISTRY", "Dataset", "Fetched", "RemoteFile", "download", "find_dataset"]
