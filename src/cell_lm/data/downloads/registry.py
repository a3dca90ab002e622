"""Registry of public data sets of cells and of interactions, each with its address and published hash, if any.

All hashes were published by others, with the source given here; none was computed from our own downloads:

- ``pbmc*`` and ``frozen_pbmc_*``: MD5 of the archives of 10x Genomics, as the metadata of the Bioconductor package
  TENxPBMCData give them; for ``pbmc68k`` the SHA-256 that three public analyses of that archive agree on.
- ``baron_pancreas``: SHA-256 of GSE84133_RAW.tar that two independent public analyses of it agree on.

For the others (the sorted populations of Zheng et al. 2017, PanglaoDB, and the networks of STRING) none was found:
the first download records the hash next to the data, and later ones are checked against it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from cell_lm.errors import InputError

_TENX = "https://cf.10xgenomics.com/samples/cell-exp"
_TENX_LICENCE = "10x Genomics, CC BY 4.0"
_STRING_VERSION = "v12.0"
_STRING_LICENCE = "STRING, CC BY 4.0"
_PANGLAO = re.compile(r"panglao:(?P<sra>[SED]RA\d+)(?::(?P<srs>[SED]RS\d+|notused))?", re.IGNORECASE)


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes
    ----------
    url, name : str
        Its address, and its local name.
    hash : str or None
        ``md5:…`` or ``sha256:…`` as published; None if there is none.
    keep : str
        Regular expression for the members of an archive to keep.
    """

    url: str
    name: str
    hash: str | None = None
    keep: str = ""

    @property
    def archive(self) -> bool:
        """Whether it is an archive to unpack."""
        return self.name.endswith((".tar", ".tar.gz", ".tgz"))


@dataclass(frozen=True)
class Dataset:
    """A registered data set.

    Attributes
    ----------
    name, what, licence : str
        Its name, a short description, and its licence.
    files : tuple of RemoteFile
        All its files.
    kind : str
        ``"cells"``, or ``"network"``: interactions of genes, whose files are read together from their folder.
    """

    name: str
    what: str
    licence: str
    files: tuple[RemoteFile, ...]
    kind: Literal["cells", "network"] = "cells"

    @property
    def pinned(self) -> bool:
        """Whether the hash of every file is published."""
        return all(file.hash for file in self.files)


def _tenx(name: str, what: str, known: str | None, version: str = "1.1.0", folder: str = "") -> Dataset:
    folder = folder or name
    file = f"{folder}_filtered_gene_bc_matrices.tar.gz"
    return Dataset(name, what, _TENX_LICENCE, (RemoteFile(f"{_TENX}/{version}/{folder}/{file}", file, known),))


def _string(name: str, what: str, links: str) -> Dataset:
    files = (_string_file(links), _string_file("protein.info"))
    return Dataset(name, what, _STRING_LICENCE, files, "network")


def _string_file(kind: str) -> RemoteFile:
    name = f"9606.{kind}.{_STRING_VERSION}.txt.gz"
    return RemoteFile(f"https://stringdb-downloads.org/download/{kind}.{_STRING_VERSION}/{name}", name)


_SORTED = {
    "b_cells": "CD19+ B cells",
    "cd14_monocytes": "CD14+ monocytes",
    "cd34": "CD34+ cells",
    "cd4_t_helper": "CD4+ helper T cells",
    "regulatory_t": "CD4+/CD25+ regulatory T cells",
    "naive_t": "CD4+/CD45RA+/CD25- naive T cells",
    "memory_t": "CD4+/CD45RO+ memory T cells",
    "cd56_nk": "CD56+ natural killer cells",
    "cytotoxic_t": "CD8+ cytotoxic T cells",
    "naive_cytotoxic": "CD8+/CD45RA+ naive cytotoxic T cells",
}

_ALL = (
    _tenx("pbmc3k", "2,700 PBMC of a healthy donor", "md5:f76d73bf7a582aaf32b798bcae9574d3"),
    _tenx(
        "pbmc68k",
        "fresh PBMC, donor A: 68,579 cells (Zheng68K)",
        "sha256:3f35f37ff344bc9b32f97cd003ac986ebb9b5d7f31006c53dff4cb38da267931",
        folder="fresh_68k_pbmc_donor_a",
    ),
    _tenx("pbmc4k", "PBMC, 10x v2", "md5:f61f4deca423ef0fa82d63fdfa0497f7", "2.1.0"),
    _tenx("pbmc6k", "PBMC, 10x v1", "md5:4c9a44cd9386234b3168016945b5b072"),
    _tenx("pbmc8k", "PBMC, 10x v2", "md5:cbb3a7553ece7eaddeb8a56df781ccb0", "2.1.0"),
    _tenx("pbmc33k", "PBMC, 10x v1", "md5:fef79ae6064f704888df538aba3f1d5c"),
    _tenx("frozen_pbmc_donor_a", "frozen PBMC, donor A", "md5:9d0a60d7d51d45e16e7c04cdb509879f"),
    _tenx("frozen_pbmc_donor_b", "frozen PBMC, donor B", "md5:96bd95909d0409cce922800890805b6b"),
    _tenx("frozen_pbmc_donor_c", "frozen PBMC, donor C", "md5:14654894a9f20704cef5db6301a0d793"),
    *(_tenx(f"zheng_{key}", f"{what}, bead-sorted (Zheng 2017)", None, folder=key) for key, what in _SORTED.items()),
    Dataset(
        "baron_pancreas",
        "pancreas of four donors, inDrop (Baron 2016, GSE84133; the human files)",
        "GEO, GSE84133",
        (
            RemoteFile(
                "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE84nnn/GSE84133/suppl/GSE84133_RAW.tar",
                "GSE84133_RAW.tar",
                "sha256:aed2d208d47a36658aa0e63629afe5d4144ef465a8e3d9a0f377422b1f1073dc",
                keep="_human",
            ),
        ),
    ),
    _string("string", "network of human proteins, STRING v12.0", "protein.links"),
    _string("string_detailed", "the same with a score for each kind of evidence", "protein.links.detailed"),
)

REGISTRY: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
"""The sets by name; PanglaoDB's are found by :func:`find_dataset`, as ``panglao:SRA…:SRS…``."""


def find_dataset(name: str) -> Dataset:
    """Return a data set by its name.

    Parameters
    ----------
    name
        A key of :data:`REGISTRY`; ``zheng_sorted``, the ten sorted populations together; or ``panglao:SRA667466`` with
        ``:SRS3059953`` where the study has several samples.

    Raises
    ------
    InputError
        There is no such data set.
    """
    found = _PANGLAO.fullmatch(name)
    if found:
        return _panglao(found["sra"].upper(), (found["srs"] or "notused"))
    if name == "zheng_sorted":
        files = tuple(file for key in _SORTED for file in REGISTRY[f"zheng_{key}"].files)
        return Dataset(name, "the ten bead-sorted populations of PBMC (Zheng 2017)", _TENX_LICENCE, files)
    if name in REGISTRY:
        return REGISTRY[name]
    close = difflib.get_close_matches(name, [*REGISTRY, "zheng_sorted"], n=2)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"there is no set called '{name}'", fix=f"{hint}cell-lm download --list names all")


def _panglao(sra: str, srs: str) -> Dataset:
    srs = srs if srs.lower() == "notused" else srs.upper()
    url = f"https://panglaodb.se/data_dl.php?sra={sra}&srs={srs}&filetype=R&datatype=readcounts"
    name = f"{sra}.sparse.RData" if srs.lower() == "notused" else f"{sra}_{srs}.sparse.RData"
    files = (RemoteFile(url, name),)
    return Dataset(f"panglao_{name.partition('.')[0]}", f"PanglaoDB, {sra} {srs}", "PanglaoDB", files)
