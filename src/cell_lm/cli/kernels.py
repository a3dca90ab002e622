"""Keep few compiled kernels, so that the memory of a long run does not grow.

oneDNN compiles a kernel for every shape it meets, some hundred kilobytes each, and two caches keep the last 1,024 of
them: its own, and that of the layer by which PyTorch calls it. Every chunk of cells has another number of genes, so
hardly any comes again after its chunk, and each that is kept also pins the memory around it.
"""

from __future__ import annotations

import os

KERNELS = 32
"""Kernels that each cache keeps: what repeats from layer to layer of a chunk."""
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""The capacity of oneDNN's cache (its guide, "Primitive Cache"), and of PyTorch's beside it."""


def keep_few_kernels() -> None:
    """Bound both caches, unless the user said otherwise; it has to be said before torch is imported."""
    for name in CACHES:
        os.environ.setdefault(name, str(KERNELS))
