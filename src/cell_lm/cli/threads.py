"""Let idle threads sleep.

By default OpenMP's threads spin while they wait for each other. If other programs use the cores, a spinning thread
keeps the thread it waits for from running: next to two busy processes on two cores, training was three to ten times
slower.
"""

from __future__ import annotations

import os


def sleep_when_idle() -> None:
    """Configure OpenMP not to spin, unless the user has set it; call it before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
