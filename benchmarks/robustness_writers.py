"""Effects of damage to disks, processes and files, as counts.

- ``kills_lost``: files that cannot be read after a process was killed at a random moment while overwriting a model, a
  checkpoint, vectors, cells or a shard. Target: 0.
- ``flips_silent``: files with one flipped bit that are read with other content and without an error. Target: 0.
- ``disk_full_clean``: fraction of writers that, on a disk that is full at some byte, end with one error that names the
  file, with the previous content intact and nothing else left. Target: 1.
- ``outputs_destroyed``: files replaced by commands whose output is an input, a part of a run or model, a pipe or a
  device, with ``--force``. Target: 0.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parts.robustness_files import READ_AGAIN, REWRITTEN, WRITERS, Write, cells, write_model
from cell_lm.cli import main as command
from cell_lm.errors import CellLMError

LIMITS = (0, 1_000, 20_000)
"""Bytes at which a file may not grow any more."""
_CHILD = """
import json, sys
from pathlib import Path
from benchmarks.robustness_writers import fill_disk
print(json.dumps(fill_disk(Path(sys.argv[1]))))
"""


def kills(work: Path, each: int = 8, seed: int = 0) -> dict[str, float]:
    """Kill writers at random moments; return how many kills there were and how many lost something."""
    generator, lost, killed = np.random.default_rng(seed), 0, 0
    for name, (write, read) in REWRITTEN.items():
        path = work / name
        write(path)
        expected = read(path)
        for _ in range(each):
            _kill_while_writing(write, path, float(generator.uniform(0.02, 0.25)))
            killed += 1
            try:
                lost += read(path) != expected
            except Exception as error:  # whatever it is, the user cannot read it
                print(f"lost: {name}: {error}")
                lost += 1
        write(path)
        lost += len(list(work.rglob("*.partial")))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {"kills": killed, "kills_lost": lost}


def _kill_while_writing(write: Write, path: Path, seconds: float) -> None:
    """Write over and over in a child, and kill it so many seconds after it began its first write."""
    ready = mmap.mmap(-1, 8)
    child = os.fork()
    if not child:
        ready[:8] = struct.pack("q", 1)
        try:
            while True:
                write(path)
        finally:
            os._exit(1)
    while not struct.unpack("q", ready[:8])[0]:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def flips(work: Path, each: int = 12, seed: int = 0) -> dict[str, float]:
    """Flip bits in every file that is read again; return how many, and how many changed a result without an error."""
    total, silent = 0, 0
    for name in READ_AGAIN:
        for file, found in flipped(work, name, each, seed):
            total += 1
            if found == "changed":
                print(f"silent: {name}: {file}")
                silent += 1
    return {"flips": total, "flips_silent": silent}


def flipped(work: Path, name: str, each: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Flip ``each`` bits of every file of a kind, one at a time.

    Yields
    ------
    tuple of str
        The file, and ``refused``, ``changed`` (what is read is another) or ``harmless``.
    """
    write, read = READ_AGAIN[name]
    whole, copy, generator = work / f"{name} whole", work / f"{name} copy", np.random.default_rng(seed)
    write(whole)
    expected = read(whole)
    for file in sorted(path for path in whole.rglob("*") if path.is_file() and path.name != "README.md"):
        bits = 8 * file.stat().st_size
        for bit in generator.choice(bits, min(each, bits), replace=False).tolist():
            shutil.copytree(whole, copy)
            flip(copy / file.relative_to(whole), bit)
            try:
                yield file.name, "harmless" if read(copy) == expected else "changed"
            except CellLMError:
                yield file.name, "refused"
            shutil.rmtree(copy)


def flip(path: Path, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def disk_full(work: Path) -> dict[str, float]:
    """Let the disk be full at some byte for every writer; return the share of clean ends."""
    attempts = disk_full_attempts(work)
    for attempt in attempts:
        if not attempt["clean"]:
            print(f"not clean: {attempt}")
    clean = sum(attempt["clean"] for attempt in attempts) / len(attempts)
    return {"disk_full": len(attempts), "disk_full_clean": round(clean, 4)}


def disk_full_attempts(work: Path) -> list[dict[str, Any]]:
    """Return what every writer did on a full disk, in a process of its own: it may be ended by the HDF5 library.

    Returns
    -------
    list of dict
        For each: ``name``, ``limit`` (bytes), ``there`` (whether it wrote over something), ``said``, ``changed`` (files
        that are others, or new), ``clean``. One attempt that is not clean where the process was ended.
    """
    paths = [str(Path(__file__).parents[1]), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(work)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
    if done.returncode or done.stderr:
        said = f"the process ended with {done.returncode}: {done.stderr[-2_000:]}"
        return [{"name": "", "limit": 0, "there": False, "said": said, "changed": [], "clean": False}]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def fill_disk(work: Path) -> list[dict[str, Any]]:
    """Try every writer at every limit, where nothing was before and where something was."""
    attempts = []
    for name, write in WRITERS.items():
        for limit in LIMITS:
            for there in (False, True):
                folder = work / f"{name} {limit} {there}"
                folder.mkdir()
                if there:
                    write(folder / "out")
                attempts.append({"name": name, "limit": limit, "there": there, **_fill(write, limit, folder)})
    return attempts


def _fill(write: Write, limit: int, folder: Path) -> dict[str, Any]:
    before, (_, hard) = _content(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write(folder / "out")
        said = ""
    except CellLMError as error:
        said = str(error)
    except Exception as error:  # anything else is a fault
        said = f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    after = _content(folder)
    changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    named = "could not be written (File too large)" in said and str(folder) in said and "\n" not in said
    return {"said": said, "changed": changed, "clean": named and "Make room" in said and not changed}


def _content(folder: Path) -> dict[str, bytes]:
    """Return every file; those of a log, which grows line by line, are left out."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    grows = ("log.jsonl", "events.out")
    return {name: path.read_bytes() for name, path in found.items() if not any(word in name for word in grows)}


def outputs(work: Path) -> dict[str, float]:
    """Aim outputs at what must not be replaced; return how many, and how many were."""
    source, folder = work / "cells.h5ad", work / "model"
    cells().write_h5ad(source)
    write_model(folder)
    os.link(source, work / "hard.h5ad")
    (work / "symbolic.h5ad").symlink_to(source)
    os.mkfifo(work / "pipe")
    (work / "device").symlink_to("/dev/null")
    places = [source, work / "hard.h5ad", work / "symbolic.h5ad", work / "pipe", work / "device"]
    places += [folder / "model.safetensors", folder / "config.json", folder / "new.h5ad"]
    destroyed = 0
    for place in places:
        before = _state(work), _kind(place), Path("/dev/null").is_char_device()
        for words in (["embed", str(source), "--model", str(folder)], ["check", str(source), "--genes-table"]):
            option = ["--out", str(place)] if words[0] == "embed" else [str(place)]
            command([*words, *option, "--force", "--quiet"])
        destroyed += before != (_state(work), _kind(place), Path("/dev/null").is_char_device())
    return {"outputs": 2 * len(places), "outputs_destroyed": destroyed}


def _state(work: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in work.rglob("*") if path.is_file() and not path.is_symlink()}


def _kind(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode) if os.path.lexists(path) else 0


def measure(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Return all figures, in about three minutes; ``quick`` in one."""
    figures: dict[str, float] = {}
    parts = {
        "kills": lambda folder: kills(folder, each=2 if quick else 8),
        "flips": lambda folder: flips(folder, each=3 if quick else 12),
        "full": disk_full,
        "outputs": outputs,
    }
    for name, part in parts.items():
        (work / name).mkdir()
        figures |= part(work / name)
    return figures
