"""R's serialization, written byte by byte: what ``save(sm, file=...)`` and ``saveRDS(sm)`` write for a dgCMatrix.

Source: R Internals, section "Serialization Formats". The XDR form, big-endian. Every item begins with a flag word:
bits 0-7 its type, 8 whether it has a class, 9 attributes, 10 a tag, 12-27 its general purpose bits; then its attributes
come first for pairlists, last for all else. Symbols that come again are references by number.
"""

from __future__ import annotations

import struct

import numpy as np
from scipy import sparse

SYM, LIST, CHAR, INT, REAL, STR, VEC, S4, NIL, REF = 1, 2, 9, 13, 14, 16, 19, 25, 254, 255
IS_OBJECT, HAS_ATTRIBUTES, HAS_TAG = 0x100, 0x200, 0x400
ASCII, UTF8, S4_BIT = 64 << 12, 8 << 12, 16 << 12


class Writer:
    """One serialization: it remembers the symbols it has written."""

    def __init__(self) -> None:
        self._symbols: list[str] = []

    def symbol(self, name: str) -> bytes:
        if name in self._symbols:
            return struct.pack(">I", REF | (self._symbols.index(name) + 1) << 8)
        self._symbols.append(name)
        return struct.pack(">I", SYM) + self.char(name)

    def char(self, text: str) -> bytes:
        data = text.encode()
        return struct.pack(">Ii", CHAR | (ASCII if text.isascii() else UTF8), len(data)) + data

    def pairs(self, members: dict[str, object]) -> bytes:
        """A pairlist; values are functions that write themselves, so that symbols are numbered in order."""
        items = [struct.pack(">I", LIST | HAS_TAG) + self.symbol(tag) + value() for tag, value in members.items()]
        return b"".join(items) + struct.pack(">I", NIL)

    def integers(self, values: object) -> bytes:
        array = np.asarray(values, ">i4")
        return struct.pack(">Ii", INT, len(array)) + array.tobytes()

    def reals(self, values: object) -> bytes:
        array = np.asarray(values, ">f8")
        return struct.pack(">Ii", REAL, len(array)) + array.tobytes()

    def texts(self, values: object, attributes: dict[str, object] | None = None) -> bytes:
        flags = STR | (HAS_ATTRIBUTES if attributes else 0)
        body = struct.pack(">Ii", flags, len(values)) + b"".join(self.char(value) for value in values)
        return body + (self.pairs(attributes) if attributes else b"")

    def vector(self, *items: object) -> bytes:
        return struct.pack(">Ii", VEC, len(items)) + b"".join(item() for item in items)

    def null(self) -> bytes:
        return struct.pack(">I", NIL)

    def s4(self, slots: dict[str, object], kind: str, package: str) -> bytes:
        named = lambda: self.texts([kind], {"package": lambda: self.texts([package])})  # noqa: E731
        head = struct.pack(">I", S4 | IS_OBJECT | HAS_ATTRIBUTES | S4_BIT)
        return head + self.pairs({**slots, "class": named})

    def matrix(
        self, counts: sparse.csc_matrix, rows: list[str] | None, columns: list[str] | None, kind: str = "dgCMatrix"
    ) -> bytes:
        """A sparse matrix, rows x columns, of the package Matrix."""
        names = [self.null if some is None else lambda some=some: self.texts(some) for some in (rows, columns)]
        slots = {
            "i": lambda: self.integers(counts.indices),
            "p": lambda: self.integers(counts.indptr),
            "Dim": lambda: self.integers(counts.shape),
            "Dimnames": lambda: self.vector(*names),
            "x": lambda: self.reals(counts.data),
            "factors": lambda: self.vector(),
        }
        return self.s4(slots, kind, "Matrix")


def head(version: int) -> bytes:
    """The form (XDR), the version, R 3.6.0 as the writer, and what R can read it."""
    start = b"X\n" + struct.pack(">iii", version, 0x030600, 0x020300 if version == 2 else 0x030500)
    return start + (struct.pack(">i", 5) + b"UTF-8" if version == 3 else b"")


def rdata(version: int, write: object, names: tuple[str, ...] = ("sm",)) -> bytes:
    """A file of ``save``: a pairlist of the objects, ``write(writer, name)`` writing each."""
    writer = Writer()
    members = {name: lambda name=name: write(writer, name) for name in names}
    return f"RDX{version}\n".encode() + head(version) + writer.pairs(members)


def rds(version: int, write: object) -> bytes:
    """A file of ``saveRDS``: one object."""
    return head(version) + write(Writer())
