"""HGNC's names of every human gene: approved symbol, Ensembl id, previous and withdrawn symbols, aliases.

Source: HUGO Gene Nomenclature Committee (HGNC), monthly archive of 2024-07-23, CC0; see ``resources/LICENSES.md``.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import NamedTuple

RELEASE = "HGNC 2024-07-23"
CODING = "gene with protein product"
"""HGNC's locus type of a protein-coding gene."""
APPROVED, ENSEMBL, PREVIOUS, WITHDRAWN, ALIAS = (
    "approved symbol",
    "Ensembl id",
    "previous symbol",
    "withdrawn symbol",
    "alias",
)
STRENGTH = (APPROVED, ENSEMBL, PREVIOUS, WITHDRAWN, ALIAS)
"""The kinds of names, strongest first. A name of several kinds is read as the strongest."""


class Reading(NamedTuple):
    """The genes of a name.

    Attributes
    ----------
    kind : str
        One of :data:`STRENGTH`.
    symbols : tuple of str
        Approved symbols of these genes, sorted; several: the name is ambiguous; none: a withdrawn entry without
        successor.
    weaker : tuple of str
        Other genes with this name by a weaker kind.
    """

    kind: str
    symbols: tuple[str, ...]
    weaker: tuple[str, ...] = ()


def punctuated(name: str) -> str:
    """Return ``name`` with ``-`` wherever it has ``.`` (R's make.names) or ``_`` (Seurat has it the other way)."""
    return name.replace("_", "-").replace(".", "-")


def fold(name: str) -> str:
    """Return one form for all spellings of a name: :func:`punctuated`, upper case."""
    return punctuated(name).upper()


@dataclass(frozen=True)
class Nomenclature:
    """The names of all human genes in HGNC, coding or not.

    Attributes
    ----------
    types : dict
        Approved symbol to HGNC's locus type, e.g. ``"gene with protein product"``, ``"pseudogene"``.
    names : dict
        Kind of name to a dict of every such name, exactly as HGNC spells it, to approved symbols joined by ``|``.
    """

    types: dict[str, str]
    names: dict[str, dict[str, str]]

    @classmethod
    @cache
    def human(cls) -> Nomenclature:
        """Return the packaged names (read once, in 0.1 s)."""
        packed = (files("cell_lm") / "resources" / "hgnc.json.gz").read_bytes()
        content = json.loads(gzip.decompress(packed))
        genes = content.pop("genes")
        types = {symbol: locus for locus, symbols in genes.items() for symbol in symbols}
        identified = {
            identifier: symbol for symbols in genes.values() for symbol, identifier in symbols.items() if identifier
        }
        return cls(types, {APPROVED: dict(zip(types, types, strict=True)), ENSEMBL: identified, **content})

    def read(self, name: str) -> Reading | None:
        """Read a name in HGNC's own spelling, by the strongest kind; None if it is no name."""
        kinds = [kind for kind in STRENGTH if name in self.names[kind]]
        return strongest([Reading(kind, _split(self.names[kind][name])) for kind in kinds]) if kinds else None

    def read_any_spelling(self, name: str) -> Reading | None:
        """Read a name in any case and punctuation; None unless its strongest kind gives exactly one gene."""
        key = fold(name)
        readings = [reading for spelling in (key, *self._spellings.get(key, ())) if (reading := self.read(spelling))]
        reading = strongest(readings) if readings else None
        return reading if reading and len(reading.symbols) == 1 else None

    def approved_spelling(self, name: str) -> str | None:
        """Return the approved symbol that differs from ``name`` in case and punctuation only, or None."""
        key = fold(name)
        return next((symbol for symbol in (key, *self._spellings.get(key, ())) if symbol in self.types), None)

    def other_names(self, symbols: Iterable[str]) -> dict[str, list[str]]:
        """Return all other names of genes by approved symbol: those that :meth:`read` reads as this gene alone."""
        found: dict[str, list[str]] = {symbol: [] for symbol in symbols}
        for kind in STRENGTH[1:]:
            for name, joined in self.names[kind].items():
                if joined in found and (reading := self.read(name)) and reading.symbols == (joined,):
                    found[joined].append(name)
        return {symbol: list(dict.fromkeys(names)) for symbol, names in found.items()}

    @cached_property
    def _spellings(self) -> dict[str, list[str]]:
        """Folded name to the names that fold to it, for names that folding changes."""
        spellings: dict[str, list[str]] = {}
        for kind in STRENGTH:
            for name in self.names[kind] if kind != ENSEMBL else ():
                key = fold(name)
                if key != name:
                    spellings.setdefault(key, []).append(name)
        return spellings


def strongest(readings: Sequence[Reading]) -> Reading:
    """Join several readings: the strongest kind that names a gene decides, the others become ``weaker``."""
    kind = min((reading.kind for reading in readings if reading.symbols), key=STRENGTH.index, default=WITHDRAWN)
    symbols = {symbol for reading in readings if reading.kind == kind for symbol in reading.symbols}
    everything = {symbol for reading in readings for symbol in (*reading.symbols, *reading.weaker)}
    return Reading(kind, tuple(sorted(symbols)), tuple(sorted(everything - symbols)))


def _split(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("|")) if joined else ()
