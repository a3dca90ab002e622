"""Detection of duplicate cells: a hash of genes and counts, independent of file, dtype and order."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray


def row_hashes(genes: NDArray[Any], counts: NDArray[Any], indptr: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of each row of a matrix in the order of the vocabulary.

    The hash is BLAKE2b (RFC 7693) of 16 bytes, over the indices of the row's genes as little-endian uint16 and then
    its counts as little-endian float32. Two different rows have the same hash with probability 1 in 2^128 per pair.

    Parameters
    ----------
    genes
        [entries]: index in the vocabulary; sorted within each row, without duplicates and zero counts.
    counts
        [entries]: counts, of any real dtype.
    indptr
        [rows + 1]: row ``r`` holds the entries ``indptr[r]`` to ``indptr[r + 1]``.

    Returns
    -------
    ndarray
        uint64 [rows, 2], the 16 bytes as two little-endian numbers.
    """
    names = np.ascontiguousarray(genes, "<u2").data.cast("B")
    values = np.ascontiguousarray(counts, "<f4").data.cast("B")
    digests = bytearray()
    for first, last in pairwise(indptr.tolist()):
        digest = blake2b(names[2 * first : 2 * last], digest_size=16)
        digest.update(values[4 * first : 4 * last])
        digests += digest.digest()
    return np.frombuffer(bytes(digests), "<u8").reshape(-1, 2).astype(np.uint64, copy=False)
