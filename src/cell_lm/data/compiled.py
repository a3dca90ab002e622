"""Compilation of loops by numba, cached on disk, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a loop over arrays, keeping its type signature.

    No reordering of sums (``fastmath`` is off): results are the same on every run.
    """
    return cast("Function", numba.njit(cache=True, nogil=True)(function))
