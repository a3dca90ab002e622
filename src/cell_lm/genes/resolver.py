"""Map the gene names of a file to the vocabulary, offline, with an audit of every name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from cell_lm.errors import GeneError
from cell_lm.genes.audit import GeneAudit
from cell_lm.genes.reader import NameReader
from cell_lm.genes.refusals import find_problem
from cell_lm.genes.spelling import as_text
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.remedies import option

_SOME = 20_000
MIN_SHARE = 0.2
"""Least fraction of the input genes that must be in the vocabulary: files of 60,000 annotated human genes have 0.3."""


def resolve_genes(
    names: Iterable[object],
    vocabulary: Vocabulary | None = None,
    *,
    where: str | None = None,
    min_overlap: int | None = None,
    var: pd.DataFrame | None = None,
    cells: Iterable[object] | None = None,
) -> GeneAudit:
    """Map the gene names of a file onto the vocabulary.

    Parameters
    ----------
    names
        Symbols or Ensembl ids, one per column of the counts; anything that is not text becomes text.
    vocabulary
        Default: the human protein-coding genes, :meth:`Vocabulary.human`.
    where
        Name of the input in errors, such as the name of the file.
    min_overlap
        Least number of different genes of the vocabulary that must be found; default: one in twenty (964 of the human
        ones). Lower it for a targeted panel.
    var
        ``adata.var``; if ``names`` do not fit, the error suggests a column that does.
    cells
        Names of the cells; if they are genes, the error says that the matrix is transposed.

    Raises
    ------
    GeneError
        There are no names, they are not human genes (another species, transcripts, peaks, barcodes, numbers), or fewer
        than ``min_overlap`` or than a fifth of them are in the vocabulary. It says what was found, and a remedy.
    """
    vocabulary = Vocabulary.human() if vocabulary is None else vocabulary
    given = [as_text(name) for name in names]
    audit = _audit(given, vocabulary)
    fewest = max(1, len(vocabulary) // 20) if min_overlap is None else min_overlap
    problem = find_problem(audit, min_overlap=fewest, min_share=MIN_SHARE)
    if problem:
        fix = _transposed(cells, vocabulary, audit) or _better_column(var, vocabulary, fewest) or problem.fix
        raise GeneError(problem.found, where=where, fix=fix)
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


def _transposed(cells: Iterable[object] | None, vocabulary: Vocabulary, refused: GeneAudit) -> str | None:
    """Advise to transpose a matrix whose cells, not its columns, are named as genes."""
    names = [as_text(name) for name in itertools.islice(() if cells is None else cells, _SOME)]
    used = _audit(names, vocabulary).used if names else 0
    if used < MIN_SHARE * len(names) or used <= refused.used:
        return None
    return f"Its cells are named as genes ({used:,} of {len(names):,}), so the matrix is transposed: give adata.T"


def _better_column(var: pd.DataFrame | None, vocabulary: Vocabulary, fewest: int) -> str | None:
    """Advise to take the names from the column of ``var`` with most genes, if it can be used."""
    if var is None:
        return None
    texts = var.select_dtypes(include=["object", "category", "string"])
    audits = {str(name): _audit([as_text(x) for x in texts[name]], vocabulary) for name in texts.columns}
    best = max(audits, key=lambda name: len(audits[name].found), default=None)
    if best is None or find_problem(audits[best], min_overlap=fewest, min_share=MIN_SHARE):
        return None
    found = len(audits[best].found)
    return f"Its column '{best}' of var holds {found:,} genes of the vocabulary: say {option('gene_column', best)}"
