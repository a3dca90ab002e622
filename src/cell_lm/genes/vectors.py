"""Gene vectors: an embedding of each gene, from gene networks or another source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cell_lm.errors import InputError, ModelError
from cell_lm.files import JSON
from cell_lm.genes import vectors_file
from cell_lm.genes.alignment import principal_components
from cell_lm.genes.neighbours import find, nearest, position
from cell_lm.genes.reader import NameReader
from cell_lm.genes.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pandas as pd

PACKAGED = "gene_vectors.safetensors"
"""Name of the packaged file among the resources."""


@dataclass(frozen=True, eq=False)
class GeneVectors:
    """Vectors for the genes of a vocabulary. Immutable by convention; make it by :meth:`from_values`.

    Attributes
    ----------
    vocabulary : Vocabulary
        The genes.
    values : ndarray
        float32 [genes, width]; 0 for unknown genes.
    known : ndarray
        bool [genes]: which genes have a vector.
    source : str
        Source of the vectors, in one line.
    about : dict
        How they were made.
    """

    vocabulary: Vocabulary
    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    source: str
    about: dict[str, JSON] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Width of the vectors."""
        return int(self.values.shape[1])

    def __len__(self) -> int:
        """Return the number of genes that have a vector."""
        return int(self.known.sum())

    def __repr__(self) -> str:
        return f"GeneVectors({len(self):,} of {len(self.vocabulary):,} genes, width {self.width}: {self.source})"

    @classmethod
    def from_values(
        cls,
        values: ArrayLike,
        known: ArrayLike,
        vocabulary: Vocabulary,
        *,
        source: str,
        about: Mapping[str, JSON] | None = None,
    ) -> GeneVectors:
        """Check vectors and make an object of them.

        Parameters
        ----------
        values
            Numbers [genes, width]; rows of unknown genes become 0.
        known
            bool [genes].
        vocabulary
            The genes, in the order of the rows.
        source
            Source of the vectors; becomes one line.
        about
            How they were made, as JSON.

        Raises
        ------
        InputError
            The shapes do not fit the vocabulary, no gene is known, a number of a known gene is not finite (in single
            precision), or ``about`` is not JSON.
        """
        with np.errstate(over="ignore"):  # too large numbers become infinite, and are refused below
            array, mask = np.array(values, np.float32), np.array(known)
        if array.ndim != 2 or not array.shape[1] or len(array) != len(vocabulary):
            found = f"vectors of shape {array.shape} for a vocabulary of {len(vocabulary):,} genes"
            raise InputError(found, where="gene vectors", fix="Pass [genes, width], a row for each gene")
        if mask.dtype != np.bool_ or mask.shape != (len(vocabulary),) or not mask.any():
            found = f"known is {mask.dtype} of shape {mask.shape}, {np.count_nonzero(mask):,} true"
            raise InputError(found, where="gene vectors", fix="Pass a bool for each gene, at least one of them true")
        bad = mask & ~np.isfinite(array).all(axis=1)
        if bad.any():
            first = vocabulary.symbols[int(np.flatnonzero(bad)[0])]
            raise InputError(f"{int(bad.sum()):,} genes have numbers that are not finite", where=f"vector of {first}")
        array[~mask] = 0.0
        return cls(vocabulary, array, mask, " ".join(source.split()), _checked(about))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, in half precision, of the known genes; atomically and synced.

        Raises
        ------
        InputError
            The numbers are too large or too small for half precision.
        """
        rows = np.flatnonzero(self.known)
        stored = vectors_file.Stored(self.vocabulary, rows, self.values[rows], self.source, self.about)
        vectors_file.write(Path(path), stored)

    @classmethod
    def load(cls, path: str | Path) -> GeneVectors:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ModelError
            The file is missing, damaged, something else, or of a newer format.
        """
        stored = vectors_file.read(Path(path))
        values = np.zeros((len(stored.vocabulary), stored.vectors.shape[1]), np.float32)
        known = np.zeros(len(stored.vocabulary), np.bool_)
        values[stored.rows], known[stored.rows] = stored.vectors, True
        return cls(stored.vocabulary, values, known, stored.source, stored.about)

    @classmethod
    @cache
    def packaged(cls) -> GeneVectors:
        """Return the packaged vectors, learned from gene networks (cached).

        Raises
        ------
        ModelError
            They are missing or damaged.
        """
        return cls.load(packaged_path())

    def align(self, vocabulary: Vocabulary) -> GeneVectors:
        """Return the vectors for another vocabulary, by approved symbol; its genes without a vector are unknown.

        Raises
        ------
        ModelError
            No gene of the vocabulary has a vector.
        """
        if vocabulary.hash == self.vocabulary.hash:
            return self
        rows = np.array([self.vocabulary.find(symbol) for symbol in vocabulary.symbols], np.int64)
        known = (rows >= 0) & self.known[rows]
        if not known.any():
            found = f"none of {len(vocabulary):,} genes has one of these {len(self):,} vectors"
            raise ModelError(found, where="gene vectors", fix="Use vectors of the same species and kind of symbols")
        values = np.where(known[:, None], self.values[rows], np.float32(0.0))
        return GeneVectors(vocabulary, values, known, self.source, self.about)

    def project(self, width: int) -> NDArray[np.float32]:
        """Project the vectors to another width by principal components.

        The mean over the known genes is subtracted first. The numbers of the known genes have standard deviation 1 over
        all columns; columns beyond the vectors' own width (or the number of known genes) are 0.

        Parameters
        ----------
        width
            Number of columns.

        Returns
        -------
        ndarray
            float32 [genes, width]; 0 for unknown genes.

        Raises
        ------
        ModelError
            All known genes have the same vector.
        """
        values = np.zeros((len(self.vocabulary), width), np.float32)
        values[self.known] = principal_components(self.values[self.known], width)
        return values

    def position(self, gene: str) -> int:
        """Return the position of a gene that has a vector, by any of its names.

        Raises
        ------
        GeneError
            No gene, several, or one without a vector have this name; the error suggests close symbols.
        """
        return position(gene, self._reader, self.known)

    def find(self, gene: str) -> int:
        """Return the position of a gene, whether it has a vector or not, by any of its names.

        Raises
        ------
        GeneError
            No gene, or several, have this name; the error suggests close symbols.
        """
        return find(gene, self._reader, self.known)

    @cached_property
    def _reader(self) -> NameReader:
        return NameReader(self.vocabulary, ())

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """Centred vectors of the known genes, scaled to length 1, float32 [genes, width]; others 0."""
        centred = np.where(self.known[:, None], self.values - self.values[self.known].mean(axis=0), np.float32(0.0))
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        unit: NDArray[np.float32] = centred / np.maximum(length, np.finfo(np.float32).tiny)
        return unit

    def similar(self, gene: str, k: int = 10) -> pd.DataFrame:
        """Return the genes with the most similar vectors, nearest first.

        Parameters
        ----------
        gene
            Symbol, alias, previous symbol or Ensembl id.
        k
            Number of genes, at most those with a vector.

        Returns
        -------
        DataFrame
            ``gene`` (approved symbol) and ``cosine`` (of the centred vectors).

        Raises
        ------
        GeneError
            As :meth:`position`.
        InputError
            ``k`` is not an integer, or less than 1.
        """
        if not isinstance(k, int | np.integer) or k < 1:
            raise InputError(f"k is {k}", where="similar", fix="Ask for one gene or more")
        return nearest(self.position(gene), self.directions, self.known, self.vocabulary.symbols, k)


def _checked(about: Mapping[str, JSON] | None) -> dict[str, JSON]:
    """Return ``about``; refuse what a file cannot hold."""
    try:
        json.dumps(made := dict(about or {}), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        fix = "Pass text, finite numbers, lists and dicts of them"
        raise InputError(f"about is no JSON ({error})", where="gene vectors", fix=fix) from None
    return made


def packaged_path() -> Path:
    """Return the path of the packaged file.

    Raises
    ------
    ModelError
        There is none.
    """
    path = Path(str(files("cell_lm") / "resources" / PACKAGED))
    if not path.is_file():
        fix = "Make vectors by 'cell-lm genes pretrain' and name their file"
        raise ModelError("this cell-lm comes without gene vectors", where=str(path), fix=fix)
    return path


def similar(gene: str, k: int = 10, vectors: GeneVectors | None = None) -> pd.DataFrame:
    """Return the genes most similar to a gene, by the packaged or any other vectors.

    >>> cell_lm.genes.similar("CD3D", k=10)

    Parameters
    ----------
    gene
        Symbol, alias, previous symbol or Ensembl id.
    k
        Number of genes.
    vectors
        Default: the packaged ones, :meth:`GeneVectors.packaged`.

    Returns
    -------
    DataFrame
        ``gene`` and ``cosine``, nearest first.

    Raises
    ------
    GeneError, InputError, ModelError
        As :meth:`GeneVectors.similar` and :meth:`GeneVectors.packaged`.
    """
    return (GeneVectors.packaged() if vectors is None else vectors).similar(gene, k)
