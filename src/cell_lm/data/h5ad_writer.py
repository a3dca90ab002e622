"""Writing an h5ad file so that a full disk gives a one-line error.

The HDF5 library does not recover from a failed write: it keeps the unwritten data, fails again when it closes the file,
and ends the process. It therefore writes through a Python file that never fails: the first error is stored, later
writes are discarded, and the error is raised once the library is done. No data is buffered in memory.
"""

from __future__ import annotations

import os
from io import SEEK_END, SEEK_SET, RawIOBase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import h5py
from anndata.io import write_elem

from cell_lm.errors import InputError
from cell_lm.files import atomic_file

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

    from anndata import AnnData


class _PatientFile(RawIOBase):
    """A new file that accepts every write; ``error`` is the first failure."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self._place = self._size = 0
        self.error: OSError | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)
        super().__exit__(kind, error, trace)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        self._place = offset + (self._size if whence == SEEK_END else 0)
        return self._place

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        read = os.preadv(self._handle, [view], self._place)
        view[read:] = bytes(len(view) - read)  # what could not be written
        self._place += len(view)
        return len(view)

    def write(self, data: Buffer, /) -> int:
        view = memoryview(data).cast("B")
        size, place = len(view), self._place
        self._place += size
        self._size = max(self._size, self._place)
        while view and self.error is None:
            try:
                written = os.pwrite(self._handle, view, place)
            except OSError as error:
                self.error = error
                break
            view, place = view[written:], place + written
        return size

    def truncate(self, size: int | None = None, /) -> int:
        self._size = self._place if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self._handle, self._size)
            except OSError as error:
                self.error = error
        return self._size


def write_h5ad(
    adata: AnnData,
    path: str | Path,
    *,
    compression: Literal["gzip", "lzf"] | None = None,
    replace: bool = True,
) -> None:
    """Write an h5ad file atomically, as :meth:`anndata.AnnData.write_h5ad` writes it.

    As there, text columns of ``obs`` and ``var`` with repeated values also become categorical in ``adata``.

    Parameters
    ----------
    adata
        Cells in memory.
    path
        The file.
    compression
        Compression of all arrays; default: none.
    replace
        Whether to replace an existing file.

    Raises
    ------
    OutputError
        The disk is full or fails; the previous file is intact, and no partial file is left.
    InputError
        ``adata`` holds something that h5ad cannot store; or the file exists by now, and ``replace`` is not set.
    """
    adata.strings_to_categoricals()
    if adata.raw is not None:
        adata.strings_to_categoricals(adata.raw.var)
    with atomic_file(Path(path), replace=replace) as temporary, _PatientFile(temporary) as file:
        _write(adata, file, {} if compression is None else {"compression": compression}, Path(path))


def _write(adata: AnnData, file: _PatientFile, options: dict[str, Any], path: Path) -> None:
    """Write into an open file; an error of the disk takes precedence over the library's error."""
    try:
        with h5py.File(file, "w") as group:
            write_elem(group, "/", adata, dataset_kwargs=options)
    except Exception as error:  # anndata and h5py raise many kinds of errors for a value that the file cannot store
        if file.error is None:
            reason = " ".join(str(error).split())[:200]
            fix = "Remove it from the AnnData, or make it text, numbers or an array"
            raise InputError(f"it cannot be written as h5ad ({reason})", where=str(path), fix=fix) from error
    if file.error is not None:
        raise file.error
