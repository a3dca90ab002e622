"""Fetching a registered set with pooch: every file is held against its hash, unpacked with care, and noted.

The note, ``downloads.lock.json`` in the folder of the data, says of every file where it came from, its size and its
SHA-256. Where no hash was published, the first download makes the note, and says so; later ones must agree with it.
"""

from __future__ import annotations

import json
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
from cell_lm.files import JSON, sha256, write_json
from cell_lm.genes.interactions.text import is_gzipped

LOCK = "downloads.lock.json"
_TIMEOUT = 60
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes
    ----------
    dataset : Dataset
        The set.
    cells : tuple of Path
        What the readers take: folders with a matrix, or files; of a network, the folder of its files.
    first_seen : tuple of str
        Files whose hash nobody had published, and that were seen for the first time.
    """

    dataset: Dataset
    cells: tuple[Path, ...]
    first_seen: tuple[str, ...]


def download(
    name: str, out: str | Path, *, mirror: str | None = None, progress: bool = False, tell: Tell = lambda _: None
) -> Fetched:
    """Fetch a set into a folder; what is there already is checked and not fetched again.

    Parameters
    ----------
    name
        As of :func:`~cell_lm.data.downloads.registry.find_dataset`.
    out
        The folder.
    mirror
        A folder, or an address, that has the files under their names here: for machines without a way out.
    progress
        Whether to show a bar.
    tell
        Told what is done, a line at a time.

    Raises
    ------
    InputError
        There is no such set, a file cannot be fetched, has another hash than it should, or is no plain archive.
    """
    dataset, folder = find_dataset(name), Path(out)
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
    """Return the path of a file that is there and is what it should be."""
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
    """Take a file from a folder."""
    shutil.copyfile(url, output)


@contextmanager
def _explained(url: str, name: str, known: str | None) -> Iterator[None]:
    """Say in one line why a file could not be fetched; pooch has removed what it had of it."""
    try:
        yield
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise InputError(f"it cannot be fetched ({error})", where=url, fix="Check the address") from None
        found = f"what was fetched does not have the hash it should ({known})"
        raise InputError(found, where=name, fix="Try again; if it stays so, the source has changed its file") from None
    except OSError as error:  # those of requests are too
        reason = " ".join(str(error).split())[:200]
        found = f"it cannot be fetched ({type(error).__name__}: {reason})"
        fix = "Check the network, or fetch it by hand and name its folder with mirror= (--mirror)"
        raise InputError(found, where=url, fix=fix) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what pooch says: the caller says it in its own way."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _refuse_other_content(path: Path, url: str) -> None:
    """Refuse, and remove, a page of a website that came with status 200 in place of a file without known hash."""
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
    """Return the notes of earlier downloads."""
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        notes: JSON = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        notes = None
    if not isinstance(notes, dict) or not all(isinstance(note, dict) for note in notes.values()):
        raise InputError("it is damaged", where=str(path), fix="Remove it: the hashes of published files stay known")
    return dict(notes)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
