"""Reading a network, whatever holds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cell_lm.errors import InputError
from cell_lm.genes.interactions.edges import read_edges
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.interactions.options import MIN_SCORE, SPELLED
from cell_lm.genes.interactions.packaged import NAME, packaged_network
from cell_lm.genes.interactions.string_files import HIGH_CONFIDENCE, is_string_file, read_string


def read_network(
    what: str | Path,
    *,
    min_score: float | None = None,
    gene_a: str | None = None,
    gene_b: str | None = None,
    score: str | None = None,
    no_scores: bool = False,
    full_score: float | None = None,
    channels: Sequence[str] | None = None,
) -> Network:
    """Read a network of the human genes: the packaged one, STRING's files, or a table of one's own.

    Parameters
    ----------
    what
        ``"anat"`` (:func:`packaged_network`; a file of that name is ``./anat``), a folder of STRING's files or its file
        of links (:func:`read_string`), or else a table (:func:`read_edges`).
    min_score
        Least score of an edge, 0 to 1. Default: 0.7 for STRING's files, 0 for others.
    gene_a, gene_b, score, no_scores, full_score
        For a table: see :func:`read_edges`.
    channels
        For STRING: see :func:`read_string`.

    Raises
    ------
    InputError
        An option does not belong to what is read, or it cannot be read.
    GeneError
        Its genes are no human genes.
    """
    of_table = {"gene_a": gene_a, "gene_b": gene_b, "score": score, "full_score": full_score}
    given = [name for name, value in of_table.items() if value is not None] + ["no_scores"] * no_scores
    least = 0.0 if min_score is None else min_score
    if what == NAME:
        _refuse_options(what, "the packaged network", given + ["channels"] * (channels is not None))
        if not 0 <= least <= 1:
            raise InputError(f"min_score is {least:g}", where=NAME, fix=f"Give {MIN_SCORE} from 0 to 1")
        return packaged_network().above(least)
    path = Path(what)
    if path.is_dir() or is_string_file(path):
        _refuse_options(path, "STRING's files", given)
        return read_string(path, min_score=HIGH_CONFIDENCE if min_score is None else min_score, channels=channels)
    _refuse_options(path, "a table", ["channels"] * (channels is not None))
    return read_edges(
        path,
        gene_a=gene_a,
        gene_b=gene_b,
        score=score,
        no_scores=no_scores,
        full_score=full_score,
        min_score=least,
    )


def _refuse_options(what: str | Path, kind: str, given: Sequence[str]) -> None:
    if given:
        fix = f"Leave out {', '.join(SPELLED[name] for name in given)}"
        raise InputError(f"{', '.join(given)} mean nothing for {kind}", where=str(what), fix=fix)
