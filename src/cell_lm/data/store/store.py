"""Opening a store, which must be complete, and verifying all of it on demand."""

from __future__ import annotations

import os
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
"""Files hashed in parallel."""


class Store:
    """Cells on disk, harmonised and quality-controlled by ``cell-lm prepare``. Read-only.

    Attributes
    ----------
    path : Path
        Folder of the store.
    manifest : Manifest
        Its sources, settings and file hashes.
    vocabulary : Vocabulary
        Vocabulary of the gene indices.
    shards : tuple of Shard
        Its shards, in order; each can be tokenised like :class:`~cell_lm.data.cells.CellData`.
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

        The sizes of its files are checked. A file of a shard is hashed before its first use, unless it was verified
        before and has not changed since; :meth:`refuse_damaged` does so for all files.

        Parameters
        ----------
        path
            Folder of the store.
        vocabulary
            Required vocabulary, such as that of a model; default: any.
        verify
            Hash files before use. Without it, damage that leaves a file readable changes results silently.

        Raises
        ------
        InputError
            The folder is not a store, or the store is unfinished, of a newer format or of another vocabulary, or a file
            is missing or has another size. Using a shard with a damaged file raises it, too.
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
        """Name of the folder."""
        return Path(os.path.realpath(self.path)).name

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the manifest; it identifies the whole store, since the manifest holds the hashes of all files."""
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
        """Bytes on disk, without the manifest."""
        shards = sum(file.size for shard in self.shards for file in shard.record.files.values())
        return self.manifest.vocabulary.size + shards

    def cells(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the columns of the cells, one row per cell in the order of the shards.

        Parameters
        ----------
        columns
            Some of ``malignancy`` (int8), ``source`` (number of the source in the manifest), ``row`` (of the cell in
            the source), ``barcode``, ``mitochondrial`` (fraction, missing if unknown), ``tissue``, ``disease``,
            ``donor``, ``cell_type`` and the further columns named in the columns file; default: all.
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
        """Hash every file, and run the checks of every shard.

        Parameters
        ----------
        progress
            Called with the bytes of each file completed; their sum is :attr:`size`.

        Raises
        ------
        InputError
            A file has changed since it was written; the message names the first one.
        """
        self._hash(progress, again=True)
        for shard in self.shards:
            shard.check()

    def refuse_damaged(self, progress: Callable[[int], None] | None = None) -> None:
        """Hash every file that is not known to be intact, several in parallel.

        Parameters
        ----------
        progress
            As in :meth:`verify`.

        Raises
        ------
        InputError
            A file has changed since it was written; the message names the first one.
        """
        self._hash(progress, again=False)

    def _hash(self, progress: Callable[[int], None] | None, *, again: bool) -> None:
        files = [(shard, name) for shard in self.shards for name in FILES]
        pool = ThreadPoolExecutor(_THREADS)  # hashing releases the GIL
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
