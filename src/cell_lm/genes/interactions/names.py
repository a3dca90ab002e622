"""From the gene names of interactions to the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import GeneError
from cell_lm.genes.resolver import resolve_genes
from cell_lm.genes.vocabulary import Vocabulary


class Pairs(NamedTuple):
    """The two genes of every row.

    Attributes
    ----------
    first, second : ndarray
        int64 [rows], positions in the vocabulary, -1 where the name is none of its genes.
    notes : tuple of str
        What became of the names, and how many rows have one that is not in the vocabulary.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    notes: tuple[str, ...]


def read_pairs(gene_a: Any, gene_b: Any, vocabulary: Vocabulary, where: str) -> Pairs:
    """Resolve two columns of names, pyarrow's chunked arrays of one length.

    Raises
    ------
    GeneError
        They are no human genes, as :func:`~cell_lm.genes.resolve_genes` says, or fewer than a fifth of them are.
    """
    import pandas as pd

    both = np.concatenate([column.to_pandas().astype(object).to_numpy() for column in (gene_a, gene_b)])
    code, names = pd.factorize(both)  # missing: -1
    index, note = resolve(list(names), vocabulary, where)
    position = np.append(index, -1)[code]
    first, second = np.split(position, 2)
    dropped = int(np.count_nonzero((first < 0) | (second < 0)))
    counted = f"{dropped:,} of {len(first):,} rows have a gene that is not in the vocabulary, and were left out"
    return Pairs(first, second, (note, counted) if dropped else (note,))


def resolve(names: Sequence[object], vocabulary: Vocabulary, where: str) -> tuple[NDArray[np.int64], str]:
    """Return the positions of names in the vocabulary, -1 for what is none of its genes, and a note about them all."""
    try:
        audit = resolve_genes(names, vocabulary, where=where, min_overlap=1)
    except GeneError as error:
        raise _with_remedy(error, names) from None
    return audit.table["index"].to_numpy(np.int64), f"names: {audit.summary()}"


def _with_remedy(error: GeneError, names: Sequence[object]) -> GeneError:
    """Say what to do with a file of interactions, where the resolver speaks of a matrix of cells."""
    fix = "Give human gene symbols or Ensembl gene ids (ENSG…); gene_a= and gene_b= name their columns"
    if sum("ENSP" in str(name) for name in names) * 2 >= len(names):
        fix = (
            "They are Ensembl proteins, as in STRING's files: give the folder of its links and info files (read_string)"
        )
    if error.fix and error.fix.startswith("cell-lm reads human genes"):
        fix = error.fix
    return GeneError(error.found, where=error.where, fix=fix)
