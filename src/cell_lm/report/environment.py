"""On what a result was made: the versions that matter, and the machine in general words."""

from __future__ import annotations

import os
import platform
from importlib import metadata

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "anndata", "scanpy", "umap-learn", "accelerate")


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result, the operating system and the cores."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["system"] = f"{platform.system()} {platform.machine()}"
    found["processor cores"] = str(os.cpu_count() or "unknown")
    return found
