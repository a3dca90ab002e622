"""The file of gene vectors: safetensors in half precision, known genes only, fully checked when read.

The tensor ``vectors`` (float16 [known genes, width]) has a row for each gene in the order of ``symbols``. The metadata
hold ``format``, ``vocabulary_hash``, ``symbols`` (JSON), ``source``, ``about`` (JSON), ``sha256`` (of all of these and
of the tensor), and, unless the vocabulary is the packaged human one, ``vocabulary`` (JSON: all its symbols and ids).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cell_lm.errors import GeneError, InputError, ModelError
from cell_lm.files import JSON, atomic_file
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.reading import parse_json

FORMAT = 1
"""Version of the file; a newer one is refused."""
TENSOR = "vectors"
_TEXTS = ("format", "vocabulary_hash", "symbols", "source", "about")
_LOSS = 0.01
"""Largest error of half precision, as a fraction of the vectors' standard deviation, that is accepted on writing."""


@dataclass(frozen=True)
class Stored:
    """The content of a file of gene vectors.

    Attributes
    ----------
    vocabulary : Vocabulary
        The genes that the vectors were made for.
    rows : ndarray
        Index of each vector in the vocabulary, int64 [known].
    vectors : ndarray
        float32 [known, width].
    source : str
        One line.
    about : dict
        How they were made.
    """

    vocabulary: Vocabulary
    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    source: str
    about: dict[str, JSON]


def write(path: Path, stored: Stored) -> None:
    """Write a file of gene vectors, atomically and synced.

    Raises
    ------
    InputError
        The vectors are too large or too small for half precision.
    """
    half = _half(stored.vectors, path)
    vocabulary = stored.vocabulary
    texts = {
        "format": str(FORMAT),
        "vocabulary_hash": vocabulary.hash,
        "symbols": json.dumps([vocabulary.symbols[row] for row in stored.rows]),
        "source": stored.source,
        "about": json.dumps(stored.about, allow_nan=False),
    }
    if vocabulary.hash != Vocabulary.human().hash:
        texts["vocabulary"] = json.dumps([vocabulary.symbols, vocabulary.ensembl])
    with atomic_file(path) as temporary:
        save_file({TENSOR: half}, temporary, metadata=texts | {"sha256": _digest(texts, half)})


def read(path: Path) -> Stored:
    """Read a file of gene vectors and check all of it.

    Raises
    ------
    ModelError
        It is missing, damaged, of another kind, or of a newer format.
    """
    texts, half = _content(path)
    sum_ = texts.pop("sha256", "")
    missing = [name for name in _TEXTS if name not in texts]
    if missing:
        raise _damaged(path, f"it holds no gene vectors of cell-lm: no {', '.join(missing)} in its metadata")
    if texts["format"] != str(FORMAT):
        found = f"it has format {texts['format'][:20]!r}, this cell-lm reads format {FORMAT}"
        raise ModelError(found, where=str(path), fix="Upgrade cell-lm, or make the vectors anew")
    if half.dtype != np.float16 or half.ndim != 2 or not half.shape[1]:
        raise _damaged(path, f"its vectors are {half.dtype} of shape {half.shape}, not float16 [genes, width]")
    if _digest(texts, half) != sum_:
        raise _damaged(path, "its SHA-256 is not the one that it names: damaged or changed")
    if not np.isfinite(half).all():
        raise _damaged(path, f"{int((~np.isfinite(half)).sum()):,} of its numbers are not finite")
    return _stored(path, texts, half)


def _stored(path: Path, texts: Mapping[str, str], half: NDArray[np.float16]) -> Stored:
    try:
        listed, about = parse_json(texts["symbols"]), parse_json(texts["about"])
        if not isinstance(about, dict) or not isinstance(listed, list):
            raise ValueError("no JSON object or list")
        symbols = tuple(map(str, listed))
        vocabulary = _vocabulary(texts, symbols)
    except (ValueError, TypeError, GeneError) as error:
        raise _damaged(path, f"its metadata cannot be read ({error})") from None
    rows = np.array([vocabulary.find(symbol) for symbol in symbols], np.int64)
    if len(rows) != len(half) or len(set(symbols)) != len(symbols) or (rows < 0).any():
        found = (
            f"{len(half):,} vectors for {len(set(symbols)):,} genes, {int((rows < 0).sum()):,} not in its vocabulary"
        )
        raise _damaged(path, found)
    return Stored(vocabulary, rows, half.astype(np.float32), texts["source"], about)


def _vocabulary(texts: Mapping[str, str], symbols: tuple[str, ...]) -> Vocabulary:
    """Return the vocabulary of a file; if it was the packaged one of another release, that of the file's genes."""
    if texts["vocabulary_hash"] == Vocabulary.human().hash:
        return Vocabulary.human()
    if "vocabulary" not in texts:
        return Vocabulary(symbols, ("",) * len(symbols))
    pair: Any = parse_json(texts["vocabulary"])
    names, identifiers = pair
    vocabulary = Vocabulary(tuple(map(str, names)), tuple(map(str, identifiers)))
    if vocabulary.hash != texts["vocabulary_hash"]:
        raise ValueError("its vocabulary is not the one that its hash names")
    return vocabulary


def _content(path: Path) -> tuple[dict[str, str], NDArray[np.float16]]:
    """Return the metadata and the tensor as stored in the file."""
    if not path.is_file():
        found = "it is no file" if path.exists() else "there are no gene vectors"
        raise ModelError(found, where=str(path), fix="Name a file that cell-lm genes pretrain wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            if list(file.keys()) != [TENSOR]:
                raise _damaged(path, f"it holds the tensors {', '.join(sorted(file.keys())[:3])}, not '{TENSOR}'")
            return dict(file.metadata() or {}), file.get_tensor(TENSOR)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise _damaged(path, f"it cannot be read as safetensors ({' '.join(str(error).split())[:100]})") from None


def _half(vectors: NDArray[np.float32], path: Path) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(vectors, dtype=np.float16)
    lost = np.abs(half.astype(np.float32) - vectors).max(initial=0.0)
    if lost > _LOSS * vectors.std() and lost > 2.0**-11 * np.abs(vectors).max(initial=0.0):
        found = f"vectors of spread {vectors.std():.3g} do not fit half precision"
        raise InputError(found, where=str(path), fix="Scale the vectors to a spread near 1")
    return half


def _digest(texts: Mapping[str, str], half: NDArray[np.float16]) -> str:
    whole = hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode())
    whole.update(repr(half.shape).encode())
    whole.update(half.tobytes())
    return whole.hexdigest()


def _damaged(path: Path, found: str) -> ModelError:
    return ModelError(found, where=str(path), fix="Copy the file again, or make it anew with cell-lm genes pretrain")
