"""Join many files into one store: read each into a part, join the parts into shards, write the manifest last.

An unfinished store has a folder ``unfinished/`` and no manifest. Complete parts and shards are not made again; partial
files have temporary names and are removed. So a run may be killed at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cell_lm._version import __version__
from cell_lm.data.formats.sample_sheet import SampleSheet
from cell_lm.data.store.layout import MANIFEST, MOST_GENES, SHARDS
from cell_lm.data.store.manifest import Manifest, ShardRecord
from cell_lm.errors import CellLMError, ConfigError, InputError
from cell_lm.files import refuse_unwritable
from cell_lm.genes import Vocabulary
from cell_lm.prepare.columns import Columns
from cell_lm.prepare.disk import alone, remove_partial, writing
from cell_lm.prepare.finish import finish, refuse_other_join, same_store
from cell_lm.prepare.identity import refuse_changed, size
from cell_lm.prepare.join import Part, build_shard, built, choose_cells, plan_shards
from cell_lm.prepare.memory import entries_at_a_time
from cell_lm.prepare.part import PartRecord, make_part, read_part
from cell_lm.prepare.plan import PrepareSettings, SourcePlan, plan_sources, refuse_absent_columns
from cell_lm.prepare.talk import Reporter, SilentReporter
from cell_lm.prepare.workers import Advance, each

UNFINISHED, PARTS, RECORDS = "unfinished", "parts", "shards"


class Prepared(NamedTuple):
    """A finished store; ``fresh`` says whether it was made now or existed before."""

    manifest: Manifest
    fresh: bool


def prepare(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    settings: PrepareSettings | None = None,
    columns: Columns | None = None,
    samples: SampleSheet | None = None,
    vocabulary: Vocabulary | None = None,
    workers: int = 1,
    memory: int | None = None,
    talk: Reporter | None = None,
) -> Prepared:
    """Make a store of the cells of many files, or continue one that a killed run started.

    Parameters
    ----------
    paths
        Files, or folders of 10x matrices; of repeated cells the first in this order is kept.
    out
        Folder of the store.
    settings
        Settings that decide its content.
    columns
        Sources of labels and malignancy; default: none, all are unknown.
    samples
        Table of the samples of the files: more columns of cells; its ``malignancy`` is used if no rule has one.
    vocabulary
        Default: the human protein-coding genes.
    workers
        Number of processes. The bytes of the store do not depend on it.
    memory
        Memory limit of all processes together, bytes; default: 1.5 GB, or the least that the processes need.
    talk
        Receives notes and progress.

    Raises
    ------
    InputError, CountsError, GeneError
        Some sources cannot be used (all others are finished first), or changed during the run; the disk is full; the
        folder holds something else.
    ConfigError
        The folder was started with other settings.
    """
    settings, columns, talk = settings or PrepareSettings(), columns or Columns(), talk or SilentReporter()
    vocabulary, store = vocabulary or Vocabulary.human(), Path(out)
    if len(vocabulary) > MOST_GENES:
        raise InputError(f"the vocabulary has {len(vocabulary):,} genes", fix=f"At most {MOST_GENES:,} can be indexed")
    _refuse_foreign(store)
    plans = plan_sources([Path(path) for path in paths], settings, columns, samples)
    most = entries_at_a_time(memory, workers)
    with writing(store):
        store.mkdir(parents=True, exist_ok=True)
    with alone(store):
        _clean(store)
        if (store / MANIFEST).exists():
            return Prepared(same_store(store, plans, settings, vocabulary), fresh=False)
        refuse_absent_columns(plans, columns)
        with writing(store):
            (store / UNFINISHED / PARTS).mkdir(parents=True, exist_ok=True)
        parts = _read_all(store, plans, vocabulary, workers, most, talk)
        manifest = _join_all(store, parts, plans, settings, vocabulary, workers, talk)
        _clean(store)
    return Prepared(manifest, fresh=True)


def _refuse_foreign(store: Path) -> None:
    """Refuse a folder that holds anything but a store, finished or not."""
    refuse_unwritable(store)
    if os.path.lexists(store) and not store.is_dir():
        raise InputError("it is a file, not a folder", where=str(store), fix="Choose another --out")
    known = {MANIFEST, UNFINISHED}
    inside = {path.name for path in store.iterdir()} if store.exists() else set()
    if inside and not inside & known:
        found = f"the folder holds other files already ({', '.join(sorted(inside)[:3])})"
        raise InputError(found, where=str(store), fix="Choose another --out")


def _clean(store: Path) -> None:
    """Remove partial files, and the parts of a finished store."""
    unfinished = store / UNFINISHED
    with writing(store):
        for folder in (store, store / SHARDS, unfinished, unfinished / PARTS, unfinished / RECORDS):
            remove_partial(folder)
        if (store / MANIFEST).exists():
            shutil.rmtree(unfinished, ignore_errors=True)


def _part_folder(store: Path, plan: SourcePlan) -> Path:
    """Return the folder of a source's part, by its path, so that files can be added, left out and reordered."""
    name = hashlib.sha256(os.path.realpath(plan.path).encode()).hexdigest()[:16]
    return store / UNFINISHED / PARTS / name


class _Read(NamedTuple):
    """A source for another process to read."""

    plan: SourcePlan
    folder: Path


def _make_part(task: _Read, advance: Advance, *, vocabulary: Vocabulary, most_entries: int) -> PartRecord:
    return make_part(task.plan, task.folder, vocabulary, most_entries, advance)


def _read_all(
    store: Path, plans: Sequence[SourcePlan], vocabulary: Vocabulary, workers: int, most: int, talk: Reporter
) -> list[Part]:
    """Read the sources without a part; one error at the end lists all that cannot be used."""
    folders = [_part_folder(store, plan) for plan in plans]
    records = [_finished(plan, folder, vocabulary) for plan, folder in zip(plans, folders, strict=True)]
    open_ = [number for number, record in enumerate(records) if record is None]
    if len(open_) < len(plans):
        talk.note(f"{len(plans) - len(open_):,} of {len(plans):,} sources were read before and are not read again")
    tasks = [_Read(plans[number], folders[number]) for number in open_]
    read = partial(_make_part, vocabulary=vocabulary, most_entries=most)
    refused: dict[int, CellLMError] = {}
    with talk.progress("reading sources (bytes)", sum(size(task.plan.path) for task in tasks)) as advance:
        for place, result in each(read, tasks, workers, advance):
            number = open_[place]
            if isinstance(result, CellLMError):
                refused[number] = result
                talk.note(f"refused: {result}")
            else:
                records[number] = result
                talk.note(f"read {plans[number].path}: {result.cells.kept:,} of {result.cells.given:,} cells")
    _refuse(refused, len(plans))
    return [Part(n, folder, record) for n, (folder, record) in enumerate(zip(folders, records, strict=True)) if record]


def _finished(plan: SourcePlan, folder: Path, vocabulary: Vocabulary) -> PartRecord | None:
    """Return the part of a source that was read before, if source and settings are still the same."""
    record = read_part(folder)
    if record is None:
        return None
    before = record.settings | {"vocabulary": record.vocabulary, "cell-lm": record.cell_lm}
    now = plan.settings() | {"vocabulary": vocabulary.hash, "cell-lm": __version__}
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        told = "; ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in changed[:3])
        found = f"this store was begun with other settings ({told})"
        fix = "Go on with the former settings, or choose another --out"
        raise ConfigError(found, where=str(plan.path), fix=fix)
    refuse_changed(plan.path, record.identity, when="after it was read into the unfinished store")
    return record


def _refuse(refused: dict[int, CellLMError], sources: int) -> None:
    if not refused:
        return
    first = refused[min(refused)]
    if len(refused) == 1:
        raise first
    fix = "All are named above; the others are read, and are not read again when the same command is run without these"
    found = f"{len(refused):,} of {sources:,} sources cannot be used as they are; the first: {first}"
    raise InputError(found, fix=fix)


def _join_all(
    store: Path,
    parts: Sequence[Part],
    plans: Sequence[SourcePlan],
    settings: PrepareSettings,
    vocabulary: Vocabulary,
    workers: int,
    talk: Reporter,
) -> Manifest:
    unfinished = store / UNFINISHED
    refuse_other_join(unfinished, parts, settings)
    kept = choose_cells(parts, keep_duplicates=settings.keep_duplicates)
    with writing(store):
        for folder in (store / SHARDS, unfinished / RECORDS):
            folder.mkdir(exist_ok=True)
    tasks = plan_shards(parts, kept, settings.shard_cells, store / SHARDS, unfinished / RECORDS)
    records: dict[int, ShardRecord] = {n: whole for n, task in enumerate(tasks) if (whole := built(task)) is not None}
    open_ = [number for number in range(len(tasks)) if number not in records]
    with talk.progress("writing shards (cells)", sum(tasks[number].cells for number in open_)) as advance:
        for place, result in each(build_shard, [tasks[number] for number in open_], workers, advance):
            if isinstance(result, CellLMError):
                raise result
            records[open_[place]] = result
    for plan, part in zip(plans, parts, strict=True):
        refuse_changed(plan.path, part.record.identity, when="after it was read into the unfinished store")
    shards = [records[number] for number in range(len(tasks))]
    return finish(store, parts, plans, settings, vocabulary, kept, shards)
