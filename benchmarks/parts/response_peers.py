"""Published networks as peers."""

from __future__ import annotations

PEERS: dict = {}
