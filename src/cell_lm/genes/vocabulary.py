"""The vocabulary: the genes of a model, and the index of each.

The human vocabulary is every gene of HGNC's locus group "protein-coding gene" (archive of 2024-07-23: 19,281 genes), in
the order of their approved symbols by code point (``A1BG``, ``A1CF``, …, ``ZZZ3``). That order is part of the hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from cell_lm.errors import GeneError, ModelError
from cell_lm.files import JSON, write_json
from cell_lm.genes.nomenclature import CODING, ENSEMBL, RELEASE, Nomenclature
from cell_lm.reading import read_json_object, reason, refuse_other_format

FORMAT = 1
"""Version of the file that :meth:`Vocabulary.save` writes."""
_AGAIN = "Copy the model folder again, or save the model anew"


@dataclass(frozen=True)
class Vocabulary:
    """The genes of a model; the index of a gene is its position. Immutable.

    Attributes
    ----------
    symbols : tuple of str
        Approved symbols, each once.
    ensembl : tuple of str
        Ensembl gene id of each (without version), ``""`` if there is none.
    """

    symbols: tuple[str, ...]
    ensembl: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.symbols) != len(self.ensembl):
            raise GeneError(f"{len(self.symbols):,} symbols but {len(self.ensembl):,} Ensembl ids", where="vocabulary")
        if len(self._index) != len(self.symbols):
            twice = next(symbol for i, symbol in enumerate(self.symbols) if self._index[symbol] != i)
            raise GeneError(f"'{twice}' is there more than once", where="vocabulary")

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._index

    @cached_property
    def _index(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def index(self, symbol: str) -> int:
        """Return the position of an approved symbol; :class:`~cell_lm.errors.GeneError` if there is none."""
        found = self.find(symbol)
        if found < 0:
            raise GeneError(
                f"'{symbol}' is not in the vocabulary of {len(self):,} genes",
                fix="Use the approved HGNC symbol of a protein-coding gene; resolve_genes finds it for other names",
            )
        return found

    def find(self, symbol: str) -> int:
        """Return the position of an approved symbol, -1 if it is not in the vocabulary."""
        return self._index.get(symbol, -1)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all symbols and Ensembl ids in order, in hexadecimal: equal vocabularies have equal hashes."""
        lines = (f"{symbol}\t{identifier}\n" for symbol, identifier in zip(self.symbols, self.ensembl, strict=True))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @classmethod
    @cache
    def human(cls) -> Vocabulary:
        """Return the packaged vocabulary: the 19,281 human protein-coding genes of HGNC (cached)."""
        names = Nomenclature.human()
        symbols = sorted(symbol for symbol, locus in names.types.items() if locus == CODING)
        identifiers = {symbol: identifier for identifier, symbol in names.names[ENSEMBL].items()}
        return cls(tuple(symbols), tuple(identifiers.get(symbol, "") for symbol in symbols))

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        content: dict[str, JSON] = {"format": FORMAT, "nomenclature": RELEASE, "hash": self.hash}
        write_json(path, content | {"symbols": list(self.symbols), "ensembl": list(self.ensembl)})

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ModelError
            The file is missing, is not a vocabulary, has a newer format, or its genes do not match its hash.
        """
        try:
            content = read_json_object(path)
        except FileNotFoundError:
            raise ModelError("there is no vocabulary", where=str(path), fix="Give a whole model folder") from None
        except (OSError, ValueError) as error:
            raise _damaged(path, f"it cannot be read as JSON ({reason(error)})") from None
        refuse_other_format(content.get("format"), FORMAT, where=str(path), error=ModelError, damaged=_AGAIN)
        try:
            vocabulary = cls(_strings(content.get("symbols")), _strings(content.get("ensembl")))
        except GeneError as error:
            raise _damaged(path, error.found) from None
        if vocabulary.hash != content.get("hash"):
            raise _damaged(path, "its genes are not those that its hash names")
        return vocabulary


def _strings(value: object) -> tuple[str, ...]:
    """Check that a JSON value is a list of strings."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(item, str) for item in value):
        raise GeneError("its lists of symbols and Ensembl ids are missing or not text")
    return tuple(value)


def _damaged(path: Path, found: str) -> ModelError:
    return ModelError(found, where=str(path), fix=_AGAIN)
