"""Options for reading cells, as one object for all readers, or as keywords."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import TypedDict, Unpack, get_args

from cell_lm.data.obs.malignancy import Malignancy, MalignancyColumn
from cell_lm.data.scale.check import Scale
from cell_lm.errors import ConfigError
from cell_lm.files import JSON


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading cells. The same for an AnnData and for a file of any format.

    Raises
    ------
    ConfigError
        An option has a value that cannot be used.
    """

    layer: str | None = None
    """Which matrix: ``X`` (None), the name of a layer, or ``"raw"`` for ``adata.raw``."""
    scale: Scale = "counts"
    """What the matrix holds: ``"counts"``; ``"log1p"`` (natural), ``"log2"`` or ``"log10"`` of 1 + counts scaled per
    cell to any total; ``"linear"`` for what was scaled, estimated or corrected, and not logged. All give the same
    tokens for the same cells, where their counts come back. ``"scaled"`` is z-scored by gene, for drug sensitivity
    only: no expression of a cell comes back from it."""
    gene_column: str | None = None
    """Column of ``var`` with gene symbols or Ensembl ids; None: ``var_names``."""
    min_overlap: int | None = None
    """Fewest genes of the vocabulary that the data must have; None: one in twenty. Lower it for a targeted panel."""
    min_genes: int = 0
    """Leave out cells with fewer expressed genes of the vocabulary. With 0 none is left out and an empty cell is an
    error."""
    malignancy: Malignancy = None
    """The column that separates tumour from normal cells (:class:`~cell_lm.data.MalignancyColumn`), or ``"tumour"`` or
    ``"normal"`` if all cells are; None: unknown."""

    def __post_init__(self) -> None:
        for name in ("layer", "gene_column"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise ConfigError(f"{name} is {value!r}", where="read options", fix=f"Give the name of a {name}")
        if self.scale not in get_args(Scale):
            fix = f"Choose one of: {', '.join(get_args(Scale))}"
            raise ConfigError(f"scale={self.scale!r} is unknown", where="read options", fix=fix)
        for name, least in (("min_overlap", 1), ("min_genes", 0)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and value >= least):
                fix = f"Give a whole number from {least} on"
                raise ConfigError(f"{name} is {value!r}", where="read options", fix=fix)

    def to_json(self) -> dict[str, JSON]:
        """Return the options for the record; those that are None or 0 are left out, since h5ad has no None."""
        found: dict[str, JSON] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, MalignancyColumn):
                found[field.name] = {"column": value.column, "values": dict(value.values)}
            elif value:
                found[field.name] = value
        return found

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the options that differ from their default."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) != field.default)


class ReadKeywords(TypedDict, total=False):
    """The keywords of every function that reads cells: the fields of :class:`ReadOptions`.

    ``read`` takes a whole :class:`ReadOptions`; the other keywords override its fields.
    """

    read: ReadOptions
    """Complete options."""
    layer: str | None
    """Which matrix: ``X`` (None), the name of a layer, or ``"raw"``."""
    scale: Scale
    """What the matrix holds: ``"counts"``, ``"log1p"``, ``"log2"``, ``"log10"`` or ``"linear"``; ``"scaled"`` (z-scored
    by gene) for drug sensitivity only."""
    gene_column: str | None
    """Column of ``var`` with gene symbols or Ensembl ids; None: ``var_names``."""
    min_overlap: int | None
    """Fewest genes of the vocabulary that the data must have; None: one in twenty."""
    min_genes: int
    """Leave out cells with fewer expressed genes of the vocabulary."""
    malignancy: Malignancy
    """The column that separates tumour from normal cells, or what all cells are."""


def read_options(**keywords: Unpack[ReadKeywords]) -> ReadOptions:
    """Return the options given by keywords.

    Raises
    ------
    ConfigError
        A keyword is unknown (close names are suggested), or a value cannot be used.
    """
    known = [field.name for field in fields(ReadOptions)]
    unknown = [name for name in keywords if name not in (*known, "read")]
    if unknown:
        close = [match for name in unknown for match in difflib.get_close_matches(name, known, n=1)]
        hint = f"Did you mean {' and '.join(dict.fromkeys(close))}? " if close else ""
        found = f"unknown keyword{'s' * (len(unknown) > 1)}: {', '.join(unknown)}"
        raise ConfigError(found, where="read options", fix=f"{hint}Cells are read with: {', '.join(known)}")
    base: object = keywords.get("read", ReadOptions())
    if not isinstance(base, ReadOptions):
        fix = "Give a cell_lm.data.ReadOptions, or its fields as keywords"
        raise ConfigError(f"read is a {type(base).__name__}", where="read options", fix=fix)
    return replace(base, **{name: value for name, value in keywords.items() if name != "read"})  # type: ignore[arg-type]
