"""The end of a preparation: the manifest, and the check whether an existing store is the requested one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cell_lm.data.store.layout import VOCABULARY
from cell_lm.data.store.manifest import Manifest, ShardRecord, SourceRecord, VocabularyRecord, read_manifest
from cell_lm.errors import ConfigError, InputError
from cell_lm.files import JSON, sha256, write_json
from cell_lm.genes import Vocabulary
from cell_lm.prepare.disk import writing
from cell_lm.prepare.identity import identify
from cell_lm.prepare.join import Kept, Part
from cell_lm.prepare.part import FOUND
from cell_lm.prepare.plan import PrepareSettings, SourcePlan
from cell_lm.reading import MOST_LISTED, read_json_object, reason

_JOIN = "join.json"


def finish(
    store: Path,
    parts: Sequence[Part],
    plans: Sequence[SourcePlan],
    settings: PrepareSettings,
    vocabulary: Vocabulary,
    kept: Kept,
    shards: list[ShardRecord],
) -> Manifest:
    """Write the vocabulary and then the manifest, which completes the store."""
    found = np.zeros(len(vocabulary), np.int64)
    for part in parts:
        found[np.load(part.folder / FOUND, allow_pickle=False)] += 1
    with writing(store):
        vocabulary.save(store / VOCABULARY)
        path = store / VOCABULARY
        manifest = Manifest(
            vocabulary=VocabularyRecord(
                size=path.stat().st_size, sha256=sha256(path), hash=vocabulary.hash, genes=len(vocabulary)
            ),
            settings=settings.model_dump(mode="json"),
            cells=sum(shard.cells for shard in shards),
            tokens=sum(shard.tokens for shard in shards),
            genes_in_any=int(np.count_nonzero(found)),
            genes_in_all=int(np.count_nonzero(found == len(parts))),
            sources=[_source(part, plan, kept, settings) for part, plan in zip(parts, plans, strict=True)],
            duplicates=kept.duplicates,
            shards=shards,
        )
        manifest.write(store)
    return manifest


def _source(part: Part, plan: SourcePlan, kept: Kept, settings: PrepareSettings) -> SourceRecord:
    record = part.record
    unknown, normal, tumour = kept.malignancy_counts[part.number].tolist()
    repeated = 0 if settings.keep_duplicates else int(kept.repeated[part.number])
    cells = record.cells.model_copy(
        update={
            "duplicates": repeated,
            "kept": record.cells.kept - repeated,
            "malignancy_counts": {"normal": normal, "tumour": tumour, "unknown": unknown},
        }
    )
    return SourceRecord(
        name=Path(os.path.realpath(plan.path)).name,
        path=str(plan.path),
        size=record.identity.size,
        sha256=record.identity.sha256,
        files=record.identity.files,
        place=record.place,
        evidence=record.evidence,
        settings=record.settings,
        genes=record.genes,
        cells=cells,
        notes=record.notes,
    )


def refuse_other_join(unfinished: Path, parts: Sequence[Part], settings: PrepareSettings) -> None:
    """Record the join; refuse to continue it with other sources or settings once shards were written.

    Raises
    ------
    ConfigError
        They differ.
    """
    sources: list[JSON] = [[part.folder.name, part.record.identity.sha256] for part in parts]
    plan: dict[str, JSON] = {"shard_cells": settings.shard_cells, "keep_duplicates": settings.keep_duplicates}
    plan["sources"] = sources
    path = unfinished / _JOIN
    if path.exists():
        before = _read_join(path)
        changed = [key for key in plan if plan[key] != before.get(key)]
        if changed:
            key = changed[0]
            told = "other sources, or another order of them" if key == "sources" else f"{key} = {before.get(key)}"
            found = f"its shards are being written, with {told}"
            raise ConfigError(
                found,
                where=str(unfinished.parent),
                fix="Go on with the former sources and settings, or choose another --out",
            )
    with writing(path):
        write_json(path, plan)


def _read_join(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path, most=MOST_LISTED)
    except (OSError, ValueError) as error:
        found, fix = f"it cannot be read ({reason(error)})", "Remove the unfinished store and prepare it anew"
        raise InputError(found, where=str(path), fix=fix) from None


def same_store(store: Path, plans: Sequence[SourcePlan], settings: PrepareSettings, vocabulary: Vocabulary) -> Manifest:
    """Return the manifest of a finished store, if it was made from the same sources and settings.

    Raises
    ------
    ConfigError
        It was not.
    """
    manifest = read_manifest(store)
    told = _difference(manifest, plans, settings, vocabulary)
    if told:
        found = f"it holds a finished store already, made from other sources or settings: {told}"
        raise ConfigError(found, where=str(store), fix="Choose another --out")
    return manifest


def _difference(
    manifest: Manifest, plans: Sequence[SourcePlan], settings: PrepareSettings, vocabulary: Vocabulary
) -> str | None:
    if manifest.vocabulary.hash != vocabulary.hash:
        return "the vocabulary is another one"
    now = settings.model_dump(mode="json")
    changed = [key for key in now if now[key] != manifest.settings.get(key)]
    if changed:
        return f"{changed[0]} was {manifest.settings.get(changed[0])}, now {now[changed[0]]}"
    if len(plans) != len(manifest.sources):
        return f"{len(manifest.sources):,} sources were read, now {len(plans):,} are named"
    for plan, source in zip(plans, manifest.sources, strict=True):
        if plan.settings() != source.settings:
            return f"{source.name} was read by other rules"
        if identify(plan.path).sha256 != source.sha256:
            return f"{plan.path} is not what {source.name} was"
    return None
