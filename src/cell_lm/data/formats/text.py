"""Lines of a text file, compressed or not; a truncated or damaged archive gives a one-line error."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError
from cell_lm.reading import BoundedReader, refuse_irregular

_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
LARGE, RATIO = 1 << 27, 200
"""An archive that unpacks to more than 128 MB, and 200 times its size, holds no counts: those pack 10 to 100 times."""
_LONGEST = 1 << 26
"""Most bytes of a line: a table of a million cells has fewer, a malicious archive has more."""


def archive(head: bytes) -> str | None:
    """Return the compression of a file by its first bytes, if any."""
    return next((kind for start, kind in _ARCHIVES.items() if head.startswith(start)), None)


@contextmanager
def opened_bytes(path: Path, *, large: int = LARGE, ratio: int = RATIO) -> Iterator[IO[bytes]]:
    """Open a file to read its uncompressed content.

    Parameters
    ----------
    path
        A regular file.
    large, ratio
        Most bytes that an archive may unpack to; above it, the highest ratio to its own size.

    Raises
    ------
    InputError
        It is not a regular file; or, during reading, it unpacks to more.
    """
    refuse_irregular(path)
    with path.open("rb") as file:
        kind = archive(file.read(8))
        file.seek(0)
        with _INSIDE[kind](file) if kind else nullcontext(file) as inside:
            most = max(large, ratio * path.stat().st_size)
            yield cast("IO[bytes]", BoundedReader(inside, str(path), most)) if kind else inside


_INSIDE: dict[str, Callable[[IO[bytes]], AbstractContextManager[IO[bytes]]]] = {
    "gzip": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    "bzip2": lambda file: cast("IO[bytes]", bz2.BZ2File(file)),
    "xz": lambda file: cast("IO[bytes]", lzma.LZMAFile(file)),  # noqa: SIM115
}


@contextmanager
def intact(name: str, after: str = "") -> Iterator[None]:
    """Refuse an archive that is truncated or damaged, found during reading."""
    try:
        yield
    except EOFError:
        raise InputError(f"the archive is cut off{after}", where=name, fix="Copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError) as error:
        found = f"the archive cannot be read{after} ({error})"
        raise InputError(found, where=name, fix="Copy or download it again") from None


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, without line ends.

    Raises
    ------
    InputError
        The archive is truncated or damaged, or a line is too long.
    """
    name, number = str(path), 0
    with opened_bytes(path) as file:
        while True:
            with intact(name, f" after line {number:,}"):
                line = file.readline(_LONGEST)
            if not line:
                return
            number += 1
            if len(line) == _LONGEST:
                found = f"line {number:,} is longer than {_LONGEST:,} bytes"
                raise InputError(found, where=name, fix="It is no table of cells: check where it comes from")
            yield line.rstrip(b"\r\n")


def decoded(field: bytes) -> str:
    """Return the text of a field, without quotes and byte order mark."""
    return field.decode("utf-8-sig", errors="replace").strip().strip('"')


def split_fields(line: bytes, separator: str) -> list[str]:
    """Return the fields of a line, quoted or not; the separator ``" "`` stands for any blanks."""
    if b'"' not in line:
        return [decoded(part) for part in (line.split() if separator == " " else line.split(separator.encode()))]
    text = line.decode("utf-8-sig", errors="replace")
    try:
        return [field.strip() for field in next(csv.reader([text], delimiter=separator, skipinitialspace=True))]
    except csv.Error:  # a null character, or a quoted field of more than 128 kB: no such field is a name or a number
        return [decoded(part) for part in line.split(None if separator == " " else separator.encode())]


def numbers(text: bytes, separator: str) -> NDArray[np.int64] | NDArray[np.float64] | None:
    """Read numbers, or return nothing if some are invalid; integers, the common case, are read several times faster.

    Consecutive blanks (tabs, line ends) are read as one: the caller must make sure that there are none.
    """
    try:
        return np.fromstring(text, dtype=np.int64, sep=separator)
    except (ValueError, DeprecationWarning):
        pass
    try:
        return np.fromstring(text, dtype=np.float64, sep=separator)
    except (ValueError, DeprecationWarning):
        return None


def refuse_repeated(names: list[str], what: str, where: str) -> None:
    """Refuse duplicate cell names: most likely samples were joined that must not be mixed."""
    if len(set(names)) == len(names):
        return
    seen: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if name in seen:
            extra = len(names) - len(set(names))
            found = f"{extra:,} of {len(names):,} {what} are repeated ('{name}' is number {seen[name]:,} and {place:,})"
            fix = "If samples were joined, name their cells apart; if not, keep each cell once"
            raise InputError(found, where=where, fix=fix)
        seen[name] = place
