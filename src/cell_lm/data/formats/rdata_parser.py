"""The parser of the package ``rdata``, with limits on the numbers of objects and of expanded values.

In R's format a sequence ``1:n`` is stored as its length, and a name in nine bytes, from which the parser makes an
object of about 600 bytes. Without limits a file of a few hundred bytes could fill the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from rdata.parser import DEFAULT_ALTREP_MAP, RObject, RObjectInfo
from rdata.parser._ascii import ParserASCII
from rdata.parser._binary import ParserBinary
from rdata.parser._xdr import ParserXDR

MOST_FILLED = 1 << 24
"""Most numbers that all sequences of a file stand for, together."""
_TEXT_WEIGHT = 64
_MAGIC = (b"RDX2\n", b"RDX3\n", b"RDA2\n", b"RDA3\n", b"RDB2\n", b"RDB3\n")
Constructor: TypeAlias = Callable[[RObject], tuple[RObjectInfo, Any]]


def parse_bounded(data: bytes, *, most_objects: int) -> RObject:
    """Return the object, or pairlist of named objects, that R serialized.

    Parameters
    ----------
    data
        The file, unpacked.
    most_objects
        Most objects that it may hold.

    Raises
    ------
    ValueError
        It holds more, or sequences that stand for more than 2^24 numbers.
    """
    content = memoryview(data)[5 if data[:5] in _MAGIC else 0 :]
    head = bytes(content[:2])
    kinds: dict[bytes, tuple[type[Any], int]] = {
        b"X\n": (ParserXDR, 2),
        b"A\n": (ParserASCII, 2),
        b"A\r": (ParserASCII, 3),
        b"B\n": (ParserBinary, 2),
    }
    if head not in kinds:
        raise ValueError("no known serialization")
    parser, start = kinds[head]
    counting = type("CountingParser", (_Counting, parser), {"left": most_objects})
    reader = counting(content[start:], expand_altrep=True, altrep_constructor_dict=_bounded_sequences())
    parsed: RObject = reader.parse_all().object
    reader.check_complete()
    return parsed


class _Counting:
    """Counts the objects that a parser makes."""

    left: int

    def parse_R_object(self, *given: Any, **named: Any) -> RObject:  # noqa: N802
        """Parse one object, as the parser does."""
        self.left -= 1
        if self.left < 0:
            raise ValueError("more objects than a file of its size can hold")
        parsed: RObject = super().parse_R_object(*given, **named)  # type: ignore[misc]
        return parsed


def _bounded_sequences() -> dict[bytes, Constructor]:
    """Return what expands sequences that are stored as their lengths: of all of them together, not too many."""
    filled = 0

    def bounded(name: bytes) -> Constructor:
        def fill(state: RObject) -> tuple[RObjectInfo, Any]:
            nonlocal filled
            filled += _length(name, state)
            if not 0 <= filled <= MOST_FILLED:
                raise ValueError(f"sequences of {filled:,} numbers")
            result: tuple[RObjectInfo, Any] = DEFAULT_ALTREP_MAP[name](state)
            return result

        return fill

    sequences = (b"compact_intseq", b"compact_realseq", b"deferred_string")
    return dict(DEFAULT_ALTREP_MAP) | {name: bounded(name) for name in sequences}


def _length(name: bytes, state: RObject) -> int:
    if name == b"deferred_string":
        return _TEXT_WEIGHT * len(state.value[0].value)
    length = float(state.value[0])
    if not 0 <= length < 1e18:
        raise ValueError(f"a sequence of {length:g} numbers")
    return int(length)
