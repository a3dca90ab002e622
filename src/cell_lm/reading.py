"""Reading small untrusted files: JSON and TOML of limited size, regular files only.

An unreadable file raises :class:`UnreadableError`, which is a ``ValueError``; the caller adds the file and a remedy.
Limits are far above what this package writes, and far below what fills memory.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import IO, Any

from cell_lm.errors import CellLMError, InputError
from cell_lm.files import JSON

MOST_BYTES = 1 << 25
"""Most bytes of a JSON file: as objects they take up to 25 times as much."""
MOST_LISTED = 1 << 28
"""The same for a file that lists thousands of sources."""
MOST_TOML = 1 << 20
"""Most bytes of a TOML file."""
_MOST_DIGITS = 40
_MOST_PARTS = 64
_PART = r"""(?:[\w-]++|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}[ \t]*\.[ \t]*){{{_MOST_PARTS}}}")

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class UnreadableError(ValueError):
    """A file that cannot be read; the message gives the reason."""


def reason(error: Exception) -> str:
    """Return a short reason why a file could not be read, without the path that an ``OSError`` repeats."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def irregular(path: Path) -> str | None:
    """Return what a path is if it is no regular file (``"a named pipe"``); None if it is one, or that is unknown.

    Symbolic links are followed. Opening a pipe would wait for a writer for ever, and a device may have no end.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return None
    return _KINDS.get(kind)


def refuse_irregular(path: Path, *, fix: str = "Name a file") -> None:
    """Raise :class:`~cell_lm.errors.InputError` for a path that does not exist, or is no regular file.

    Parameters
    ----------
    path
        The path to open.
    fix
        What to give instead.
    """
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except FileNotFoundError:
        raise InputError("there is no such file", where=str(path), fix="Check the path") from None
    except ValueError:
        raise InputError("the path holds a null byte", where=repr(str(path)), fix="Check the path") from None
    except OSError as error:  # a symbolic link to itself, a name that is too long, a folder that may not be entered
        raise InputError(f"it cannot be opened ({error.strerror})", where=str(path), fix="Check the path") from None
    if kind is not None:
        raise InputError(f"it is {kind}, not a file", where=str(path), fix=fix)


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Return the text of a regular file of at most so many bytes.

    Raises
    ------
    OSError
        It is not there, or cannot be opened.
    UnreadableError
        It is no regular file, larger than ``most``, or not UTF-8.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is opened without waiting, then refused
    with open(handle, "rb") as file:  # noqa: PTH123
        kind = _KINDS.get(stat.S_IFMT(os.fstat(handle).st_mode))
        if kind is not None:
            raise UnreadableError(f"it is {kind}, not a file")
        content = file.read(most + 1)
    if len(content) > most:
        raise UnreadableError(f"it has more than {most:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"byte {error.start + 1:,} is not UTF-8") from None


class BoundedReader:
    """The content of an archive, up to a number of bytes, as a file object for reading.

    Parameters
    ----------
    file
        The file object that unpacks it.
    name
        The archive, for messages.
    most
        Largest number of bytes; more are refused.
    """

    def __init__(self, file: IO[bytes], name: str, most: int) -> None:
        self._file, self._name, self._most, self._done = file, name, most, 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end; :class:`~cell_lm.errors.InputError` if there are too many."""
        return self._counted(self._file.read(self._most + 1 if size < 0 else size))

    def readline(self, size: int = -1) -> bytes:
        """Return a line, or so many bytes of it; raises as :meth:`read`."""
        return self._counted(self._file.readline(size))

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def close(self) -> None:
        """Close the archive."""
        self.closed = True
        self._file.close()

    def _counted(self, content: bytes) -> bytes:
        self._done += len(content)
        if self._done > self._most:
            found = f"the archive unpacks to more than {self._most:,} bytes, many times what is usual"
            raise InputError(found, where=self._name, fix="Check where it comes from; if it is right, unpack it first")
        return content


def parse_json(text: str) -> JSON:
    """Parse a JSON text; numbers are finite, and whole ones have at most 40 digits.

    Raises
    ------
    UnreadableError
        It is no JSON, is nested too deeply, or holds such a number.
    """
    try:
        value: JSON = json.loads(text, parse_constant=_refuse_constant, parse_int=_whole, parse_float=_finite)
        return value
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UnreadableError(str(error)) from None


def read_json(path: Path, *, most: int = MOST_BYTES) -> JSON:
    """Return the content of a JSON file; see :func:`read_text` and :func:`parse_json` for errors."""
    return parse_json(read_text(path, most=most))


def read_json_object(path: Path, *, most: int = MOST_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file, as :func:`read_json`; anything else is an :class:`UnreadableError`."""
    value = read_json(path, most=most)
    if not isinstance(value, dict):
        raise UnreadableError("it is not a JSON object")
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text.

    Raises
    ------
    UnreadableError
        It is no TOML, is nested too deeply, or a key has more than 64 parts.
    """
    key = _LONG_KEY.search(text)
    if key is not None:
        line = text.count("\n", 0, key.start()) + 1
        raise UnreadableError(f"the key in line {line:,} has more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise UnreadableError(str(error)) from None
    except ValueError:  # of the conversion itself
        raise UnreadableError("it holds a number of too many digits, or a date that is none") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; see :func:`read_text` and :func:`parse_toml` for errors."""
    return parse_toml(read_text(path, most=MOST_TOML))


def refuse_other_format(
    found: object, newest: int, *, where: str, error: type[CellLMError], damaged: str, newer: str = "Upgrade cell-lm"
) -> None:
    """Refuse a format number outside 1 to ``newest``.

    Parameters
    ----------
    found
        The number in the file.
    newest
        The newest format that this release reads.
    where
        The file.
    error
        Class of the error to raise.
    damaged, newer
        Remedy for a damaged file, and for one of a newer release.
    """
    whole = isinstance(found, int) and not isinstance(found, bool)
    if whole and 1 <= found <= newest:  # type: ignore[operator]
        return
    if whole and found > newest:  # type: ignore[operator]
        raise error(f"has format {found}, and this release reads up to format {newest}", where=where, fix=newer)
    raise error(f"has format {json.dumps(found, default=str)[:40]}, which is none", where=where, fix=damaged)


def _refuse_constant(name: str) -> float:
    raise UnreadableError(f"it holds {name}, which is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise UnreadableError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise UnreadableError(f"it holds {digits[:20]}, which is too large")
    return value
