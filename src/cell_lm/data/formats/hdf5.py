"""HDF5 files that may be anything: cut off, damaged, hostile. Each ends in one clear line.

Data that lie outside the file (links, external storage, virtual datasets) are refused before anything is read, so that
a file can never make us read another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py

from cell_lm.errors import CellLMError, InputError

DAMAGED = "Copy or download the file again, or write it again with the program that made it"


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file; what a damaged one raises is refused, what the caller raises passes as it is."""
    with ExitStack() as stack:
        with guarded(str(path)):
            file = stack.enter_context(h5py.File(path, "r"))
        yield file


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Turn whatever a damaged file makes the libraries raise into an :class:`InputError`."""
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
    """Return the refusal of something that a library could not read."""
    reason = " ".join(str(error).split())[:200] or "no reason given"
    return InputError(f"{what} cannot be read ({type(error).__name__}: {reason})", where=name, fix=DAMAGED)


def holds(parent: h5py.Group, key: str, name: str) -> bool:
    """Tell whether a group has a member, without following a link; a link is refused."""
    links, member = parent.id.links, key.encode()
    if not links.exists(member):
        return False
    if links.get_info(member).type != h5py.h5l.TYPE_HARD:
        value = links.get_val(member)
        target = ":".join(part.decode(errors="replace") for part in (value if isinstance(value, tuple) else (value,)))
        found = f"{parent.name.rstrip('/')}/{key} is a link to {target}, not data"
        raise InputError(found, where=name, fix="Links are not followed: write the file again with its data inside")
    return True


def refuse_outside_at(file: h5py.File, key: str, name: str) -> None:
    """Check every step of a path, then all that hangs below it."""
    parent: h5py.Group = file
    for part in key.split("/"):
        if not isinstance(parent, h5py.Group) or not holds(parent, part, name):
            raise InputError(f"it has no {key}", where=name, fix=DAMAGED)
        parent = parent[part]
    refuse_outside(parent, name, set())


def refuse_outside(node: h5py.Group | h5py.Dataset, name: str, seen: set[Any]) -> None:
    """Refuse links, external storage and virtual datasets anywhere below a node."""
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, h5py.Group):
        for key in node:
            if holds(node, key, name):
                refuse_outside(node[key], name, seen)
    elif isinstance(node, h5py.Dataset) and (node.external or node.is_virtual):
        found = f"the data of {node.name} lie in another file"
        raise InputError(found, where=name, fix="Write the file again with its data inside")


def refuse_unwritten(matrix: h5py.Group | h5py.Dataset, name: str) -> None:
    """Refuse arrays that were announced, at any size, but have no bytes: HDF5 would make up zeros."""
    for array in matrix.values() if isinstance(matrix, h5py.Group) else [matrix]:
        if isinstance(array, h5py.Dataset) and array.size and not array.id.get_storage_size():
            raise InputError(f"the data of {array.name} were never written", where=name, fix=DAMAGED)
