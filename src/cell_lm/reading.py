"""Reading small files that may be anything: JSON and TOML of bounded size, and nothing but regular files.

What cannot be read is an :class:`UnreadableError`, which is a ``ValueError``; whoever reads the file names it and says
what to do. Bounds are far above what this package writes, and far below what fills memory.
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
"""The same where a file lists thousands of sources."""
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
    """A file that is not read; the message says why."""


def reason(error: Exception) -> str:
    """Return why a file could not be read, in a few words, without the path that an ``OSError`` repeats."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def irregular(path: Path) -> str | None:
    """Say what a path is where it is no regular file (``"a named pipe"``); None where it is one, or cannot be told.

    Symbolic links are followed. Opening a pipe would wait for a writer for ever, and a device may have no end.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (OSError, ValueError):
        return None
    return _KINDS.get(kind)


def refuse_irregular(path: Path, *, fix: str = "Name a file") -> None:
    """Raise :class:`~cell_lm.errors.InputError` for a path that is not there, or no regular file.

    Parameters
    ----------
    path
        What is to be opened.
    fix
        What to name instead.
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
    """What is in an archive, up to a number of bytes: a file object for reading.

    Parameters
    ----------
    file
        What unpacks it.
    name
        The archive, for messages.
    most
        Bytes after which it is refused.
    """

    def __init__(self, file: IO[bytes], name: str, most: int) -> None:
        self._file, self._name, self._most, self._done = file, name, most, 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, fewer at the end; :class:`~cell_lm.errors.InputError` where there are too many."""
        return self._counted(self._file.read(self._most + 1 if size < 0 else size))

    def readline(self, size: int = -1) -> bytes:
        """Return a line, or so many bytes of it; raises as :meth:`read`."""
        return self._counted(self._file.readline(size))

    def readable(self) -> bool:
        """Tell that it can be read from."""
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
    """Return what a JSON text says; numbers are finite, and whole ones have at most 40 digits.

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
    """Return what a JSON file says; see :func:`read_text` and :func:`parse_json` for what is raised."""
    return parse_json(read_text(path, most=most))


def read_json_object(path: Path, *, most: int = MOST_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file, as :func:`read_json`; anything else is an :class:`UnreadableError`."""
    value = read_json(path, most=most)
    if not isinstance(value, dict):
        raise UnreadableError("it is not a JSON object")
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML text says.

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
    """Return what a TOML file says; see :func:`read_text` and :func:`parse_toml` for what is raised."""
    return parse_toml(read_text(path, most=MOST_TOML))


def refuse_other_format(
    found: object, newest: int, *, where: str, error: type[CellLMError], damaged: str, newer: str = "Upgrade cell-lm"
) -> None:
    """Refuse a number of a format that is none of 1 to ``newest``.

    Parameters
    ----------
    found
        What the file says.
    newest
        The newest format that this release reads.
    where
        The file.
    error
        What to raise.
    damaged, newer
        What to do about a file that is damaged, and about one of a newer release.
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
