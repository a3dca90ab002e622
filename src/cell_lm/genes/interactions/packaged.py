"""The network that ships with cell-lm, and the compact form it ships in.

The file is a compressed npz without pickle. Edges are sorted, so that small numbers are enough: ``edges`` is the number
of edges of every gene to genes after it (uint16 [G]), a ``step`` leads from the second gene of an edge to that of the
next (from the first gene itself for its first edge), and a ``code`` names one of the few different ``scores``. Both are
split into low and high bytes, which pack better apart. ``hash`` is :attr:`Network.hash` and ``vocabulary`` that of the
genes: nothing is rounded, and what is not whole is refused.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from cell_lm.errors import InputError, ModelError
from cell_lm.genes.interactions.network import Network
from cell_lm.genes.vocabulary import Vocabulary

FILE = "anat.npz"
NAME = "anat"
SOURCE = (
    "ANAT, human protein-protein interactions (Signorini et al. 2021, BMC Bioinformatics 22, 526), "
    "as the package scnet ships them (Sheinin et al. 2025, Nature Methods), BSD-3-Clause"
)

_UNREADABLE = (OSError, EOFError, ValueError, LookupError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What reading damaged bytes can raise; :class:`~cell_lm.errors.InputError` is a ValueError."""


@cache
def packaged_network() -> Network:
    """Return the packaged network (read once, in 0.1 s).

    Raises
    ------
    ModelError
        The file is missing or damaged.
    """
    try:
        content = (files("cell_lm") / "resources" / FILE).read_bytes()
    except OSError:
        raise _damaged("it is missing") from None
    return unpack(content, Vocabulary.human(), name=NAME, source=SOURCE)


def pack(network: Network) -> bytes:
    """Return a network as the bytes of a file; the same network gives the same bytes."""
    genes = len(network.vocabulary)
    scores, code = np.unique(network.score, return_inverse=True)
    arrays: dict[str, NDArray[np.generic]] = {
        "edges": np.bincount(network.first, minlength=genes).astype(np.uint16),
        "scores": scores,
        "hash": _text(network.hash),
        "vocabulary": _text(network.vocabulary.hash),
    }
    if max(genes, len(scores)) > np.iinfo(np.uint16).max:
        raise InputError(f"{genes:,} genes or {len(scores):,} different scores are too many", where=network.name)
    for key, values in (("step", _steps(network)), ("code", code)):
        arrays[f"{key}_low"], arrays[f"{key}_high"] = (values & 255).astype(np.uint8), (values >> 8).astype(np.uint8)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{key}.npy")  # without today's date
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return file.getvalue()


def unpack(content: bytes, vocabulary: Vocabulary, *, name: str, source: str = "") -> Network:
    """Return the network that :func:`pack` made the bytes of.

    Raises
    ------
    ModelError
        They are damaged, or of another vocabulary.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            own, known = (arrays[key].tobytes().decode() for key in ("vocabulary", "hash"))
            network = _edges(arrays, vocabulary, name, source) if own == vocabulary.hash else None
    except _UNREADABLE as error:
        raise _damaged(f"it cannot be read ({type(error).__name__})") from None
    if network is None:
        raise _damaged("it is of another vocabulary than the packaged gene names")
    if network.hash != known:
        raise _damaged("its edges are not those that its hash names")
    return network


def _steps(network: Network) -> NDArray[np.int64]:
    second = network.second.astype(np.int64)
    steps = np.diff(second, prepend=0)
    starts = np.flatnonzero(np.diff(network.first, prepend=-1))
    steps[starts] = second[starts] - network.first[starts]
    return steps


def _edges(arrays: np.lib.npyio.NpzFile, vocabulary: Vocabulary, name: str, source: str) -> Network:
    step, code = (arrays[f"{key}_low"] + (arrays[f"{key}_high"].astype(np.int64) << 8) for key in ("step", "code"))
    edges = arrays["edges"].astype(np.int64)
    first = np.repeat(np.arange(len(edges)), edges)
    total = np.cumsum(step)
    before = np.concatenate([[0], total])[(np.cumsum(edges) - edges)[first]]  # steps of all genes before the edge's own
    second = total - before + first
    score = arrays["scores"].astype(np.float32)[code]
    return Network(vocabulary, first.astype(np.int32), second.astype(np.int32), score, name, source)


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), np.uint8)


def _damaged(found: str) -> ModelError:
    return ModelError(found, where=f"packaged network {FILE}", fix="Install cell-lm again")
