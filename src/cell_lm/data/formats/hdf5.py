"""Untrusted HDF5 files: truncated, damaged or malicious ones give a one-line error.

Links are refused, so that a file can never cause another one to be read. :mod:`~cell_lm.data.formats.hdf5_survey` finds
other external data, and excessive sizes, before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py

from cell_lm.errors import CellLMError, InputError

DAMAGED = "Copy or download the file again, or write it again with the program that made it"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file; errors of a damaged file become an :class:`InputError`, errors of the caller are unchanged."""
    with ExitStack() as stack:
        with guarded(str(path)):
            file = stack.enter_context(h5py.File(path, "r"))
        yield file


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn any error of the libraries for a damaged file into an :class:`InputError`."""
    try:
        yield
    except CellLMError:
        raise
    except MemoryError:
        raise InputError("it does not fit into memory", where=name, fix="Cut it into several files") from None
    except Exception as error:  # a damaged file can break h5py and anndata in any way
        cut = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", str(error))
        if cut:
            have, want = (int(number) for number in cut.groups())
            raise InputError(f"it is cut off: {have:,} of {want:,} bytes are there", where=name, fix=DAMAGED) from None
        raise unreadable("it", error, name) from None


def unreadable(what: str, error: Exception, name: str) -> InputError:
    """Return the error for something that a library could not read."""
    reason = " ".join(str(error).split())[:200] or "no reason given"
    return InputError(f"{what} cannot be read ({type(error).__name__}: {reason})", where=name, fix=DAMAGED)


def holds(parent: h5py.Group, key: str, name: str) -> bool:
    """Return whether a group has a member, without following a link; a link is refused."""
    links, member = parent.id.links, key.encode()
    if not links.exists(member):
        return False
    if links.get_info(member).type != h5py.h5l.TYPE_HARD:
        value = links.get_val(member)
        target = ":".join(part.decode(errors="replace") for part in (value if isinstance(value, tuple) else (value,)))
        found = f"{parent.name.rstrip('/')}/{key} is a link to {target}, not data"
        raise InputError(found, where=name, fix="Links are not followed: write the file again with its data inside")
    return True
