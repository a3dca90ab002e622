"""Embeddings of cells as features of a task, and a cache so that the same cells are embedded once.

The cache is keyed by what an embedding depends on: the weights and settings of the encoder, the arithmetic, and the
genes and counts of the *cell* (a 128-bit hash, :func:`cell_lm.data.store.row_hashes`). It therefore works for any
subset of cells that were embedded before, from any object, file or store: five seeds, or the folds of a
cross-validation, embed each cell once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from cell_lm.config import Precision
from cell_lm.data.cells import CellData
from cell_lm.data.protocol import refuse_z_scores
from cell_lm.data.store import row_hashes
from cell_lm.data.view import CellView
from cell_lm.engine.device import choose_device
from cell_lm.errors import GeneError, ModelError
from cell_lm.model import CellLM
from cell_lm.terminal import refuse_uncallable

TOKEN_BUDGET = 65536
"""Default for the most genes in one forward pass."""
CACHED = 1 << 29
"""Most bytes of the embeddings in the cache."""

Device = str | torch.device | None
"""``"cpu"``, ``"cuda"``, ``"cuda:1"`` or a torch device; None: the model's device if it is a GPU, else CUDA if there is
a device, else the CPU."""
Hashes = NDArray[np.uint64]


def weights_hash(model: CellLM) -> str:
    """Return the SHA-256 of the weights as a file, which is also in ``config.json`` of the model's folder."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()


def place(model: CellLM, device: Device = None) -> torch.device:
    """Move a model to its device; it stays there.

    Raises
    ------
    ConfigError
        There is no such device.
    """
    now = next(model.parameters()).device
    wanted = now if device is None and now.type != "cpu" else choose_device(device)
    if wanted != now:
        model.to(wanted)
    return wanted


@dataclass(frozen=True, eq=False)
class _Block:
    """Cells that were embedded together: hashes [n, 2], sorted by the first number, and embeddings [n, width]."""

    hashes: Hashes
    embedding: NDArray[np.float32]

    @classmethod
    def of(cls, hashes: Hashes, embedding: NDArray[np.float32]) -> _Block:
        order = np.argsort(hashes[:, 0], kind="stable")
        return cls(hashes[order], embedding[order])

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def bytes(self) -> int:
        return self.hashes.nbytes + self.embedding.nbytes

    def find(self, hashes: Hashes) -> NDArray[np.int64]:
        """Return the index of each cell, int64 [cells]; -1 if it is not here."""
        at = np.minimum(np.searchsorted(self.hashes[:, 0], hashes[:, 0]), len(self) - 1)
        return np.where((self.hashes[at] == hashes).all(axis=1), at, -1)

    def join(self, other: _Block) -> _Block:
        return _Block.of(np.concatenate([self.hashes, other.hashes]), np.concatenate([self.embedding, other.embedding]))


class EmbeddingCache:
    """Embeddings by encoder and cell, in memory, with a limit in bytes; the least recently used are removed first.

    Safe to use from several threads.

    Parameters
    ----------
    max_bytes
        Most bytes to hold; a larger block is not kept.
    """

    def __init__(self, max_bytes: int = CACHED) -> None:
        self.max_bytes = max_bytes
        self._blocks: OrderedDict[str, list[_Block]] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"EmbeddingCache({len(self):,} cells, {self.bytes:,} of {self.max_bytes:,} bytes)"

    def __len__(self) -> int:
        return sum(len(block) for blocks in list(self._blocks.values()) for block in blocks)

    @property
    def bytes(self) -> int:
        """Bytes in the cache."""
        return sum(block.bytes for blocks in list(self._blocks.values()) for block in blocks)

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._blocks.clear()

    def fetch(self, encoder: str, hashes: Hashes, into: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Write the cached embeddings into the rows of ``into``; return which cells were cached, bool [cells]."""
        known = np.zeros(len(hashes), bool)
        with self._lock:
            if encoder in self._blocks:
                self._blocks.move_to_end(encoder)
            blocks = list(self._blocks.get(encoder, ()))
        for block in blocks:
            at = block.find(hashes)
            new = (at >= 0) & ~known
            into[new] = block.embedding[at[new]]
            known |= new
        return known

    def add(self, encoder: str, hashes: Hashes, embedding: NDArray[np.float32]) -> None:
        """Keep a copy of embeddings, float32 [cells, width]."""
        if not len(hashes) or hashes.nbytes + embedding.nbytes > self.max_bytes:
            return
        block = _Block.of(hashes, embedding)
        with self._lock:
            blocks = self._blocks.setdefault(encoder, [])
            self._blocks.move_to_end(encoder)
            while blocks and len(blocks[-1]) <= 2 * len(block):  # few blocks, however small the pieces are that come
                if blocks[-1].bytes + block.bytes > self.max_bytes:
                    break
                block = blocks.pop().join(block)
            blocks.append(block)
            self._shrink()

    def _shrink(self) -> None:
        while self.bytes > self.max_bytes:
            oldest, blocks = next(iter(self._blocks.items()))
            blocks.pop(0)
            if not blocks:
                del self._blocks[oldest]


CACHE = EmbeddingCache()
"""Default cache of :func:`embed_cells`."""


def encoder_key(model: CellLM, device: torch.device, precision: Precision) -> str:
    """Return a key of what an embedding depends on besides the cell: weights, settings, vocabulary, device, arithmetic.

    The weights are hashed in memory, without the copy that :func:`weights_hash` makes.
    """
    digest = hashlib.sha256()
    for name, tensor in model.encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    settings = model.config.model_dump_json()
    return "|".join([digest.hexdigest(), model.vocabulary.hash, settings, device.type, precision])


def embed_cells(
    model: CellLM,
    cells: CellData | CellView,
    *,
    token_budget: int = TOKEN_BUDGET,
    device: Device = None,
    precision: Precision = "float32",
    cache: EmbeddingCache | None = CACHE,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return the embeddings of cells, float32 [cells, width], all finite; see :meth:`CellLM.encode`.

    Cells in a file or a store are read a few thousand at a time.

    Parameters
    ----------
    model
        The encoder. It is moved to the device, and stays there.
    cells
        Aligned to the model's vocabulary.
    token_budget
        Most genes in one forward pass. It limits memory and changes no result.
    device
        Device; None: CUDA where there is a device, else the CPU.
    precision
        ``"float32"``, or ``"bfloat16"``, which is faster and differs by its rounding.
    cache
        Cache of embeddings; None: none.
    progress
        Called with the number of cells completed since the last call.

    Raises
    ------
    GeneError
        The cells are aligned to another vocabulary than the model's.
    ConfigError
        There is no such device.
    ModelError
        The model returns NaN or infinite values.
    """
    refuse_uncallable(progress)
    view = cells if isinstance(cells, CellView) else CellView.of(cells)
    refuse_z_scores(view.dataset, where=view.name)
    if view.vocabulary.hash != model.vocabulary.hash:
        found = f"the cells are aligned to a vocabulary of {len(view.vocabulary):,} genes that is not the model's"
        raise GeneError(found, where=view.name, fix="Read them with vocabulary=model.vocabulary")
    embedding = np.empty((len(view), model.config.width), np.float32)
    hashes, fresh = np.empty((0 if cache is None else len(view), 2), np.uint64), np.ones(len(view), bool)
    encoder = encoder_key(model, place(model, device), precision) if cache is not None else str(place(model, device))
    for places, block in view.blocks():
        missing, part = np.arange(len(block)), embedding[places]
        if cache is not None:
            hashes[places] = row_hashes(block.X.indices, block.X.data, block.X.indptr)
            known = cache.fetch(encoder, hashes[places], part)
            fresh[places], missing = ~known, np.flatnonzero(~known)
            if progress is not None and known.any():
                progress(int(known.sum()))
        if len(missing):
            wanted = block if len(missing) == len(block) else block[missing]
            part[missing] = model.encode(wanted, token_budget=token_budget, precision=precision, progress=progress)
    _refuse_infinite(embedding, view.name)
    if cache is not None:
        cache.add(encoder, hashes[fresh], embedding[fresh])
    return embedding


def _refuse_infinite(embedding: NDArray[np.float32], name: str) -> None:
    bad = int((~np.isfinite(embedding)).any(axis=1).sum())
    if bad:
        found = f"the model gives {bad:,} of {len(embedding):,} cells an embedding that is not finite"
        raise ModelError(found, where=name, fix="Its weights are damaged: use another model or checkpoint")
