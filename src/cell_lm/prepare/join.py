"""Join the parts into the shards of the store, without repeated cells; shards have equal size and are independent.

The cells of each shard are a pure function of the parts and the settings. So the shards can be built in any order and
by any number of processes, and complete shards of a killed run are not built again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cell_lm.data.store.layout import CELLS, COUNT_TYPES, COUNTS, GENE_TYPE, GENES, HASHES, INDPTR, LABELS, count_type
from cell_lm.data.store.manifest import DuplicatesRecord, ShardRecord
from cell_lm.data.store.writer import ROW_GROUP, ShardWriter, record
from cell_lm.files import atomic_directory, write_json
from cell_lm.prepare.disk import writing
from cell_lm.prepare.duplicates import find_duplicates
from cell_lm.prepare.part import PartRecord
from cell_lm.reading import MOST_LISTED, read_json

_COPIED = 4_096
_FIRST = ("malignancy", "source", "row", "barcode", "mitochondrial", *LABELS)


@dataclass(frozen=True)
class Part:
    """A finished part: the index of its source, its folder, and its record."""

    number: int
    folder: Path
    record: PartRecord


class Slice(NamedTuple):
    """Consecutive cells of a piece, of which some are kept: ``kept`` is bool [stop - start]."""

    source: int
    piece: Path
    start: int
    stop: int
    kept: NDArray[np.bool_]


@dataclass(frozen=True)
class ShardTask:
    """A shard to build: paths of the shard and its manifest record, the dtype of its counts, and its cells."""

    folder: Path
    record: Path
    counts: str
    slices: tuple[Slice, ...]

    @property
    def cells(self) -> int:
        """Number of cells of the shard."""
        return sum(int(slice_.kept.sum()) for slice_ in self.slices)


@dataclass(frozen=True)
class Kept:
    """The cells kept of the parts.

    Attributes
    ----------
    pieces : dict
        Index of the source and dtype of counts to bool [cells of the piece].
    duplicates : list of DuplicatesRecord
        Repeated cells by pairs of sources, whether left out or not.
    repeated : ndarray
        int64 [sources]: repeated cells of each source.
    malignancy_counts : ndarray
        int64 [sources, 3]: kept cells of each source of unknown malignancy, normal, and tumour.
    """

    pieces: dict[tuple[int, str], NDArray[np.bool_]]
    duplicates: list[DuplicatesRecord]
    repeated: NDArray[np.int64]
    malignancy_counts: NDArray[np.int64]


def choose_cells(parts: Sequence[Part], *, keep_duplicates: bool) -> Kept:
    """Find repeated cells over all parts, and choose the cells to keep."""
    hashes, sources, malignancy_counts, places = [], [], [], []
    for part in parts:
        for kind in part.record.pieces:
            piece = part.folder / kind
            table = pq.read_table(piece / CELLS, columns=["row", "malignancy"], use_threads=False)
            hashes.append(np.load(piece / HASHES, allow_pickle=False))
            malignancy_counts.append(table["malignancy"].to_numpy().astype(np.int64))
            sources.append(np.full(len(table), part.number))
            places.append(table["row"].to_numpy())
    source, malignancy = np.concatenate(sources), np.concatenate(malignancy_counts)
    order = np.lexsort((np.concatenate(places), source))  # by source in the given order, then by row
    found = find_duplicates(np.concatenate(hashes)[order], source[order])
    repeated = np.empty(len(order), bool)
    repeated[order] = found.repeated
    kept = np.ones(len(order), bool) if keep_duplicates else ~repeated
    names = [(part.number, kind) for part in parts for kind in part.record.pieces]
    ends = np.cumsum([len(piece) for piece in sources])
    counted = np.bincount(3 * source[kept] + malignancy[kept] + 1, minlength=3 * len(parts)).reshape(-1, 3)
    pieces = dict(zip(names, np.split(kept, ends[:-1]), strict=True))
    return Kept(pieces, found.pairs, np.bincount(source[repeated], minlength=len(parts)), counted)


def plan_shards(parts: Sequence[Part], kept: Kept, shard_cells: int, shards: Path, records: Path) -> list[ShardTask]:
    """Split the kept cells into shards: by dtype of counts, then in the order of the sources and of their cells."""
    tasks: list[ShardTask] = []
    for kind in COUNT_TYPES:
        for slices in _cut(_pieces(parts, kept, kind), shard_cells):
            name = f"{len(tasks):05d}"
            tasks.append(ShardTask(shards / name, records / f"{name}.json", kind, tuple(slices)))
    return tasks


def _pieces(parts: Sequence[Part], kept: Kept, kind: str) -> Iterator[Slice]:
    for part in parts:
        chosen = kept.pieces.get((part.number, kind))
        if chosen is not None and chosen.any():
            yield Slice(part.number, part.folder / kind, 0, len(chosen), chosen)


def _cut(pieces: Iterator[Slice], shard_cells: int) -> Iterator[list[Slice]]:
    """Yield the slices of each shard: each has ``shard_cells`` kept cells, the last one the rest."""
    slices, room = list[Slice](), shard_cells
    for piece in pieces:
        counted, start = np.cumsum(piece.kept), 0
        while start < piece.stop and counted[-1] > (counted[start - 1] if start else 0):
            before = int(counted[start - 1]) if start else 0
            stop = min(int(np.searchsorted(counted, before + room, side="left")) + 1, piece.stop)
            slices.append(piece._replace(start=start, stop=stop, kept=piece.kept[start:stop]))
            room -= int(counted[stop - 1]) - before
            start = stop
            if room == 0:
                yield slices
                slices, room = [], shard_cells
    if slices:
        yield slices


def built(task: ShardTask) -> ShardRecord | None:
    """Return the manifest record of a shard if it is complete already."""
    try:
        found = ShardRecord.model_validate(read_json(task.record, most=MOST_LISTED))
    except (OSError, ValueError):
        return None
    whole = all((task.folder / name).is_file() for name in found.files)
    return found if whole and all((task.folder / n).stat().st_size == f.size for n, f in found.files.items()) else None


def build_shard(task: ShardTask, advance: Callable[[int], None] = lambda _: None) -> ShardRecord:
    """Write a shard and its manifest record, atomically; ``advance`` receives numbers of finished cells.

    Raises
    ------
    WriteError
        The disk is full.
    """
    with writing(task.folder), atomic_directory(task.folder) as fresh:
        with ShardWriter(fresh, task.counts) as writer:
            frames = [_copy(slice_, writer, task.counts) for slice_ in task.slices]
            writer.finish(_joined(frames))
        written = record(fresh, task.folder.name, task.counts)
    with writing(task.record):
        write_json(task.record, written.model_dump(mode="json"))
    advance(written.cells)
    return written


def _copy(slice_: Slice, writer: ShardWriter, counts: str) -> pd.DataFrame:
    """Copy the kept cells of a slice, some thousand at a time; the files are read, not mapped, to keep memory flat."""
    piece, stop = slice_.piece, slice_.stop
    indptr = np.load(piece / INDPTR, mmap_mode="r", allow_pickle=False)
    hashes = np.load(piece / HASHES, mmap_mode="r", allow_pickle=False)
    with (piece / GENES).open("rb") as genes, (piece / COUNTS).open("rb") as values:
        for start in range(slice_.start, stop, _COPIED):
            rows = slice(start, min(start + _COPIED, stop))
            kept = slice_.kept[rows.start - slice_.start : rows.stop - slice_.start]
            bounds = np.array(indptr[rows.start : rows.stop + 1])
            lengths = np.diff(bounds)
            entries = slice(None) if kept.all() else np.repeat(kept, lengths)
            first, count = int(bounds[0]), int(bounds[-1] - bounds[0])
            writer.add(
                _read(genes, GENE_TYPE, first, count)[entries],
                _read(values, count_type(counts), first, count)[entries],
                lengths[kept],
                np.array(hashes[rows])[kept],
            )
    frame = _read_cells(piece / CELLS, slice_.start, stop)[slice_.kept].reset_index(drop=True)
    return frame.assign(source=np.int32(slice_.source))


def _read(file: IO[bytes], dtype: np.dtype[Any], first: int, count: int) -> NDArray[Any]:
    """Read some entries of an ``.npy`` file."""
    file.seek(0)
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return np.fromfile(file, dtype, count, offset=first * dtype.itemsize)


def _read_cells(path: Path, start: int, stop: int) -> pd.DataFrame:
    """Read some rows of ``cells.parquet``, and no more than the row groups that hold them."""
    with pq.ParquetFile(path) as file:
        groups = list(range(start // ROW_GROUP, -(-stop // ROW_GROUP)))
        frame: pd.DataFrame = file.read_row_groups(groups, use_threads=False).to_pandas()
    begin = groups[0] * ROW_GROUP
    return frame.iloc[start - begin : stop - begin].reset_index(drop=True)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames with the columns in order; labels of only some sources are missing elsewhere."""
    others = sorted({name for frame in frames for name in frame.columns} - set(_FIRST))
    whole = [frame.reindex(columns=[*_FIRST, *others]).astype({"mitochondrial": np.float32}) for frame in frames]
    texts = dict.fromkeys((*_FIRST[5:], *others), object)
    return pd.concat([frame.astype(texts) for frame in whole], ignore_index=True)
