"""The manifest of a store: sources, settings, the hash of each file, and its own hash.

It is written last, so a folder without one is not a store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cell_lm._version import __version__
from cell_lm.data.scale.check import Scale
from cell_lm.data.store.layout import FILES, FORMAT, KIND, MANIFEST
from cell_lm.errors import InputError
from cell_lm.files import CHECKSUM, checksum_holds, with_checksum, write_json
from cell_lm.reading import MOST_LISTED, read_json_object, reason, refuse_other_format

Count = Annotated[int, Field(ge=0)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


_AGAIN = "Copy the store again, or prepare it anew"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileRecord(_Record):
    """A file: its size in bytes and its SHA-256."""

    size: Count
    sha256: Hash


class ShardRecord(_Record):
    """A shard: its folder under ``shards/``, how much it holds, and its files by name."""

    name: Annotated[str, Field(pattern=r"^\d{5,}$")]
    cells: Count
    tokens: Count
    """Entries of its matrix: expressed genes over all its cells."""
    counts: Literal["uint8", "uint16", "uint32", "float32"]
    """Type of its counts."""
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _has_all_files(self) -> ShardRecord:
        if set(self.files) != set(FILES):
            raise ValueError(f"the files of shard {self.name} are {', '.join(self.files) or 'none'}")
        return self


class GenesRecord(_Record):
    """What became of the genes of a source; see :class:`cell_lm.genes.AuditSummary`."""

    given: Count
    found: Count
    """Different genes of the vocabulary among them."""
    counts: dict[str, int]
    """Genes by what became of them."""
    listed: dict[str, list[tuple[str, str, str]]]
    """The first of each kind but ``matched``: name in the file, approved symbol, how or why."""
    mitochondrial: Count
    """Genes that the mitochondrial fraction was computed from; with 0 it could not be."""


class CellsRecord(_Record):
    """What became of the cells of a source."""

    given: Count
    few_genes: Count
    """Left out: fewer expressed genes of the vocabulary than ``min_genes``."""
    mitochondrial: Count
    """Left out: a larger mitochondrial fraction than ``max_mito``."""
    duplicates: Count
    """Left out: the same genes and counts as a cell before it, in this source or an earlier one."""
    kept: Count
    malignancy_counts: dict[str, int]
    """Kept cells by malignancy: normal, tumour and unknown."""


class SourceRecord(_Record):
    """A source: a file, or a folder of files that belong together."""

    name: str
    path: str
    """As it was given."""
    size: Count
    sha256: Hash
    """Of the file; of a folder, that of the lines ``name<TAB>sha256`` of its files, sorted by name."""
    files: dict[str, FileRecord]
    place: str
    """Which matrix was read."""
    evidence: str
    """Why it is believed to be counts, or logarithms of them."""
    settings: dict[str, Any]
    """How it was read: matrix, scale, limits, and where labels and malignancy came from."""
    genes: GenesRecord
    cells: CellsRecord
    notes: list[str] = []

    @property
    def scale(self) -> Scale:
        """What its matrix was: ``counts``, ``log1p`` or another of the scales."""
        return next((scale for scale in get_args(Scale) if scale == self.settings.get("scale")), "counts")


class DuplicatesRecord(_Record):
    """How many cells of ``again`` are the same as one of ``first``; both are numbers of sources."""

    first: Count
    again: Count
    cells: Count


class VocabularyRecord(FileRecord):
    """The vocabulary that gene indices refer to: its hash, its number of genes, and its file."""

    hash: Hash
    genes: Count


class Manifest(_Record):
    """What a store is."""

    kind: Literal["cell-lm store"] = KIND
    format: int = FORMAT
    cell_lm: str = __version__
    """Version of cell-lm that wrote it."""
    vocabulary: VocabularyRecord
    settings: dict[str, Any]
    cells: Count
    tokens: Count
    genes_in_any: Count
    """Genes of the vocabulary that at least one source measured."""
    genes_in_all: Count
    """Genes of the vocabulary that every source measured."""
    sources: list[SourceRecord]
    duplicates: list[DuplicatesRecord]
    shards: list[ShardRecord]

    @model_validator(mode="after")
    def _adds_up(self) -> Manifest:
        cells, tokens = (sum(getattr(shard, what) for shard in self.shards) for what in ("cells", "tokens"))
        if (cells, tokens) != (self.cells, self.tokens):
            raise ValueError(
                f"its shards hold {cells:,} cells and {tokens:,} entries, not {self.cells:,} and {self.tokens:,}"
            )
        return self

    def write(self, store: Path) -> None:
        """Write it into a store, atomically."""
        write_json(store / MANIFEST, with_checksum(self.model_dump(mode="json")))


def read_manifest(store: Path) -> Manifest:
    """Read the manifest of a store.

    Raises
    ------
    InputError
        There is no such folder, it has no manifest, or the manifest is damaged, of another program or a newer format.
    """
    path = store / MANIFEST
    try:
        values = read_json_object(path, most=MOST_LISTED)
    except (FileNotFoundError, NotADirectoryError):
        raise _absent(store) from None
    except (OSError, ValueError) as error:
        raise _damaged(path, f"it cannot be read ({reason(error)})") from None
    if values.get("kind") != KIND:
        raise InputError("it is not the manifest of a cell-lm store", where=str(path), fix="Name the folder of a store")
    newer = "Upgrade cell-lm, or prepare the store again with this version"
    refuse_other_format(values.get("format"), FORMAT, where=str(path), error=InputError, damaged=_AGAIN, newer=newer)
    if not checksum_holds(values):
        raise _damaged(
            path, "its values are not those that its checksum names: damaged, or changed after it was written"
        )
    del values[CHECKSUM]
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"'{key}': {first['msg']}") from None


def _absent(store: Path) -> InputError:
    where = str(store)
    if not store.exists():
        return InputError("there is no such folder", where=where, fix="Check the path")
    if not store.is_dir():
        return InputError("it is a file, not the folder of a store", where=where, fix="Name the folder")
    found = f"it has no {MANIFEST}: it is no store, or one that is not finished"
    return InputError(found, where=where, fix="Run cell-lm prepare again with the same files: it goes on")


def _damaged(path: Path, found: str) -> InputError:
    return InputError(found, where=str(path), fix=_AGAIN)
