"""Reading one's own interactions: a table of one edge per row, text or parquet."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.genes.interactions.columns import choose_columns, find_genes, listed
from cell_lm.genes.interactions.names import read_pairs
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.interactions.options import MIN_SCORE
from cell_lm.genes.interactions.scores import read_scores
from cell_lm.genes.interactions.text import Rows, Table, open_table
from cell_lm.genes.vocabulary import Vocabulary

_ENSEMBL = re.compile(r"ENSG\d{11}(?:\.\d+)?")
_NO_HEADER = "its columns have no names: they were read as gene, gene, and score where the third is a number"
_NO_SCORES = "without scores: every edge has score 1"


def read_edges(
    path: str | Path,
    *,
    gene_a: str | None = None,
    gene_b: str | None = None,
    score: str | None = None,
    no_scores: bool = False,
    full_score: float | None = None,
    min_score: float = 0.0,
    vocabulary: Vocabulary | None = None,
) -> Network:
    """Read a table of interactions: CSV, TSV or text with spaces between the columns, gzipped or not, or parquet.

    Parameters
    ----------
    path
        The file. Its format is found from its content, not from its name.
    gene_a, gene_b
        Columns of the two genes: symbols, former symbols, aliases or Ensembl gene ids. Default: the two with a usual
        name (``gene1`` and ``gene2``, ``symbol_a`` and ``symbol_b``, ``source`` and ``target``, …). A table
        whose first line is two genes already has no names; its columns are gene, gene, and the score if the third is a
        number.
    score
        Column of the score. Default: the one with a usual name (``score``, ``weight``, ``combined_score``, …); where
        there is none, every edge has score 1, and a note says so.
    no_scores
        Do not read scores: every edge has score 1.
    full_score
        The score of a sure edge. Default: 1, or 1000 where the scores are whole numbers, as STRING's.
    min_score
        Leave out edges with less than that, on the scale of 0 to 1.
    vocabulary
        Default: the human protein-coding genes.

    Returns
    -------
    Network
        Named as the stem of the file. Its notes list, with counts, what was dropped: edges with a gene that is not in
        the vocabulary, edges of score 0 or under ``min_score``, edges of a gene with itself, and repetitions, of which
        the highest score is kept.

    Raises
    ------
    InputError
        The file is missing, empty, binary, damaged, or ragged; its columns are not found or not unique; those of the
        genes hold lists; scores are missing, negative or of no known scale; nothing is left.
    GeneError
        There are no names, they are those of another species, or hardly any are human genes.
    """
    path, vocabulary = Path(path), Vocabulary.human() if vocabulary is None else vocabulary
    where = str(path)
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score:g}", where=where, fix=f"Give {MIN_SCORE} from 0 to 1")
    table = _headed(open_table(path), vocabulary)
    columns = choose_columns(table.columns, gene_a, gene_b, score, where, no_scores=no_scores)
    rows = table.read([name for name in columns if name is not None])
    if not rows.count:
        raise InputError("it has no interactions", where=where, fix="Give a file of one interaction per line")
    scores = _scores(rows, columns.score, where, full_score)
    pairs = read_pairs(rows, columns.gene_a, columns.gene_b, vocabulary, where)
    enough, left_out = _enough(scores, min_score)
    kept = enough & (pairs.first >= 0) & (pairs.second >= 0)
    unnamed = () if table.headed else (_NO_HEADER,)
    unscored = () if columns.score else (_NO_SCORES,)
    network = Network.from_pairs(
        pairs.first[kept],
        pairs.second[kept],
        scores[kept],
        vocabulary=vocabulary,
        name=_stem(path),
        source=f"{path.name}, columns {', '.join(name for name in columns if name)}",
        notes=(*unnamed, *unscored, *pairs.notes, *left_out),
    )
    if not len(network):
        found = f"none of its {rows.count:,} interactions is left ({'; '.join(network.notes)})"
        raise InputError(found, where=where, fix=f"Lower {MIN_SCORE}, or check the columns of the genes")
    return network


def _headed(table: Table, vocabulary: Vocabulary) -> Table:
    """Return the table, its first line taken for a row where it is two genes and no names of columns."""
    two = table.columns[:2]
    genes = len(two) == 2 and all(vocabulary.find(name) >= 0 or _ENSEMBL.fullmatch(name) for name in two)
    if genes and table.separator and find_genes(table.columns, str(table.path)) is None:
        return table.without_header()
    twice = next((name for name in table.columns if table.columns.count(name) > 1), None)
    if twice is not None:
        found = f"several of its columns are called '{twice}': {listed(table.columns)}"
        raise InputError(found, where=str(table.path), fix="Give every column a name of its own")
    return table


def _scores(rows: Rows, column: str | None, where: str, full_score: float | None) -> NDArray[np.float32]:
    if column is None:
        return np.ones(rows.count, np.float32)
    return read_scores(rows, column, where, full_score=full_score)


def _enough(scores: NDArray[np.float32], least: float) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Return which edges have score enough, and notes about the others."""
    none, low = scores == 0, (scores > 0) & (scores < np.float32(least))
    counts = ((none, "have score 0"), (low, f"have a score under {least:g}"))
    notes = (
        f"{int(some.sum()):,} of {len(scores):,} rows {what}, and were left out" for some, what in counts if some.any()
    )
    return ~(none | low), tuple(notes)


def _stem(path: Path) -> str:
    """Return the name of a file without its endings: ``my.edges.tsv.gz`` is ``my.edges``."""
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name
