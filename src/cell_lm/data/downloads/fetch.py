"""Download of a registered data set with pooch: every file is checked against its hash, unpacked safely, and recorded.

``downloads.lock.json`` in the data folder records the address, size and SHA-256 of every file. If no hash was
published, the first download creates the record, and reports it; later ones must agree with it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch

from cell_lm._version import __version__
from cell_lm.data.downloads.archive import unpack
from cell_lm.data.downloads.registry import Dataset, RemoteFile, find_dataset
from cell_lm.data.formats.detect import Format, detect
from cell_lm.errors import InputError
from cell_lm.files import refuse_unwritable, sha256, write_json
from cell_lm.genes.interactions.text import is_gzipped
from cell_lm.reading import read_json_object
from cell_lm.terminal import refuse_other_than_flag

LOCK = "downloads.lock.json"
_TIMEOUT = 60
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """Result of a download.

    Attributes
    ----------
    dataset : Dataset
        The data set.
    cells : tuple of Path
        Paths for the readers: folders with a matrix, or files; for a network, the folder of its files.
    first_seen : tuple of str
        Files without a published hash that were downloaded for the first time.
    """

    dataset: Dataset
    cells: tuple[Path, ...]
    first_seen: tuple[str, ...]


def download(
    name: str, out: str | Path, *, mirror: str | None = None, progress: bool = False, tell: Tell = lambda _: None
) -> Fetched:
    """Download a data set into a folder; existing files are checked and not downloaded again.

    Parameters
    ----------
    name
        As in :func:`~cell_lm.data.downloads.registry.find_dataset`.
    out
        The folder.
    mirror
        A folder, or an address, with the files under their local names, for machines without internet access.
    progress
        Whether to show a progress bar.
    tell
        Called with each progress message, one line at a time.

    Raises
    ------
    InputError
        There is no such data set; or a file cannot be downloaded, has the wrong hash, or is not a plain archive.
    """
    dataset, folder = find_dataset(name), Path(out)
    refuse_other_than_flag(progress)
    refuse_unwritable(folder)
    notes, cells, seen = _read_lock(folder), list[Path](), list[str]()
    for file in dataset.files:
        known = file.hash or notes.get(file.name, {}).get("sha256")
        path = _fetch(file, folder, known, mirror, progress=progress, tell=tell)
        if known is None:
            seen.append(file.name)
        notes[file.name] = {"url": file.url, "sha256": sha256(path), "bytes": path.stat().st_size}
        write_json(folder / LOCK, notes)
        cells += unpack(path, folder / _stem(file.name), keep=file.keep) if file.archive else [path]
    if dataset.kind == "network":
        cells = [folder]
    return Fetched(dataset, tuple(cells), tuple(seen))


def _fetch(
    file: RemoteFile, folder: Path, known: str | None, mirror: str | None, *, progress: bool, tell: Tell
) -> Path:
    """Return the path of a file that exists and has the right hash."""
    path = folder / file.name
    if path.exists():
        _refuse_changed(path, known)
        tell(f"{file.name} is there already")
        return path
    url = file.url if mirror is None else f"{mirror.rstrip('/')}/{file.name}"
    tell(f"fetching {url}")
    with _explained(url, file.name, known), _quiet():
        folder.mkdir(parents=True, exist_ok=True)
        downloader = _copy if mirror is not None and "://" not in mirror else _http(progress)
        pooch.retrieve(url, known, fname=file.name, path=folder, downloader=downloader)
    _refuse_other_content(path, url)
    return path


def _http(progress: bool) -> Any:
    headers = {"User-Agent": f"cell-lm/{__version__}"}
    return pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT, headers=headers)


def _copy(url: str, output: str | Path, _: object) -> None:
    """Copy a file from a folder."""
    shutil.copyfile(url, output)


@contextmanager
def _explained(url: str, name: str, known: str | None) -> Iterator[None]:
    """Raise a one-line error for a failed download; pooch has removed the partial file."""
    try:
        yield
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise InputError(f"it cannot be fetched ({error})", where=url, fix="Check the address") from None
        found = f"what was fetched does not have the hash it should ({known})"
        raise InputError(found, where=name, fix="Try again; if it stays so, the source has changed its file") from None
    except OSError as error:  # includes those of requests
        reason = " ".join(str(error).split())[:200]
        found = f"it cannot be fetched ({type(error).__name__}: {reason})"
        fix = "Check the network, or fetch it by hand and name its folder with mirror= (--mirror)"
        raise InputError(found, where=url, fix=fix) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress pooch's log messages: the caller reports progress itself."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _refuse_other_content(path: Path, url: str) -> None:
    """Refuse, and remove, an HTML page that was served with status 200 instead of a file without known hash."""
    if path.suffix == ".RData" and not _is_of_r(path):
        path.unlink()
        raise InputError("what came is no file of R", where=url, fix="Check the ids of study and sample")
    if path.suffix == ".gz" and not is_gzipped(path):
        path.unlink()
        raise InputError("what came is not gzipped", where=url, fix="Look at the address in a browser, or try later")


def _is_of_r(path: Path) -> bool:
    try:
        kind: Format | None = detect(path)
    except InputError:
        return False
    return kind == "RData"


def _refuse_changed(path: Path, known: str | None) -> None:
    if known is not None and not pooch.hashes.hash_matches(str(path), known, strict=False):
        found = f"it is there, but does not have the hash it should ({known})"
        raise InputError(found, where=str(path), fix="Remove it, and fetch it again")


def _read_lock(folder: Path) -> dict[str, Any]:
    """Return the records of earlier downloads."""
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        notes = read_json_object(path)
    except (OSError, ValueError):
        notes = {"": None}
    if not all(isinstance(note, dict) for note in notes.values()):
        raise InputError("it is damaged", where=str(path), fix="Remove it: the hashes of published files stay known")
    return notes


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
