"""Reading STRING's own download files: links between proteins, and the genes' names of these proteins.

STRING gives a file of links with a score of 0 to 1000, each both ways round, between proteins of Ensembl
(``9606.ENSP00000269305``), and another one with what the proteins are called (``TP53``). ``cell-lm download string``
fetches both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.genes.interactions.names import resolve
from cell_lm.genes.interactions.network import Network, each_once
from cell_lm.genes.interactions.options import MIN_SCORE
from cell_lm.genes.interactions.text import explained, unpacked
from cell_lm.genes.vocabulary import Vocabulary

HIGH_CONFIDENCE = 0.7
"""STRING's own name for this score."""
CHANNELS = ("neighborhood", "fusion", "cooccurence", "coexpression", "experimental", "database", "textmining")
"""Kinds of evidence in the detailed file, as STRING spells them."""
_PRIOR = 0.041
"""Probability that two proteins interact by chance, which STRING takes off every channel before it combines them."""
_HUMAN = "9606"
_NAME = re.compile(
    r"(?P<taxon>\d+)\.protein\.(?P<kind>links\.full|links\.detailed|links|info)\.v(?P<version>\d+(?:\.\d+)*)\.txt(?:\.gz)?"
)
_FETCH = "cell-lm download string --out FOLDER fetches them"
_BLOCK = 8 << 20


class StringFiles(NamedTuple):
    """A file of links, that of the proteins' names, and their version."""

    links: Path
    info: Path
    version: str


def read_string(
    path: str | Path,
    *,
    min_score: float = HIGH_CONFIDENCE,
    channels: Sequence[str] | None = None,
    vocabulary: Vocabulary | None = None,
) -> Network:
    """Read the human network of STRING.

    Parameters
    ----------
    path
        Folder of ``9606.protein.links.v12.0.txt.gz`` (or ``.links.detailed``, of whatever version) and
        ``9606.protein.info.v12.0.txt.gz``; or that file of links itself, with the other one beside it. Gzipped or not.
    min_score
        Least score, on the scale of 0 to 1; 0.7 is what STRING calls high confidence, 0.4 medium.
    channels
        Kinds of evidence to take alone, of :data:`CHANNELS`; needs the file ``.links.detailed``. They are combined as
        STRING does: with p = 0.041, each score becomes (s - p) / (1 - p), or 0, all of them together
        1 - (1 - s1)(1 - s2)…, and that s becomes s + p (1 - s). (STRING's correction for homologous proteins needs what
        this file does not hold.) Default: STRING's combined score of all.
    vocabulary
        Default: the human protein-coding genes.

    Returns
    -------
    Network
        Named ``"string"``. Several proteins of one gene are that gene; the highest score is kept.

    Raises
    ------
    InputError
        Files are missing, of another species or of different versions, damaged or cut off; a channel is not known;
        nothing is left.
    GeneError
        The names of its proteins are those of another species, or hardly any are human genes.
    """
    vocabulary = Vocabulary.human() if vocabulary is None else vocabulary
    if not 0 <= min_score <= 1:
        raise InputError(f"min_score is {min_score:g}", where=str(path), fix=f"Give {MIN_SCORE} from 0 to 1")
    files = find_string_files(Path(path), detailed=channels is not None)
    columns = _score_columns(channels, str(files.links))
    proteins, index, notes = _read_proteins(files.info, vocabulary)
    first, second, score, links = _read_links(files.links, proteins, index, columns, min_score)
    if not len(first):
        found = f"none of its {links:,} links is left with min_score={min_score:g}"
        raise InputError(found, where=str(files.links), fix=f"Lower {MIN_SCORE}")
    low, high, best = each_once(first, second, score, len(vocabulary))
    kept = f"{len(low):,} pairs of genes have a score of {min_score:g} or more, among {links:,} links"
    evidence = "" if channels is None else f", {', '.join(columns)} alone"
    source = f"STRING v{files.version}{evidence} (Szklarczyk et al., string-db.org, CC BY 4.0)"
    return Network(vocabulary, low, high, best, "string", source, (*notes, kept))


def find_string_files(path: Path, *, detailed: bool = False) -> StringFiles:
    """Find the two files of STRING in a folder, or the one that belongs to a file of links.

    Raises
    ------
    InputError
        There are none, only those of another species, or several versions.
    """
    if not path.exists():
        raise InputError("there is no such file or folder", where=str(path), fix=_FETCH)
    siblings = sorted(path.iterdir() if path.is_dir() else path.parent.iterdir())
    found = {item: match for item in siblings if (match := _NAME.fullmatch(item.name))}
    links = {item: found[item] for item in found if found[item]["kind"] != "info" and (path.is_dir() or item == path)}
    chosen = _choose_links(path, links, detailed=detailed)
    version = found[chosen]["version"]
    info = [
        item for item, match in found.items() if match.group("taxon", "kind", "version") == (_HUMAN, "info", version)
    ]
    if not info:
        text = f"there is no {_HUMAN}.protein.info.v{version}.txt.gz, which names the proteins of {chosen.name}"
        raise InputError(text, where=str(path), fix=_FETCH)
    return StringFiles(chosen, info[0], version)


def _choose_links(path: Path, links: dict[Path, re.Match[str]], *, detailed: bool) -> Path:
    """Return the file of human links; all of one version have the same combined scores."""
    human = {item: match for item, match in links.items() if match["taxon"] == _HUMAN}
    if links and not human:
        text = f"its links are of the species {links.popitem()[1]['taxon']}, not of man ({_HUMAN})"
        raise InputError(text, where=str(path), fix=f"cell-lm reads human genes. {_FETCH}")
    if not human:
        text = f"there is no file of STRING's links ({_HUMAN}.protein.links.v12.0.txt.gz)"
        raise InputError(text, where=str(path), fix=_FETCH)
    versions = sorted({match["version"] for match in human.values()})
    if len(versions) > 1:
        text = f"it has the versions {', '.join(versions)} of STRING's links"
        raise InputError(text, where=str(path), fix="Name the file of links to be read, in place of the folder")
    kinds = {match["kind"]: item for item, match in human.items()}
    if detailed and "links.detailed" not in kinds:
        text = f"channels are in the file {_HUMAN}.protein.links.detailed.v{versions[0]}.txt.gz, which is not there"
        raise InputError(text, where=str(path), fix="cell-lm download string_detailed --out FOLDER fetches it")
    return kinds["links.detailed"] if detailed else kinds[min(kinds)]


def is_string_file(path: Path) -> bool:
    """Tell, by its name, whether a file is one of STRING's."""
    return _NAME.fullmatch(path.name) is not None


def _score_columns(channels: Sequence[str] | None, where: str) -> tuple[str, ...]:
    if channels is None:
        return ("combined_score",)
    wrong = [name for name in channels if name not in CHANNELS]
    if wrong or not channels:
        found = f"there is no channel '{wrong[0]}'" if wrong else "no channel is named"
        raise InputError(found, where=where, fix=f"Name some of {', '.join(CHANNELS)}")
    return tuple(dict.fromkeys(channels))


def _read_proteins(path: Path, vocabulary: Vocabulary) -> tuple[Any, NDArray[np.int64], tuple[str, ...]]:
    """Return the ids of all proteins, pyarrow's array, their positions in the vocabulary, and notes."""
    import pyarrow as pa

    identifiers, names = "#string_protein_id", "preferred_name"
    with _batches(path, "\t", {identifiers: pa.string(), names: pa.string()}) as batches:
        table = pa.Table.from_batches(list(batches))
    proteins = table.column(identifiers).combine_chunks()
    if not len(proteins):
        raise InputError("it names no proteins", where=str(path), fix=_FETCH)
    index, note = resolve(table.column(names).to_pylist(), vocabulary, str(path))
    return proteins, index, (note,)


def _read_links(
    path: Path, proteins: Any, index: NDArray[np.int64], columns: tuple[str, ...], least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], int]:
    """Return positions and scores of the links that are sure enough, a block of the file at a time; and the links."""
    import pyarrow as pa
    from pyarrow import compute

    kinds = {"protein1": pa.string(), "protein2": pa.string()} | dict.fromkeys(columns, pa.int32())
    position = np.append(index, -1).astype(np.int32)
    parts, links = list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]](), 0
    with _batches(path, " ", kinds) as batches:
        for batch in batches:
            links += batch.num_rows
            score = combine([batch.column(name).to_numpy(zero_copy_only=False) for name in columns])
            _refuse_scores(score, str(path))
            sure = (score >= np.float32(least)) & (score > 0)
            chosen = batch.filter(pa.array(sure))
            where = (compute.index_in(chosen.column(i), proteins).fill_null(-1).to_numpy() for i in (0, 1))
            first, second = (position[code] for code in where)
            known = (first >= 0) & (second >= 0)
            parts.append((first[known], second[known], score[sure][known]))
    if not parts:
        raise InputError("it has no links", where=str(path), fix=_FETCH)
    first, second, score = (np.concatenate([part[i] for part in parts]) for i in range(3))
    return first.astype(np.int64), second.astype(np.int64), score.astype(np.float32), links


def combine(channels: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
    """Combine STRING's scores of several channels, 0 to 1000; one alone is only scaled. See :func:`read_string`."""
    if len(channels) == 1:
        return (channels[0] / 1000).astype(np.float32)
    unlikely = np.ones(len(channels[0]))
    for channel in channels:
        unlikely *= 1 - np.clip((channel / 1000 - _PRIOR) / (1 - _PRIOR), 0, 1)
    together = 1 - unlikely
    # without any evidence, not the prior but nothing is left
    return np.where(together > 0, together + _PRIOR * (1 - together), 0).astype(np.float32)


def _refuse_scores(score: NDArray[np.float32], where: str) -> None:
    wrong = int(np.count_nonzero(~((score >= 0) & (score <= 1))))
    if wrong:
        raise InputError(f"{wrong:,} scores are not from 0 to 1000", where=where, fix=_FETCH)


@contextmanager
def _batches(path: Path, separator: str, kinds: dict[str, Any]) -> Iterator[Iterator[Any]]:
    """Yield some columns of a text, a few megabytes of it at a time."""
    import pyarrow as pa
    from pyarrow import csv

    with (
        explained(path),
        unpacked(path) as file,
        pa.PythonFile(file, mode="r") as stream,
        csv.open_csv(
            stream,
            csv.ReadOptions(block_size=_BLOCK),
            csv.ParseOptions(delimiter=separator, quote_char=False),
            csv.ConvertOptions(include_columns=list(kinds), column_types=kinds, strings_can_be_null=False),
        ) as reader,
    ):
        yield iter(reader)
