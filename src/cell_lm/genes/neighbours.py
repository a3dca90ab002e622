"""Nearest genes by their vectors, and the gene of a name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import GeneError
from cell_lm.genes.reader import NameReader
from cell_lm.genes.spelling import as_text
from cell_lm.genes.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd


def nearest(
    row: int, directions: NDArray[np.float32], known: NDArray[np.bool_], symbols: Sequence[str], k: int
) -> pd.DataFrame:
    """Return the ``k`` other known genes with the largest cosine to ``row``; ``directions`` have length 1 or 0."""
    import pandas as pd

    cosine = directions @ directions[row]
    others = np.flatnonzero(known & (np.arange(len(known)) != row))
    best = others[np.argsort(-cosine[others], kind="stable")[:k]]
    return pd.DataFrame({"gene": [symbols[i] for i in best], "cosine": np.clip(cosine[best], -1.0, 1.0)})


def find(gene: str, reader: NameReader, known: NDArray[np.bool_]) -> int:
    """Return the position in the reader's vocabulary of a gene, by any name that :func:`resolve_genes` reads.

    Raises
    ------
    GeneError
        No gene, or several, have this name; the error suggests close symbols of known genes.
    """
    name = as_text(gene)
    account = reader.account(name)
    if account.position < 0:
        found = f"it is no gene of {len(known):,} ({account.how or account.status})"
        raise GeneError(found, where=f"gene '{name.strip()[:60]}'", fix=_close(name, reader.vocabulary, known))
    return account.position


def position(gene: str, reader: NameReader, known: NDArray[np.bool_]) -> int:
    """Return the position of a gene that is known, as :func:`find` does.

    Raises
    ------
    GeneError
        No gene, several, or an unknown one have this name; the error suggests close symbols of known genes.
    """
    row = find(gene, reader, known)
    if not known[row]:
        symbol = reader.vocabulary.symbols[row]
        found = f"{symbol} has no vector: it is none of these {int(known.sum()):,} genes"
        raise GeneError(found, where=f"gene '{as_text(gene)[:60]}'", fix=_close(symbol, reader.vocabulary, known))
    return row


def _close(name: str, vocabulary: Vocabulary, known: NDArray[np.bool_]) -> str:
    symbols = [symbol for symbol, has in zip(vocabulary.symbols, known, strict=True) if has]
    close = difflib.get_close_matches(name.strip().upper()[:60], symbols, n=3, cutoff=0.7)
    return f"Close symbols: {', '.join(close)}" if close else "Use an HGNC symbol, an alias or an Ensembl id"
