"""The environment of a result: package versions, and a general description of the machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "anndata", "scanpy", "umap-learn", "accelerate")


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a result, the operating system and the cores."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["processor cores"] = str(os.cpu_count() or "unknown")
    return found
