"""Find out whether a store includes a dataset, by the hashes of the file and of its cells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cell_lm.data.cells import gene_names
from cell_lm.data.formats.stream import open_cells
from cell_lm.data.read_options import ReadKeywords, ReadOptions, read_options
from cell_lm.data.scale.check import ScaleCheck
from cell_lm.data.scale.logarithms import to_linear
from cell_lm.data.store import Store, row_hashes
from cell_lm.data.store.manifest import SourceRecord
from cell_lm.genes import resolve_genes
from cell_lm.prepare.identity import identify
from cell_lm.prepare.quality import Gatherer

_BLOCK = 2_048


@dataclass(frozen=True)
class Contained:
    """Whether the cells of a file are in a store.

    Attributes
    ----------
    path : Path
        The file.
    same_file : SourceRecord or None
        The source of the store that is the same file, byte for byte.
    cells : int
        Cells of the file that have a count in the vocabulary.
    found : int
        Those of them in the store, with the same genes and counts.
    by_source : dict
        Name of a source to the number of cells of the file that the store has from it.
    """

    path: Path
    same_file: SourceRecord | None
    cells: int
    found: int
    by_source: dict[str, int]


def same_source(path: Path, sources: list[SourceRecord]) -> SourceRecord | None:
    """Return the source with the same bytes as a file, whatever its name."""
    digest = identify(path).sha256
    return next((source for source in sources if source.sha256 == digest), None)


def find_cells(store: Store, path: str | Path, **how: Unpack[ReadKeywords]) -> Contained:
    """Look for the cells of a file in a store.

    A cell is found if the store has one with the same counts over the genes of the vocabulary, even if the file was
    written again in another format or order or with other cell names. It is not found if its counts were changed, or
    genes that it expresses were left out.

    Raises
    ------
    InputError, CountsError, GeneError
        The file cannot be used with these options.
    """
    path = Path(path)
    given = _hashes(store, path, read_options(**how))
    held, source = store.hashes(), store.cells(["source"])["source"].to_numpy()
    places = _look_up(given, held)
    found = places >= 0
    names = [record.name for record in store.manifest.sources]
    counted = np.bincount(source[places[found]], minlength=len(names))
    by_source = {name: int(number) for name, number in zip(names, counted, strict=True) if number}
    return Contained(path, same_source(path, store.manifest.sources), len(given), int(found.sum()), by_source)


def _hashes(store: Store, path: Path, read: ReadOptions) -> NDArray[np.uint64]:
    scale = read.scale
    with open_cells(path, layer=read.layer) as cells:
        names = gene_names(cells, read.gene_column)
        least = read.min_overlap or 1
        audit = resolve_genes(names, store.vocabulary, where=cells.where, min_overlap=least, var=cells.var)
        gather, hashes = Gatherer(audit), [np.empty((0, 2), np.uint64)]
        check = ScaleCheck(scale, where=cells.where, cells=cells.obs.index, genes=names, elsewhere=cells.elsewhere)
        for block in cells.blocks(_BLOCK):
            check.add(block)
            if not check.spoilt:
                found = gather(to_linear(block, scale))
                rows = row_hashes(found.genes, found.counts, np.concatenate([[0], np.cumsum(found.lengths)]))
                hashes.append(rows[found.lengths > 0])
        check.report(lambda: cells.blocks(_BLOCK))
    return np.concatenate(hashes)


def _look_up(given: NDArray[np.uint64], held: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the index of each hash in ``held``, int64 [given]; -1 if it is not there."""
    both = np.concatenate([held, given])
    order = np.lexsort((both[:, 1], both[:, 0]))  # stable: of equal hashes, those in held come first
    ordered = both[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
    place = np.empty(len(order), np.int64)
    place[order] = first
    wanted = place[len(held) :]
    return np.where(wanted < len(held), wanted, -1)
