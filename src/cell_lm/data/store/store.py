"""Opening a store: refused unless it is whole; and looking all of it over on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cell_lm.data.store.layout import FILES, MANIFEST, SHARDS, VOCABULARY
from cell_lm.data.store.manifest import Manifest, read_manifest
from cell_lm.data.store.shard import Shard
from cell_lm.data.store.verified import refuse_damaged
from cell_lm.errors import CellLMError, InputError
from cell_lm.files import sha256
from cell_lm.genes.vocabulary import Vocabulary

_ADVICE = "Copy the store again, or prepare it anew"
_THREADS = 4
"""Files that are hashed at a time."""


class Store:
    """Cells on disk, harmonised and quality-controlled by ``cell-lm prepare``. Read-only.

    Attributes
    ----------
    path : Path
        Its folder.
    manifest : Manifest
        What it is, from which files, by which settings.
    vocabulary : Vocabulary
        The genes that the indices mean.
    shards : tuple of Shard
        Its parts, in order; each can be tokenised like :class:`~cell_lm.data.cells.CellData`.
    """

    def __init__(self, path: Path, manifest: Manifest, vocabulary: Vocabulary, *, verify: bool = True) -> None:
        self.path, self.manifest, self.vocabulary = path, manifest, vocabulary
        self.shards = tuple(
            Shard(path / SHARDS / record.name, record, vocabulary, f"{self.name}/{record.name}", verify=verify)
            for record in manifest.shards
        )

    @classmethod
    def open(cls, path: str | Path, *, vocabulary: Vocabulary | None = None, verify: bool = True) -> Store:
        """Open a store.

        The sizes of its files are checked. A file of a shard is hashed before it is used for the first time, unless it
        was found whole before and has not changed since; :meth:`refuse_damaged` does that for all of them.

        Parameters
        ----------
        path
            Its folder.
        vocabulary
            The one it must have, as that of a model; default: any.
        verify
            Hash files before they are used. Without it, damage that leaves a file readable changes results unseen.

        Raises
        ------
        InputError
            It is no store or an unfinished one, of a newer format, of another vocabulary, or a file is missing or not
            as long as it was. Using a shard raises it, too, where a file is damaged.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        own = _read_vocabulary(folder, manifest)
        if vocabulary is not None and vocabulary.hash != own.hash:
            found = f"its vocabulary ({len(own):,} genes) is not the one that is needed ({len(vocabulary):,} genes)"
            raise InputError(found, where=str(folder), fix="Prepare a store with the vocabulary of the model")
        store = cls(folder, manifest, own, verify=verify)
        for shard in store.shards:
            shard.refuse_other_sizes()
        return store

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.resolve().name

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the manifest; as that holds the hashes of all files, it stands for the whole store."""
        return sha256(self.path / MANIFEST)

    def __len__(self) -> int:
        return self.manifest.cells

    @property
    def malignancy(self) -> NDArray[np.int8]:
        """int8 [cells]: ``NORMAL``, ``TUMOUR`` or ``UNKNOWN``."""
        return np.concatenate([np.empty(0, np.int8), *(shard.malignancy for shard in self.shards)])

    @property
    def genes_per_cell(self) -> NDArray[np.int64]:
        """Expressed genes of each cell, int64 [cells]."""
        return np.concatenate([np.empty(0, np.int64), *(shard.genes_per_cell for shard in self.shards)])

    @property
    def size(self) -> int:
        """Bytes on disk, but for the manifest."""
        shards = sum(file.size for shard in self.shards for file in shard.record.files.values())
        return self.manifest.vocabulary.size + shards

    def cells(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return what is known of the cells, one row each in the order of the shards.

        Parameters
        ----------
        columns
            Some of ``malignancy`` (int8), ``source`` (number of the source in the manifest), ``row`` (of the cell in
            the source), ``barcode``, ``mitochondrial`` (share, missing where unknown), ``tissue``, ``disease``,
            ``donor``, ``cell_type`` and those that the columns file named besides; default: all.
        """
        wanted = None if columns is None else list(columns)
        tables = [shard.table(wanted) for shard in self.shards]
        joined = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries() if tables else pa.table({})
        frame: pd.DataFrame = joined.to_pandas()
        return frame

    def hashes(self) -> NDArray[np.uint64]:
        """Return the hash of each cell's genes and counts, uint64 [cells, 2]."""
        return np.concatenate([np.empty((0, 2), np.uint64), *(shard.hashes for shard in self.shards)])

    def verify(self, progress: Callable[[int], None] | None = None) -> None:
        """Hash every file, and check every shard as it is when used.

        Parameters
        ----------
        progress
            Is told the bytes of each file that is done; together :attr:`size`.

        Raises
        ------
        InputError
            A file is not what was written; the first such is named.
        """
        self._hash(progress, again=True)
        for shard in self.shards:
            shard.check()

    def refuse_damaged(self, progress: Callable[[int], None] | None = None) -> None:
        """Hash every file that is not known to be whole, several at a time.

        Parameters
        ----------
        progress
            As for :meth:`verify`.

        Raises
        ------
        InputError
            A file is not what was written; the first such is named.
        """
        self._hash(progress, again=False)

    def _hash(self, progress: Callable[[int], None] | None, *, again: bool) -> None:
        files = [(shard, name) for shard in self.shards for name in FILES]
        pool = ThreadPoolExecutor(_THREADS)  # hashing leaves the interpreter's lock to others
        try:
            whole = pool.map(lambda file: file[0].refuse_damaged(file[1], again=again), files)
            for (shard, name), _ in zip(files, whole, strict=True):
                if progress is not None:
                    progress(shard.record.files[name].size)
        finally:
            pool.shutdown(cancel_futures=True)


def _read_vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    path = folder / VOCABULARY
    refuse_damaged(folder, path, manifest.vocabulary)
    try:
        vocabulary = Vocabulary.load(path)
    except CellLMError as error:
        raise InputError(error.found, where=str(path), fix=_ADVICE) from None
    if vocabulary.hash != manifest.vocabulary.hash:
        raise InputError(f"it is not the vocabulary that {MANIFEST} names", where=str(path), fix=_ADVICE)
    return vocabulary
