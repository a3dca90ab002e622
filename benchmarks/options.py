"""The common command line of the benchmarks: ``--data``, ``--quick``, and required packages.

It imports nothing heavy, so that a wrong folder or a missing package ends a benchmark at once, with one line.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cell_lm.errors import CellLMError, ConfigError, InputError

FOLDERS = ("cells", "drug", "genes")
_FOLDER = "the folder that holds cells/, drug/ and genes/"
_SHOWN = 3


def parser(doc: str | None, *, quick: str, reads_data: bool = True) -> argparse.ArgumentParser:
    """Return a parser with ``--data`` and ``--quick``; the docstring of the benchmark is its help.

    Parameters
    ----------
    doc
        ``__doc__`` of the benchmark.
    quick
        What ``--quick`` runs; it needs no other argument.
    reads_data
        False for a benchmark that makes its own cells; it takes ``--data`` all the same, as every benchmark does.
    """
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--data", type=Path, help=_FOLDER if reads_data else f"{_FOLDER}; not read here")
    result.add_argument("--quick", action="store_true", help=quick)
    return result


def data_folder(path: Path | None, needs: Iterable[str] = ()) -> Path:
    """Return the folder given as ``--data``.

    Parameters
    ----------
    path
        What the user gave; None where nothing was given.
    needs
        Files that the benchmark reads, relative to the folder: ``cells/pbmc3k.h5ad``.

    Raises
    ------
    ConfigError
        No folder was given.
    InputError
        It is not a folder, or files are missing; the message says which, and what to give.
    """
    give = f"Give --data {_FOLDER}"
    if path is None:
        raise ConfigError("no data were given", fix=f"{give}, or run with --quick alone")
    if not path.is_dir():
        raise InputError("is not a folder" if path.exists() else "no such folder", where=str(path), fix=give)
    needs = list(needs)
    missing = [name for name in (needs or ["cells"]) if not (path / name).exists()]
    if not missing:
        return path
    if path.name in FOLDERS and not (path / path.name).exists():
        give = f"Give --data its parent, {path.resolve().parent}"
    shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
    found = f"{len(missing)} of {max(1, len(needs))} files or folders are missing: {shown}"
    raise InputError(found, where=str(path), fix=give)


def data_if_given(path: Path | None, needs: Iterable[str] = ()) -> Path | None:
    """Return :func:`data_folder` of what was given; None where nothing was."""
    return None if path is None else data_folder(path, needs)


def need_packages(packages: Mapping[str, str]) -> None:
    """Refuse to start without optional packages.

    Parameters
    ----------
    packages
        Name of the module to import, and the name that pip installs it by.

    Raises
    ------
    ConfigError
        Some cannot be imported; the message names the command that installs them.
    """
    missing = {name: pip for name, pip in packages.items() if importlib.util.find_spec(name) is None}
    if missing:
        fix = f"Install what is missing: pip install {' '.join(missing.values())}"
        raise ConfigError(f"this benchmark needs {', '.join(packages)}; missing: {', '.join(missing)}", fix=fix)


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what it refuses is one line, and exit code 1."""
    try:
        main()
    except CellLMError as error:
        raise SystemExit(str(error)) from None
