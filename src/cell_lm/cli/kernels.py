"""Keep few compiled kernels, so that the memory of a long run does not grow.

oneDNN compiles a kernel of some hundred kilobytes for every new shape. Two caches keep the last 1,024 of them: its own,
and that of the layer by which PyTorch calls it. Every chunk of cells has a different number of genes, so few kernels
are used again after their chunk, and each kept kernel also pins the memory around it.
"""

from __future__ import annotations

import os

KERNELS = 32
"""Kernels that each cache keeps: enough for the shapes that repeat from layer to layer of a chunk."""
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""The capacity of oneDNN's cache (its guide, "Primitive Cache"), and of PyTorch's."""


def keep_few_kernels() -> None:
    """Limit both caches, unless the user has set them; call it before torch is imported."""
    for name in CACHES:
        os.environ.setdefault(name, str(KERNELS))
