"""A store: many cells on disk as memory-mapped shards, described by a manifest; see ``docs/store.md``.

:mod:`~cell_lm.data.store.store` opens one, :mod:`~cell_lm.data.store.shard` maps a part of it,
:mod:`~cell_lm.data.store.manifest` describes its content, :mod:`~cell_lm.data.store.writer` writes rows sequentially,
and :mod:`~cell_lm.data.store.hashes` detects duplicate cells.
"""

from cell_lm.data.store.hashes import row_hashes
from cell_lm.data.store.manifest import Manifest, ShardRecord, SourceRecord
from cell_lm.data.store.shard import Shard
from cell_lm.data.store.store import Store
from cell_lm.data.store.writer import ShardWriter

__all__ = ["Manifest", "Shard", "ShardRecord", "ShardWriter", "SourceRecord", "Store", "row_hashes"]
