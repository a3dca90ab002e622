"""Configure glibc's allocator to keep large blocks instead of returning each to the system at once.

By default the kernel maps every tensor above some hundred kilobytes anew, zeroes it page by page and unmaps it again.
That makes large element-wise operations several times slower. Set the thresholds before the first such tensor.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLDS = (1 << 30, 32 << 20)
"""Blocks from this size are mapped, in bytes; older versions of glibc accept at most the second value."""
TRIM_THRESHOLD = (1 << 31) - 1
"""Free memory at the top of the heap above which some is returned to the system, in bytes."""


def keep_large_blocks(environment: Mapping[str, str] = os.environ) -> bool:
    """Set the thresholds and return whether that worked.

    Does nothing on other systems and C libraries, or where the user tunes the allocator (``MALLOC_...`` or
    ``GLIBC_TUNABLES``).
    """
    if any(name.startswith("MALLOC_") for name in environment) or "glibc.malloc" in environment.get(
        "GLIBC_TUNABLES", ""
    ):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it
        mallopt = library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    kept = any(mallopt(_M_MMAP_THRESHOLD, size) for size in MMAP_THRESHOLDS)
    return bool(mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)) and kept
