"""Small files that announce, or unpack to, far more than there is; each is made in well under a second."""

from __future__ import annotations

import gzip
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from cell_lm.genes import Vocabulary

CELLS, GENES = 40, 1_200


def honest(path: Path) -> Path:
    """Forty cells of human genes."""
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.negative_binomial(0.2, 0.05, (CELLS, GENES)).clip(max=120), dtype=np.float32)
    obs = pd.DataFrame({"label": ["a", "b"] * (CELLS // 2)}, index=[f"c{i}" for i in range(CELLS)])
    var = pd.DataFrame(index=list(Vocabulary.human().symbols[:GENES]))
    AnnData(X, obs=obs, var=var).write_h5ad(path)
    return path


def h5ad(spoil: Callable[[h5py.File], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = honest(folder / "bomb.h5ad")
        with h5py.File(path, "a") as file:
            spoil(file)
        return path

    return make


def announce(file: h5py.File, key: str, shape: tuple[int, ...], dtype: object, rows: int = 0) -> None:
    """Put a dataset of which only the first rows, if any, are stored in the place of another one."""
    attributes = dict(file[key].attrs) if key in file else {}
    if key in file:
        del file[key]
    array = file.create_dataset(key, shape, dtype, chunks=(min(shape[0], 1 << 16), *shape[1:]), compression="gzip")
    if rows:
        array[:rows] = 1
    for name, value in attributes.items():
        array.attrs[name] = value


def dag(file: h5py.File) -> None:
    """Groups of two hard links each, 26 levels of them: 2^26 paths."""
    below = file.create_group("uns/level0")
    for level in range(1, 27):
        group = file.create_group(f"uns/level{level}")
        group["left"], group["right"] = below, below
        below = group


def cycle(file: h5py.File) -> None:
    group = file.create_group("uns/again")
    group["again"] = group


def deep(file: h5py.File) -> None:
    group = file.create_group("uns/deep")
    for _ in range(3_000):
        group = group.create_group("a")


def long_index(file: h5py.File) -> None:
    announce(file, "obs/_index", (10**9,), h5py.string_dtype())


def long_sparse(file: h5py.File) -> None:
    for name, dtype in (("data", np.float32), ("indices", np.int32)):
        announce(file, f"X/{name}", (4 * 10**9,), dtype, rows=1)


def tall_dense(file: h5py.File) -> None:
    del file["X"]
    array = file.create_dataset("X", (200_000, 15_600), np.float32, chunks=(1, 15_600), compression="gzip")
    array[:2] = 1
    array.attrs["encoding-type"], array.attrs["encoding-version"] = "array", "0.2.0"


def zeros(file: h5py.File) -> None:
    """Four gigabytes of zeros, all of them written, in four megabytes."""
    packed = zlib.compress(bytes(1 << 28), 9)
    array = file.create_dataset("obsm/z", (4 << 30,), np.uint8, chunks=(1 << 28,), compression="gzip")
    for start in range(16):
        array.id.write_direct_chunk((start << 28,), packed)
    array.attrs["encoding-type"], array.attrs["encoding-version"] = "array", "0.2.0"


def many_small(file: h5py.File) -> None:
    """Four hundred arrays of ten megabytes of zeros: none is large."""
    packed = zlib.compress(bytes(10_000_000), 9)
    for number in range(400):
        array = file.create_dataset(f"uns/z{number}", (10_000_000,), np.uint8, chunks=(10_000_000,), compression="gzip")
        array.id.write_direct_chunk((0,), packed)


def one_text_many_times(file: h5py.File) -> None:
    """A text of a megabyte in the heap of the file, and ten thousand pointers to it."""
    array = file.create_dataset("uns/t", (10_000,), h5py.string_dtype(), chunks=(10_000,))
    array[0] = "x" * 1_000_000
    mask, chunk = array.id.read_direct_chunk((0,))
    array.id.write_direct_chunk((0,), chunk[:16] * 10_000, mask)


def rdata_sequences(folder: Path) -> Path:
    """Twelve sequences of 2^27 numbers each, none of which is stored."""

    def text(word: bytes) -> bytes:
        return struct.pack(">IIi", 1, 9 | 64 << 12, len(word)) + word

    pair, nil = struct.pack(">I", 2), struct.pack(">I", 254)
    kind = pair + text(b"compact_intseq") + pair + text(b"base") + pair + struct.pack(">Iii", 13, 1, 13) + nil
    state = struct.pack(">Ii3d", 14, 3, float(1 << 27), 1.0, 1.0)
    one = struct.pack(">I", 238) + kind + state + nil
    body = struct.pack(">Ii", 19, 12) + one * 12
    path = folder / "bomb.rds"
    path.write_bytes(gzip.compress(b"X\n" + struct.pack(">iii", 2, 0x030600, 0x020300) + body))
    return path


def rdata_names(folder: Path) -> Path:
    """Three million names of one letter."""
    name = struct.pack(">Ii", 9 | 64 << 12, 1) + b"a"
    body = struct.pack(">Ii", 16, 3_000_000) + name * 3_000_000
    path = folder / "bomb.rds"
    path.write_bytes(gzip.compress(b"X\n" + struct.pack(">iii", 2, 0x030600, 0x020300) + body))
    return path


def rdata_twice(folder: Path) -> Path:
    path = folder / "bomb.rds"
    path.write_bytes(gzip.compress(gzip.compress(b"X\n" + bytes(1 << 26))))
    return path


def packed_lines(name: str, head: bytes, line: bytes, size: int) -> Callable[[Path], Path]:
    """Make one line over and over, packed."""

    def make(folder: Path) -> Path:
        squeeze, many = zlib.compressobj(6, wbits=31), line * max(1, (1 << 20) // len(line))
        with (folder / name).open("wb") as file:
            file.write(squeeze.compress(head))
            for _ in range(size // len(many) + 1):
                file.write(squeeze.compress(many))
            file.write(squeeze.flush())
        return folder / name

    return make


def barcodes(folder: Path) -> Path:
    (folder / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 1 1\n")
    (folder / "genes.tsv").write_text("A1BG\nA1CF\n")
    packed_lines("barcodes.tsv.gz", b"", b"a\n", 60_000_000)(folder)
    return folder


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "bomb.h5ad")
    return folder / "bomb.h5ad"


def loop(folder: Path) -> Path:
    path = folder / "bomb.h5ad"
    path.symlink_to(path)
    return path


CELL_FILES: dict[str, Callable[[Path], Path]] = {
    "links that fork": h5ad(dag),
    "a group in itself": h5ad(cycle),
    "3,000 groups deep": h5ad(deep),
    "an index of 10^9": h5ad(long_index),
    "a CSR of 4 x 10^9": h5ad(long_sparse),
    "a dense X of two rows": h5ad(tall_dense),
    "packed zeros": h5ad(zeros),
    "many packed zeros": h5ad(many_small),
    "one text many times": h5ad(one_text_many_times),
    "sequences of R": rdata_sequences,
    "names of R": rdata_names,
    "an archive in an archive": rdata_twice,
    "a table of one letter a line": packed_lines("bomb.csv.gz", b"gene,c\n", b"a,1\n", 100_000_000),
    "a table of one endless line": packed_lines("bomb.csv.gz", b"gene,c\n", b"1,", 100_000_000),
    "a header of commas": packed_lines("bomb.csv.gz", b"gene", b",a", 40_000_000),
    "barcodes without end": barcodes,
    "a pipe": pipe,
    "a link to itself": loop,
    "a device": lambda folder: Path("/dev/zero"),
}
"""What it is to a function that makes it in a folder."""

NETWORKS: dict[str, Callable[[Path], Path]] = {
    "a packed network": packed_lines("n.tsv.gz", b"gene_a\tgene_b\tscore\n", b"A1BG\tA1CF\t1\n", 200_000_000),
    "a pipe": lambda folder: pipe(folder),
}


TEXTS: dict[str, str] = {
    "lists in lists": "[" * 200_000,
    "objects in objects": '{"a":' * 200_000,
    "a long number": json.dumps({"format": 1}).replace("1", "1" * 5_000),
    "not finite": '{"format": 1e999}',
}
