"""File names and dtypes of a store."""

from __future__ import annotations

from typing import Final

import numpy as np

FORMAT = 1
"""Version of the layout; a newer one is refused."""
KIND: Final = "cell-lm store"
MANIFEST, VOCABULARY, SHARDS = "manifest.json", "vocabulary.json", "shards"
INDPTR, GENES, COUNTS, HASHES, CELLS = "indptr.npy", "genes.npy", "counts.npy", "hashes.npy", "cells.parquet"
FILES = (INDPTR, GENES, COUNTS, HASHES, CELLS)
"""Files of a shard."""

COUNT_TYPES = ("uint8", "uint16", "uint32", "float32")
"""Dtypes of ``counts.npy``, the narrowest first. A shard has one dtype; each cell goes to the narrowest that can hold
it."""
GENE_TYPE, INDPTR_TYPE, HASH_TYPE = np.dtype("<u2"), np.dtype("<i8"), np.dtype("<u8")
MOST_GENES = 2**16
"""Largest vocabulary for the dtype of ``genes.npy``."""

LABELS = ("tissue", "disease", "donor", "cell_type")
"""Labels of a cell that every store has a column for, missing where nothing is known."""


def count_type(name: str) -> np.dtype[np.generic]:
    """Return one of :data:`COUNT_TYPES` as it is on disk, little-endian."""
    return np.dtype(name).newbyteorder("<")
