"""The size of a block, so that all processes together stay within a memory limit."""

from __future__ import annotations

import re

from cell_lm.errors import ConfigError

_DEFAULT = 1_500_000_000
_PROCESS, _LEADER = 530_000_000, 470_000_000
"""Bytes of a process besides the matrix (Python, libraries, gene names), and of one that only coordinates."""
_PER_ENTRY = 90
"""Peak bytes per entry of a block, over all copies."""
_MOST, _LEAST = 1 << 22, 1 << 19
_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def entries_at_a_time(memory: int | None, workers: int) -> int:
    """Return how many entries of a matrix each process may hold.

    Parameters
    ----------
    memory
        Memory limit of all processes together, bytes; default: 1.5 GB, or the least that the processes need.
    workers
        Processes besides the first one; with 1, the first one does the work itself.

    Raises
    ------
    ConfigError
        The limit is less than the processes need.
    """
    if workers < 1:
        raise ConfigError(f"workers = {workers}", fix="Give at least 1")
    processes = workers + 1 if workers > 1 else 1
    least = processes * (_PROCESS + _LEAST * _PER_ENTRY)
    bound = max(_DEFAULT, least) if memory is None else memory
    if bound < least:
        found = (
            f"{bound / 1e9:.2f} GB are too little for {processes} processes, of {least / processes / 1e9:.2f} GB each"
        )
        raise ConfigError(found, fix=f"Say --memory {least / 1e9 + 0.01:.2f}G, or fewer --workers")
    return int(min((bound / processes - _PROCESS) / _PER_ENTRY, _MOST))


def read_size(text: str) -> int:
    """Read ``1.5G`` or ``800M`` as bytes.

    Raises
    ------
    ConfigError
        It is not a size.
    """
    match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,20})?)\s*([kmgt]?)(?:i?b)?", text.strip().casefold())
    if match is None:
        raise ConfigError(f"'{text}' is no size", where="--memory", fix="Write it as 1.5G or 800M")
    size = int(float(match[1]) * _UNITS[match[2]])
    if not match[2] and size < 10_000_000:
        raise ConfigError(f"'{text}' is {size:,} bytes", where="--memory", fix=f"Name the unit, as in {match[1]}G")
    return size
