"""From the gene names of interactions to the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import GeneError, InputError
from cell_lm.genes.interactions.options import GENES
from cell_lm.genes.interactions.text import Rows
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


def read_pairs(rows: Rows, gene_a: str, gene_b: str, vocabulary: Vocabulary, where: str) -> Pairs:
    """Resolve the names in two columns of a table.

    Raises
    ------
    InputError
        A column holds lists, or something else that is no name.
    GeneError
        There are no names, they are no human genes, as :func:`~cell_lm.genes.resolve_genes` says, or fewer than a
        fifth of them are.
    """
    import pandas as pd

    (code_a, names_a), (code_b, names_b) = (_encode(rows, column, where) for column in (gene_a, gene_b))
    code, names = pd.factorize(np.concatenate([names_a, names_b]))  # missing: -1
    if not len(names):
        found = f"none of its {rows.count:,} rows has a gene in '{gene_a}' or '{gene_b}'"
        raise GeneError(found, where=where, fix=f"Name the columns of the genes by {GENES}")
    index, note = resolve(list(names), vocabulary, where)
    position = np.append(index, -1)[code]
    first = np.append(position[: len(names_a)], -1)[code_a]
    second = np.append(position[len(names_a) :], -1)[code_b]
    dropped = int(np.count_nonzero((first < 0) | (second < 0)))
    counted = f"{dropped:,} of {len(first):,} rows have a gene that is not in the vocabulary, and were left out"
    return Pairs(first, second, (note, counted) if dropped else (note,))


def _encode(rows: Rows, column: str, where: str) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Return the place of every row's name among the different ones, -1 where there is none, and the different ones.

    Only the different names become objects of Python: a table has millions of rows, but some 20,000 genes.
    """
    import pyarrow as pa

    values = rows.columns[column]
    if pa.types.is_dictionary(values.type):  # its dictionary may hold names of no row
        values = values.cast(values.type.value_type)
    try:
        encoded = values.dictionary_encode().combine_chunks()
    except pa.ArrowNotImplementedError:
        found = f"the column '{column}' holds {values.type}, no names of genes"
        raise InputError(found, where=where, fix=f"Name another by {GENES}, or write one gene in each field") from None
    names = encoded.dictionary.to_pandas().astype(object).to_numpy()
    return encoded.indices.fill_null(-1).to_numpy(), names


def resolve(names: Sequence[object], vocabulary: Vocabulary, where: str) -> tuple[NDArray[np.int64], str]:
    """Return the positions of names in the vocabulary, -1 for what is none of its genes, and a note about them all."""
    try:
        audit = resolve_genes(names, vocabulary, where=where, min_overlap=1)
    except GeneError as error:
        raise _with_remedy(error, names) from None
    return audit.table["index"].to_numpy(np.int64), f"names: {audit.summary()}"


def _with_remedy(error: GeneError, names: Sequence[object]) -> GeneError:
    """Say what to do with a file of interactions, where the resolver mentions a matrix of cells."""
    fix = f"Give human gene symbols or Ensembl gene ids (ENSG…); {GENES} name their columns"
    if names and sum("ENSP" in str(name) for name in names) * 2 >= len(names):
        fix = (
            "They are Ensembl proteins, as in STRING's files: give the folder of its links and info files (read_string)"
        )
    if error.fix and error.fix.startswith("cell-lm reads human genes"):
        fix = error.fix
    return GeneError(error.found, where=error.where, fix=fix)
