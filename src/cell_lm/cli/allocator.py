"""Tell glibc's allocator to keep large blocks instead of returning each to the system at once.

By default every tensor above some hundred kilobytes is mapped anew, zeroed page by page by the kernel and unmapped
again, which makes large element-wise operations several times slower. It has to be said before the first such tensor.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLDS = (1 << 30, 32 << 20)
"""Blocks from this size are mapped, in bytes; older versions of glibc take nothing above the second."""
TRIM_THRESHOLD = (1 << 31) - 1
"""Free memory at the top of the heap from which some is given back, in bytes."""


def keep_large_blocks(environment: Mapping[str, str] = os.environ) -> bool:
    """Set the thresholds and return whether it was done.

    Left alone are other systems and C libraries, and users who tune the allocator themselves (``MALLOC_...`` or
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
