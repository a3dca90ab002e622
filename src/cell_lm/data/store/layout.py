"""The names and types in a store, in one place."""

from __future__ import annotations

from typing import Final

import numpy as np

FORMAT = 1
"""Version of the layout; a newer one is refused."""
KIND: Final = "cell-lm store"
MANIFEST, VOCABULARY, SHARDS = "manifest.json", "vocabulary.json", "shards"
INDPTR, GENES, COUNTS, HASHES, CELLS = "indptr.npy", "genes.npy", "counts.npy", "hashes.npy", "cells.parquet"
FILES = (INDPTR, GENES, COUNTS, HASHES, CELLS)
"""What a shard consists of."""

COUNT_TYPES = ("uint8", "uint16", "uint32", "float32")
"""Types of ``counts.npy``, the narrowest first. A shard has one, and each cell goes where the narrowest holds it."""
GENE_TYPE, INDPTR_TYPE, HASH_TYPE = np.dtype("<u2"), np.dtype("<i8"), np.dtype("<u8")
MOST_GENES = 2**16
"""Largest vocabulary that ``genes.npy`` can index."""

LABELS = ("tissue", "disease", "donor", "cell_type")
"""Labels of a cell that every store has a column for, missing where nothing is known."""


def count_type(name: str) -> np.dtype[np.generic]:
    """Return one of :data:`COUNT_TYPES` as it is on disk, little-endian."""
    return np.dtype(name).newbyteorder("<")
