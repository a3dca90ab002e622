"""Let idle threads sleep.

OpenMP's threads by default burn their core while they wait for each other. Where another program wants that core, the
thread that is waited for does not get it: beside two busy processes on two cores, training was three to ten times
slower for it.
"""

from __future__ import annotations

import os


def sleep_when_idle() -> None:
    """Ask OpenMP not to spin, unless the user said otherwise; it has to be said before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
