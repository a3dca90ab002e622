"""From the gene names of a file to the vocabulary, offline, with an account of every name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from cell_lm.errors import GeneError
from cell_lm.genes.audit import GeneAudit
from cell_lm.genes.reader import NameReader
from cell_lm.genes.refusals import find_problem
from cell_lm.genes.spelling import as_text
from cell_lm.genes.vocabulary import Vocabulary

MIN_SHARE = 0.2
"""Least share of the input genes that must be in the vocabulary: files of 60,000 annotated human genes have 0.3."""


def resolve_genes(
    names: Iterable[object],
    vocabulary: Vocabulary | None = None,
    *,
    where: str | None = None,
    min_overlap: int | None = None,
    var: pd.DataFrame | None = None,
) -> GeneAudit:
    """Map the gene names of a file onto the vocabulary.

    Parameters
    ----------
    names
        Symbols or Ensembl ids, one per column of the counts; anything that is not text becomes text.
    vocabulary
        Default: the human protein-coding genes, :meth:`Vocabulary.human`.
    where
        What an error shall call the input: the name of the file.
    min_overlap
        Fewest different genes of the vocabulary that must be found; default: one in twenty (964 of the human ones).
        Lower it for a targeted panel.
    var
        ``adata.var``; where ``names`` do not fit, the error then tells which of its columns does.

    Raises
    ------
    GeneError
        Where there are no names, or they are no human genes (another species, transcripts, peaks, barcodes, numbers),
        or fewer than ``min_overlap`` or than a fifth of them are in the vocabulary. It says what was found, and a
        remedy.
    """
    vocabulary = Vocabulary.human() if vocabulary is None else vocabulary
    given = [as_text(name) for name in names]
    audit = _audit(given, vocabulary)
    fewest = max(1, len(vocabulary) // 20) if min_overlap is None else min_overlap
    problem = find_problem(audit, min_overlap=fewest, min_share=MIN_SHARE)
    if problem:
        raise GeneError(problem.found, where=where, fix=_better_column(var, vocabulary, audit) or problem.fix)
    return audit


def _audit(given: Sequence[str], vocabulary: Vocabulary) -> GeneAudit:
    reader = NameReader(vocabulary, given)
    found = [reader.account(name) for name in given]
    index = np.array([row[1] for row in found], np.int64)
    status = np.array([row[2] for row in found], object)
    kept, times = np.unique(index[index >= 0], return_counts=True)
    status[np.isin(index, kept[times > 1])] = "merged"
    symbol, how = [row[0] for row in found], [row[3] for row in found]
    table = pd.DataFrame({"gene": given, "symbol": symbol, "index": index, "status": status, "how": how})
    return GeneAudit(table.astype({"gene": object, "symbol": object, "how": object}), len(vocabulary))


def _better_column(var: pd.DataFrame | None, vocabulary: Vocabulary, refused: GeneAudit) -> str | None:
    """Advise to take the names from the column of ``var`` that holds most genes, where it has far more of them."""
    if var is None:
        return None
    texts = var.select_dtypes(include=["object", "category", "string"])
    found = {str(name): len(_audit([as_text(x) for x in texts[name]], vocabulary).found) for name in texts.columns}
    best = max(found, key=lambda name: found[name], default=None)
    if best is None or found[best] <= 2 * len(refused.found):
        return None
    use = f"adata.var_names = adata.var['{best}'].astype(str)"
    return f"The column '{best}' of adata.var holds {found[best]:,} genes of the vocabulary: {use}"
