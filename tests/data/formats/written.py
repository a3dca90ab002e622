"""Real cells, written in every format that the field has."""

from __future__ import annotations

import bz2
import gzip
import lzma
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from r_bytes import rdata, rds
from scipy import sparse

from cell_lm.genes import Vocabulary, resolve_genes

Written = Callable[[AnnData, Path], Path]


def frame(cells: AnnData) -> pd.DataFrame:
    """Whole numbers, cells x genes."""
    return pd.DataFrame(cells.X.toarray().astype(int), index=cells.obs_names, columns=cells.var_names)


def csr(cells: AnnData, folder: Path) -> Path:
    cells.write_h5ad(folder / "csr.h5ad")
    return folder / "csr.h5ad"


def csc(cells: AnnData, folder: Path) -> Path:
    AnnData(cells.X.tocsc(), cells.obs, cells.var).write_h5ad(folder / "csc.h5ad", compression="gzip")
    return folder / "csc.h5ad"


def dense(cells: AnnData, folder: Path) -> Path:
    AnnData(cells.X.toarray(), cells.obs, cells.var).write_h5ad(folder / "dense.h5ad")
    return folder / "dense.h5ad"


def dense_by_gene(cells: AnnData, folder: Path) -> Path:
    """Dense, in chunks that hold all cells of few genes: no way to read a few cells."""
    path = csr(cells, folder)
    with h5py.File(path, "a") as file:
        del file["X"]
        file.create_dataset("X", data=cells.X.toarray(), chunks=(cells.n_obs, 16), compression="gzip")
    return path


def ids(names: Sequence[str]) -> list[str]:
    """The Ensembl ids of genes; one that no gene has for those without."""
    vocabulary = Vocabulary.human()
    known = dict(zip(vocabulary.symbols, vocabulary.ensembl, strict=True))
    today = resolve_genes(names, vocabulary, min_overlap=0).table["symbol"]
    return [known.get(name) or f"ENSG{99_000_000_000 + place}" for place, name in enumerate(today)]


def as_bytes(values: object) -> np.ndarray:
    return np.array(list(values), dtype="S")


def put_matrix(group: h5py.Group, cells: AnnData) -> None:
    """What 10x calls features x barcodes by column."""
    counts = cells.X.astype(np.int32)
    group["data"], group["indices"], group["indptr"] = counts.data, counts.indices.astype(np.int64), counts.indptr
    group["shape"] = np.array([cells.n_vars, cells.n_obs], np.int32)
    group["barcodes"] = as_bytes(cells.obs_names)


def tenx_v2(cells: AnnData, folder: Path) -> Path:
    with h5py.File(folder / "v2.h5", "w") as file:
        group = file.create_group("GRCh38")
        put_matrix(group, cells)
        group["genes"], group["gene_names"] = as_bytes(ids(cells.var_names)), as_bytes(cells.var_names)
    return folder / "v2.h5"


def tenx_v3(cells: AnnData, folder: Path) -> Path:
    """With two proteins among the genes, which must not become genes."""
    proteins = sparse.csr_matrix(np.full((cells.n_obs, 2), 7, np.float32))
    both = sparse.hstack([cells.X[:, :9], proteins, cells.X[:, 9:]], format="csr")
    names = [*cells.var_names[:9], "CD3", "CD4", *cells.var_names[9:]]
    types = np.full(len(names), "Gene Expression", object)
    types[9:11] = "Antibody Capture"
    whole = AnnData(both, obs=cells.obs, var=pd.DataFrame(index=[f"f{place}" for place in range(len(names))]))
    with h5py.File(folder / "v3.h5", "w") as file:
        group = file.create_group("matrix")
        put_matrix(group, whole)
        features = group.create_group("features")
        features["id"], features["name"] = as_bytes(ids(names)), as_bytes(names)
        features["feature_type"], features["genome"] = as_bytes(types), as_bytes(["GRCh38"] * len(names))
    return folder / "v3.h5"


def mtx_text(counts: sparse.csr_matrix, *, kind: str = "integer", seed: int | None = None) -> bytes:
    """Genes x cells as text, by cell as 10x writes it, or shuffled."""
    entries = sparse.coo_matrix(counts)
    order = np.arange(entries.nnz) if seed is None else np.random.default_rng(seed).permutation(entries.nnz)
    number = "{} {} {:g}" if kind == "real" else "{} {} {:.0f}"
    lines = [number.format(entries.col[k] + 1, entries.row[k] + 1, entries.data[k]) for k in order]
    head = f"%%MatrixMarket matrix coordinate {kind} general\n%made for a test\n"
    size = f"{counts.shape[1]} {counts.shape[0]} {entries.nnz}\n"
    return (head + size + "\n".join(lines) + "\n").encode()


def lines_of(*columns: object) -> bytes:
    return ("\n".join("\t".join(row) for row in zip(*columns, strict=True)) + "\n").encode()


def mtx_v2(cells: AnnData, folder: Path) -> Path:
    (folder / "matrix.mtx").write_bytes(mtx_text(cells.X))
    (folder / "genes.tsv").write_bytes(lines_of(ids(cells.var_names), cells.var_names))
    (folder / "barcodes.tsv").write_bytes(lines_of(cells.obs_names))
    return folder


def mtx_v3(cells: AnnData, folder: Path) -> Path:
    types = ["Gene Expression"] * cells.n_vars
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(mtx_text(cells.X, kind="real", seed=1)))
    (folder / "features.tsv.gz").write_bytes(gzip.compress(lines_of(ids(cells.var_names), cells.var_names, types)))
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(lines_of(cells.obs_names)))
    return folder


def mtx_geo(cells: AnnData, folder: Path) -> Path:
    """With prefixes, and those of another sample beside it; the matrix itself is named."""
    for name, some in (("GSM1_a", cells), ("GSM2_b", cells[:9])):
        (folder / f"{name}_matrix.mtx.gz").write_bytes(gzip.compress(mtx_text(some.X)))
        (folder / f"{name}_genes.tsv.gz").write_bytes(gzip.compress(lines_of(cells.var_names)))
        (folder / f"{name}_barcodes.tsv.gz").write_bytes(gzip.compress(lines_of(some.obs_names)))
    return folder / "GSM1_a_matrix.mtx.gz"


def mtx_transposed(cells: AnnData, folder: Path) -> Path:
    mtx_v2(cells, folder)
    (folder / "matrix.mtx").write_bytes(mtx_text(sparse.csr_matrix(cells.X.T)))
    return folder


def loom(cells: AnnData, folder: Path) -> Path:
    with h5py.File(folder / "my.loom", "w") as file:
        file.create_dataset("matrix", data=cells.X.toarray().T, chunks=(64, 16), compression="gzip")
        file["row_attrs/Gene"], file["col_attrs/CellID"] = as_bytes(cells.var_names), as_bytes(cells.obs_names)
        file["row_attrs/Accession"], file["col_attrs/depth"] = as_bytes(ids(cells.var_names)), cells.X.sum(1).A1
        file["layers/spliced"] = 2 * cells.X.toarray().T
        file["col_attrs/umap"] = np.zeros((cells.n_obs, 2))
    return folder / "my.loom"


def csv_cells(cells: AnnData, folder: Path) -> Path:
    frame(cells).to_csv(folder / "cells.csv")
    return folder / "cells.csv"


def tsv_genes(cells: AnnData, folder: Path) -> Path:
    frame(cells).T.to_csv(folder / "genes.tsv.gz", sep="\t")
    return folder / "genes.tsv.gz"


def table_of_r(cells: AnnData, folder: Path) -> Path:
    """As ``write.table(counts)`` writes it: blanks, quotes, a header with one name fewer than there are columns."""
    header = " ".join(f'"{name}"' for name in cells.obs_names)
    rows = [f'"{gene}" ' + " ".join(map(str, values)) for gene, values in frame(cells).T.iterrows()]
    (folder / "counts.txt").write_text("\n".join([header, *rows]) + "\r\n")
    return folder / "counts.txt"


def table_of_floats(cells: AnnData, folder: Path) -> Path:
    frame(cells).astype(float).T.to_csv(folder / "floats.csv.bz2", sep=";")
    return folder / "floats.csv.bz2"


def csv_with_text(cells: AnnData, folder: Path) -> Path:
    """As Baron's: barcode and cell type stand between the name and the genes; and a column of text at the end."""
    table = frame(cells)
    table.insert(0, "barcode", [f"ACGT{place}" for place in range(cells.n_obs)])
    table.insert(1, "assigned_cluster", cells.obs["cell_type"].astype(str).to_numpy())
    table["donor, or so"] = cells.obs["donor"].astype(str).to_numpy()
    table.to_csv(folder / "baron.csv.gz")
    return folder / "baron.csv.gz"


def panglao(cells: AnnData) -> object:
    """Genes x cells, the genes named as PanglaoDB does."""
    genes = [f"{name}_{number}.4" for name, number in zip(cells.var_names, ids(cells.var_names), strict=True)]
    return lambda writer, *_: writer.matrix(sparse.csc_matrix(cells.X.T), genes, list(cells.obs_names))


def rdata_v2(cells: AnnData, folder: Path) -> Path:
    (folder / "SRA1_SRS1.sparse.RData").write_bytes(gzip.compress(rdata(2, panglao(cells))))
    return folder / "SRA1_SRS1.sparse.RData"


def rdata_v3(cells: AnnData, folder: Path) -> Path:
    (folder / "v3.rda").write_bytes(lzma.compress(rdata(3, panglao(cells)), preset=0))
    return folder / "v3.rda"


def rds_v3(cells: AnnData, folder: Path) -> Path:
    (folder / "v3.rds").write_bytes(bz2.compress(rds(3, panglao(cells))))
    return folder / "v3.rds"


def h5mu(cells: AnnData, folder: Path) -> Path:
    """As MuData writes it: the expression of genes, and proteins beside it."""
    cells.write_h5ad(folder / "rna.h5ad")
    proteins = AnnData(np.ones((cells.n_obs, 2), np.float32), obs=cells.obs[[]], var=pd.DataFrame(index=["CD3", "CD4"]))
    proteins.write_h5ad(folder / "prot.h5ad")
    with h5py.File(folder / "my.h5mu", "w") as file:
        for name in ("rna", "prot"):
            with h5py.File(folder / f"{name}.h5ad") as part:
                file.require_group("mod")
                part.copy(part["/"], file["mod"], name=name)
        with h5py.File(folder / "prot.h5ad") as part:
            part.copy("obs", file)
            part.copy("var", file)
    return folder / "my.h5mu"


def zarr_folder(cells: AnnData, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the version of zarr that is to be the next default
        cells.write_zarr(folder / "my.zarr")
    return folder / "my.zarr"


def parse(cells: AnnData, folder: Path) -> Path:
    """As split-pipe of Parse Biosciences writes it: cells x genes, and lists with headers."""
    (folder / "DGE.mtx").write_bytes(mtx_text(sparse.csr_matrix(cells.X.T), kind="real"))
    genes = pd.DataFrame({"gene_id": ids(cells.var_names), "gene_name": list(cells.var_names), "genome": "hg38"})
    genes.to_csv(folder / "all_genes.csv", index=False)
    about = pd.DataFrame({"bc_wells": list(cells.obs_names), "sample": "a", "gene_count": 9})
    about.to_csv(folder / "cell_metadata.csv", index=False)
    return folder


WRITERS: tuple[Written, ...] = (
    csr, csc, dense, dense_by_gene, tenx_v2, tenx_v3, mtx_v2, mtx_v3, mtx_geo, mtx_transposed, loom, csv_cells,
    tsv_genes, table_of_r, table_of_floats, csv_with_text, rdata_v2, rdata_v3, rds_v3, h5mu, zarr_folder, parse,
)  # fmt: skip
