"""Files that do not hold cells, or have a wrong extension: recognised by kind, with advice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py

from cell_lm.data.formats.hdf5 import holds
from cell_lm.errors import InputError

_WRITE = "Write the cells as h5ad with anndata"
_COUNT = "Count them first, for example with Cell Ranger or STARsolo"
_AGAIN = "Download it again, and look at what the link gives in a browser"


class _Kind(NamedTuple):
    """A kind of file, by the bytes that it begins with or a pattern in its first ones."""

    sign: bytes | re.Pattern[bytes]
    what: str
    fix: str

    def fits(self, head: bytes) -> bool:
        if isinstance(self.sign, bytes):
            return head.startswith(self.sign)
        return self.sign.search(head) is not None


_KINDS = (
    _Kind(
        b"version https://git-lfs.github.com/spec",
        "a pointer of Git LFS, not the file that it stands for",
        "Fetch the file itself: git lfs pull, in the folder of the repository",
    ),
    _Kind(
        re.compile(rb"\A\s*/?(?:\.\./)*\.?git?/?annex/objects/"),
        "a pointer of git-annex, not the file that it stands for",
        "Fetch the file itself: git annex get, in the folder of the repository",
    ),
    _Kind(
        re.compile(rb"\A\s*<(?:!doctype\s+html|html|head|body)", re.IGNORECASE),
        "a web page (HTML), probably of an error or of a login, not the file itself",
        _AGAIN,
    ),
    _Kind(re.compile(rb"\A\s*<\?xml|\A\s*<Error>"), "XML, probably the error of a server, not the file itself", _AGAIN),
    _Kind(
        re.compile(rb"\APK\x03\x04(?s:.)*?(?:xl/|\[Content_Types\]\.xml)"),
        "an Excel workbook",
        "Save its sheet of counts as csv, and mind that Excel turns some genes into dates",
    ),
    _Kind(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "Save its sheet of counts as csv"),
    _Kind(
        re.compile(rb"\APK\x03\x04(?s:.)*?(?:\.zgroup|zarr\.json|\.zattrs)"),
        "a zarr folder in a zip archive",
        "Unpack it (unzip), and name the folder",
    ),
    _Kind(re.compile(rb"\APK\x03\x04(?s:.)*?\.npy"), "an archive of numpy (npz)", _WRITE),
    _Kind(b"PK", "a zip archive", "Unpack it first"),
    _Kind(b"\x93NUMPY", "an array of numpy, without names of cells and genes", _WRITE),
    _Kind(b"PAR1", "a parquet table", "Write it as csv, or as h5ad with anndata"),
    _Kind(b"ARROW1", "an Arrow (feather) table", "Write it as csv, or as h5ad with anndata"),
    _Kind(b"%PDF", "a PDF", "Name the file of cells"),
    _Kind(b"\x89PNG", "an image", "Name the file of cells"),
    _Kind(
        re.compile(rb"\A\x80[\x02-\x05]"),
        "a Python pickle, which could run code when it is read",
        "Load it where you trust it, and write the cells as h5ad with anndata",
    ),
    _Kind(b"BAM\x01", "aligned reads (BAM)", _COUNT),
    _Kind(
        re.compile(rb"\A@[^\n]+\n[ACGTN]+\n\+"),
        "reads (FASTQ)",
        _COUNT,
    ),
    _Kind(re.compile(rb"\A\s*[{\[]\s*[\"{\[]"), "JSON, not cells", "Name the file of cells"),
)


def refuse_foreign_file(head: bytes, name: str) -> None:
    """Refuse a file of another kind, recognised by its first bytes.

    Raises
    ------
    InputError
        It is one; the message names it.
    """
    for kind in _KINDS:
        if kind.fits(head):
            raise InputError(f"it is {kind.what}", where=name, fix=kind.fix)


def refuse_own_folder(path: Path) -> None:
    """Refuse a folder that cell-lm wrote and that holds no file of cells: a model, a run, a classifier, a store.

    Raises
    ------
    InputError
        It is one.
    """
    name = str(path)
    if (path / "manifest.json").is_file() and (path / "shards").is_dir():
        fix = f"Pretrain on it (cell-lm pretrain {name}), or look into it (cell-lm inspect {name})"
        raise InputError("it is a store of cell-lm, not a file of cells", where=name, fix=fix)
    if (path / "shards").is_dir() or (path / "unfinished").is_dir():
        raise InputError("it is an unfinished store", where=name, fix="Run cell-lm prepare again with the same files")
    for inside in (path, path / "model"):
        if (inside / "model.safetensors").is_file() and (inside / "config.json").is_file():
            what = "a model" if inside == path else "the folder of a run or classifier"
            raise InputError(
                f"it is {what} of cell-lm, not cells", where=name, fix="Name it with --model, and the cells"
            )


_MOLECULES = {"barcode_idx", "feature_idx"}
_HDF5: tuple[tuple[Callable[[set[str]], bool], str, str], ...] = (
    (
        lambda keys: {"assays", "cell.names"} <= keys,
        "h5Seurat, which Seurat wrote",
        "Convert it in R: SeuratDisk::Convert('x.h5seurat', dest = 'h5ad')",
    ),
    (
        lambda keys: keys >= _MOLECULES or {"barcode", "umi", "gene"} <= keys,
        "Cell Ranger's molecule_info.h5, the molecules one by one and no matrix",
        "Give filtered_feature_bc_matrix.h5 of the same run",
    ),
    (
        lambda keys: {"model_weights"} <= keys or {"layer_names"} <= keys,
        "a model of Keras",
        "Name the file of cells",
    ),
)


def foreign_hdf5(file: h5py.File, name: str) -> InputError:
    """Return the refusal of an HDF5 file of another program, which is known by its parts or not at all."""
    keys = {key for key in file if holds(file, key, name)}
    for fits, what, fix in _HDF5:
        if fits(keys):
            return InputError(f"it is {what}", where=name, fix=fix)
    listed = ", ".join(sorted(keys)[:5]) or "nothing"
    found = f"it is an HDF5 file of another kind, no h5ad, 10x or loom file (it holds: {listed})"
    return InputError(found, where=name, fix="Write it as .h5ad with anndata")
