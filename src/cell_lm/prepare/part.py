"""A part: the cells of one source, read once, harmonised and filtered, before the parts are joined.

It is a folder in the unfinished store, written atomically: ``part.json``, the genes that the source measured, and a
*piece* in the format of a shard for each dtype of counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy import sparse

from cell_lm._version import __version__
from cell_lm.data.cells import gene_names
from cell_lm.data.formats.cell_file import CellFile
from cell_lm.data.scale.check import ScaleCheck
from cell_lm.data.scale.logarithms import to_linear
from cell_lm.data.store.hashes import row_hashes
from cell_lm.data.store.layout import COUNT_TYPES, LABELS
from cell_lm.data.store.manifest import CellsRecord, GenesRecord
from cell_lm.data.store.writer import ShardWriter
from cell_lm.errors import InputError
from cell_lm.files import atomic_directory, write_json
from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes
from cell_lm.prepare.disk import writing
from cell_lm.prepare.identity import Identity, identify, refuse_changed
from cell_lm.prepare.plan import SourcePlan
from cell_lm.prepare.quality import Gathered, Gatherer
from cell_lm.reading import read_json

PART, FOUND = "part.json", "found.npy"
_LISTED = 5
_MOST_CELLS = 4_096
_MALIGNANCY_NAMES = {"normal": 0, "tumour": 1, "unknown": -1}


class PartRecord(BaseModel):
    """The record of a part: its source and settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell_lm: str
    vocabulary: str
    """Hash of the vocabulary."""
    settings: dict[str, Any]
    """Settings with which the source was read."""
    identity: Identity
    place: str
    evidence: str
    genes: GenesRecord
    cells: CellsRecord
    pieces: dict[str, int]
    """Dtype of counts to number of cells."""
    notes: list[str]


def read_part(folder: Path) -> PartRecord | None:
    """Return the record of a finished part, None if it is not finished."""
    try:
        return PartRecord.model_validate(read_json(folder / PART))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found, fix = "it cannot be read", "Remove the unfinished store and prepare it anew"
        raise InputError(found, where=str(folder / PART), fix=fix) from None


def make_part(
    plan: SourcePlan,
    folder: Path,
    vocabulary: Vocabulary,
    most_entries: int,
    advance: Callable[[int], None] = lambda _: None,
) -> PartRecord:
    """Read a source into a part.

    Parameters
    ----------
    plan
        How to read it.
    folder
        Folder of the part; it appears when the part is complete.
    vocabulary
        The genes to keep.
    most_entries
        Most entries in memory at a time.
    advance
        Receives progress: numbers of bytes that add up to the size of the source.

    Raises
    ------
    InputError, CountsError, GeneError
        The source cannot be used with these settings; or it changed while it was read; or the disk is full.
    """
    before = identify(plan.path)
    with writing(folder), atomic_directory(folder) as fresh:
        with plan.opened() as cells:
            reading = _Reading(plan, cells, vocabulary)
            reading.write(fresh, most_entries, _in_bytes(advance, len(cells), before.size))
        refuse_changed(plan.path, before, when="while it was read")
        part = reading.record(before)
        np.save(fresh / FOUND, reading.audit.found.astype(np.uint32), allow_pickle=False)
        write_json(fresh / PART, part.model_dump(mode="json"))
    return part


def _in_bytes(advance: Callable[[int], None], cells: int, size: int) -> Callable[[int], None]:
    """Return a function that receives finished cells and passes them on as a part of the source's bytes."""
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        now = size * done // max(cells, 1)
        advance(now - told)
        told = now

    return tell


@dataclass
class _Kept:
    """The cells of a piece in order: their rows in the source and their mitochondrial fractions."""

    writer: ShardWriter
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    shares: list[NDArray[np.float32]] = field(default_factory=list)


class _Reading:
    """A source during reading: genes, labels and malignancy first, then the matrix block by block."""

    def __init__(self, plan: SourcePlan, cells: CellFile, vocabulary: Vocabulary) -> None:
        self.plan, self.cells, self._vocabulary = plan, cells, vocabulary
        names = gene_names(cells, plan.read.gene_column)
        least, where, barcodes = plan.read.min_overlap, cells.where, cells.obs.index
        self.audit: GeneAudit = resolve_genes(
            names, vocabulary, where=where, min_overlap=least, var=cells.var, cells=barcodes
        )
        self.notes = list(cells.remarks)
        self._described = self._describe()
        self._check = ScaleCheck(
            plan.read.scale, where=cells.where, cells=cells.obs.index, genes=names, elsewhere=cells.elsewhere
        )
        self._gather = Gatherer(self.audit)
        self._kept: dict[str, _Kept] = {}
        self._few = self._mitochondrial = 0

    def write(self, folder: Path, most_entries: int, advance: Callable[[int], None]) -> None:
        """Scan and convert all blocks, then check the scale of the scanned values."""
        with ExitStack() as open_writers:
            done = 0
            for block in self._blocks(most_entries):
                self._check.add(block)
                if not self._check.spoilt:
                    self._take(block, done, folder, open_writers)
                done += block.shape[0]
                advance(done)
            report = self._check.report(lambda: self._blocks(most_entries))
            self.evidence = report.evidence
            if not report.proved:
                self.notes.append("its scale rests on your word: nothing in it proves or contradicts it")
            self._finish()

    def _blocks(self, most_entries: int) -> Iterator[sparse.csr_matrix[Any]]:
        for block in self.cells.blocks(_MOST_CELLS):
            start = 0
            while start < block.shape[0]:
                full = int(np.searchsorted(block.indptr, block.indptr[start] + most_entries, side="right")) - 1
                stop = min(max(full, start + 1), block.shape[0])
                yield block if stop - start == block.shape[0] else block[start:stop]
                start = stop

    def _take(self, block: sparse.csr_matrix[Any], first: int, folder: Path, open_writers: ExitStack) -> None:
        """Filter the cells of a block and write the rest, each to the piece of the narrowest dtype for its counts."""
        cells = self._gather(to_linear(block, self.plan.read.scale))
        fraction = cells.mitochondrial / np.maximum(cells.totals, np.finfo(float).tiny)
        few = cells.lengths < self.plan.read.min_genes
        poor = ~few & (fraction > self.plan.max_mito)
        self._few, self._mitochondrial = self._few + int(few.sum()), self._mitochondrial + int(poor.sum())
        kinds = np.where(few | poor, -1, _narrowest(cells.largest))
        for number in np.unique(kinds[kinds >= 0]).tolist():
            piece = self._piece(COUNT_TYPES[number], folder, open_writers)
            chosen = kinds == number
            _write_rows(piece.writer, cells, chosen)
            piece.rows.append(first + np.flatnonzero(chosen))
            piece.shares.append(fraction[chosen].astype(np.float32))

    def _piece(self, kind: str, folder: Path, open_writers: ExitStack) -> _Kept:
        if kind not in self._kept:
            (folder / kind).mkdir()
            self._kept[kind] = _Kept(open_writers.enter_context(ShardWriter(folder / kind, kind)))
        return self._kept[kind]

    def _finish(self) -> None:
        known = self._gather.mitochondrial_genes > 0
        if not known:
            self.notes.append("no mitochondrial genes, so their fraction of the counts is unknown")
        for piece in self._kept.values():
            rows = np.concatenate(piece.rows)
            frame = self._described.iloc[rows].reset_index(drop=True)
            shares = np.concatenate(piece.shares) if known else np.full(len(rows), np.nan, np.float32)
            frame.insert(1, "row", rows)
            frame.insert(3, "mitochondrial", shares)
            piece.writer.finish(frame)

    def _describe(self) -> pd.DataFrame:
        """Return malignancy, barcode and labels of all cells of the source, one row each."""
        obs, name, rules = self.cells.obs, self.cells.name, self.plan.mapping.rules()
        absent = [
            label for label, rule in rules.items()
            if rule.column is not None and rule.column not in obs.columns and label not in self.plan.asked
        ]  # fmt: skip
        if absent:
            columns = ", ".join(f"'{rules[label].column}'" for label in absent)
            self.notes.append(f"no obs column {columns}: {', '.join(absent)} unknown for these cells")
        malignancy = self.plan.mapping.malignancy
        cell_malignancy = (
            np.full(len(obs), -1, np.int8)
            if malignancy is None or "malignancy" in absent
            else malignancy.read(obs, where=name)
        )
        described: dict[str, Any] = {"malignancy": cell_malignancy, "barcode": obs.index.astype(str).to_numpy(object)}
        labels = {label: rule for label, rule in self.plan.mapping.labels().items() if label not in absent}
        for label in (*LABELS, *(label for label in labels if label not in LABELS)):
            values = labels[label].read(obs, where=name).to_numpy(object) if label in labels else [None] * len(obs)
            described[label] = pd.Categorical(values)
        return pd.DataFrame(described)

    def record(self, identity: Identity) -> PartRecord:
        """Return the record of the part."""
        kept = {kind: sum(map(len, piece.rows)) for kind, piece in self._kept.items()}
        if not kept:
            self._refuse_none_left()
        audit = self.audit.shorten()
        return PartRecord(
            cell_lm=__version__,
            vocabulary=self._vocabulary.hash,
            settings=self.plan.settings(),
            identity=identity,
            place=self.cells.place,
            evidence=self.evidence,
            genes=GenesRecord(
                given=audit.genes,
                found=audit.found,
                counts=audit.counts,
                listed={status: rows[:_LISTED] for status, rows in audit.listed.items()},
                mitochondrial=self._gather.mitochondrial_genes,
            ),
            cells=CellsRecord(
                given=len(self.cells),
                few_genes=self._few,
                mitochondrial=self._mitochondrial,
                duplicates=0,
                kept=sum(kept.values()),
                malignancy_counts=self._malignancy_counts(),
            ),
            pieces={kind: kept[kind] for kind in COUNT_TYPES if kind in kept},
            notes=self.notes,
        )

    def _malignancy_counts(self) -> dict[str, int]:
        malignancy = self._described["malignancy"].to_numpy()
        kept = np.concatenate([malignancy[rows] for piece in self._kept.values() for rows in piece.rows])
        return {name: int(np.count_nonzero(kept == value)) for name, value in _MALIGNANCY_NAMES.items()}

    def _refuse_none_left(self) -> None:
        least = self.plan.read.min_genes
        found = f"none of its {len(self.cells):,} cells is left: {self._few:,} have fewer than {least:,} "
        found += f"expressed genes of the vocabulary, {self._mitochondrial:,} a mitochondrial fraction above "
        found += f"{self.plan.max_mito:g}"
        fix = "Lower --min-genes or raise --max-mito, or leave the file out"
        raise InputError(found, where=self.cells.where, fix=fix)


def _narrowest(largest: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each cell the index of the narrowest of ``COUNT_TYPES`` that represents its counts exactly."""
    limits = [np.iinfo(name).max for name in COUNT_TYPES[:-1]]
    return np.searchsorted(np.array(limits, np.float64), largest.astype(np.float64), side="left")


def _write_rows(writer: ShardWriter, cells: Gathered, chosen: NDArray[np.bool_]) -> None:
    entries = slice(None) if chosen.all() else np.repeat(chosen, cells.lengths)
    genes, counts, lengths = cells.genes[entries], cells.counts[entries], cells.lengths[chosen]
    hashes = row_hashes(genes, counts, np.concatenate([[0], np.cumsum(lengths)]))
    writer.add(genes, counts, lengths, hashes)
