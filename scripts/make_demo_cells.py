"""Make ``src/cell_lm/resources/demo_*.h5ad``, the cells that ship in the package, from two published data sets.

    python scripts/make_demo_cells.py --cells DIR

``DIR`` holds ``baron_human.h5ad`` (GSE84133) and ``qian2020_ovarian.h5ad`` (E-MTAB-8107): raw counts, with cell_type,
donor, tissue, disease, malignant and assay in obs, and source, accession and licence in uns. Cells and genes are left
out, as ``uns["cut"]`` says; nothing else is changed. The same input gives the same bytes (with the same HDF5 and zlib).

Cells are drawn at random, at most so many of one type from one donor, so that rare types and small donors stay whole.
Genes are the protein-coding ones that any of them expresses. Counts are stored by gene (CSC), the cells of a type and
donor side by side, as integers: what compresses best of what plain ``anndata.read_h5ad`` reads.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from cell_lm.genes import resolve_genes

OUT = Path(__file__).parent.parent / "src" / "cell_lm" / "resources"
SEED = 20230607
FEWEST = 10
"""Types with fewer cells than this are left out: nothing can be learned about them."""
COLUMNS = ["cell_type", "donor", "tissue", "disease", "malignant", "assay"]


@dataclass(frozen=True)
class Cut:
    """What is taken from one data set."""

    source: str
    out: str
    most: int
    more: dict[str, int]
    citation: str

    def limit(self, cell_type: str) -> int:
        return self.more.get(cell_type, self.most)


CUTS = (
    Cut(
        source="baron_human.h5ad",
        out="demo_pancreas.h5ad",
        most=84,
        more={},
        citation="Baron et al. 2016, A single-cell transcriptomic map of the human and mouse pancreas reveals inter- "
        "and intra-cell population structure, Cell Systems 3(4), 346-360, doi:10.1016/j.cels.2016.08.011",
    ),
    Cut(
        source="qian2020_ovarian.h5ad",
        out="demo_ovarian_cancer.h5ad",
        most=84,
        more={"Epithelial": 190},
        citation="Qian et al. 2020, A pan-cancer blueprint of the heterogeneous tumor microenvironment revealed by "
        "single-cell profiling, Cell Research 30, 745-762, doi:10.1038/s41422-020-0355-0",
    ),
)


def draw(obs: pd.DataFrame, cut: Cut) -> np.ndarray:
    """Return the positions of the cells that are kept: at most ``cut.limit`` of one type from one donor."""
    generator = np.random.default_rng(SEED)
    position = pd.Series(np.arange(len(obs)), index=obs.index)
    kept = []
    for cell_type, cells in position.groupby(obs["cell_type"].astype(str)):
        if len(cells) < FEWEST:
            continue
        for _, own in cells.groupby(obs.loc[cells.index, "donor"].astype(str)):
            kept.append(generator.permutation(own.to_numpy())[: cut.limit(str(cell_type))])
    return np.concatenate(kept)


def malignancy(malignant: pd.Series) -> pd.Categorical:
    """Tumour or normal of the cell itself; see ``cell_lm.data.demo``."""
    named = malignant.astype(str).map({"no": "normal", "putative": "tumour", "yes": "tumour"}).fillna("unknown")
    return pd.Categorical(named, categories=["normal", "tumour", "unknown"])


def cut_out(whole: anndata.AnnData, cut: Cut) -> anndata.AnnData:
    coding = resolve_genes(whole.var_names, where=cut.source).columns >= 0
    kept = draw(whole.obs, cut)
    genes = np.diff(whole.X.indptr)[kept]
    cell_type, donor = (whole.obs[column].astype(str).to_numpy()[kept] for column in ("cell_type", "donor"))
    kept = kept[np.lexsort((-genes, donor, cell_type))]
    counts = whole.X[kept]
    used = coding & (counts.getnnz(axis=0) > 0)
    obs = whole.obs.iloc[kept][COLUMNS].astype(str).astype("category")
    obs["malignancy"] = malignancy(obs["malignant"])
    uns = {key: str(whole.uns[key]) for key in ("source", "accession", "licence")}
    uns |= {
        "citation": cut.citation,
        "x_is": "raw UMI counts, unchanged",
        "cut": told(whole, cut, len(kept), used.sum()),
    }
    return anndata.AnnData(integers(counts[:, used]), obs=obs, var=pd.DataFrame(index=whole.var_names[used]), uns=uns)


def told(whole: anndata.AnnData, cut: Cut, cells: int, genes: int) -> str:
    """Say what was left out."""
    more = "".join(f", {most} of {cell_type}" for cell_type, most in cut.more.items())
    rare = [f"{t} ({n})" for t, n in whole.obs["cell_type"].value_counts().items() if n < FEWEST]
    return (
        f"{cells:,} of {whole.n_obs:,} cells, drawn at random (seed {SEED}), at most {cut.most} of one type from one "
        f"donor{more}; types of fewer than {FEWEST} cells left out: {', '.join(rare) or 'none'}. "
        f"{genes:,} of {whole.n_vars:,} genes: those expressed in these cells whose name is that of one protein-coding "
        "gene (HGNC, 2024-07-23); names as published."
    )


def integers(counts: sparse.csr_matrix) -> sparse.csc_matrix:
    by_gene = sparse.csc_matrix(counts)
    by_gene.sort_indices()
    smallest = np.uint16 if by_gene.data.max() <= np.iinfo(np.uint16).max else np.uint32
    whole = by_gene.astype(smallest)
    if (whole != by_gene).nnz:
        raise ValueError("the counts are not whole numbers")
    return whole


def pack(source: h5py.Group, target: h5py.Group) -> None:
    """Copy a group and compress its arrays: numbers shuffled, strings at fixed length (HDF5 compresses no others)."""
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            pack(item, target.create_group(name))
            continue
        target.create_dataset(name, **packed(item)).attrs.update(item.attrs)


def packed(item: h5py.Dataset) -> dict[str, object]:
    """Return the arguments that create a compressed copy; small ones are copied as they are."""
    if item.size is None or item.size <= 64:
        return {"data": item[()], "dtype": item.dtype}
    text = h5py.check_string_dtype(item.dtype) is not None
    data = item.asstr()[()].astype(bytes) if text else item[()]
    chunk = (len(data),)
    return {"data": data, "chunks": chunk, "compression": "gzip", "compression_opts": 9, "shuffle": not text}


def write(cells: anndata.AnnData, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.h5ad"
        cells.write_h5ad(plain)
        with h5py.File(plain) as source, h5py.File(path, "w") as target:
            pack(source, target)
    again = anndata.read_h5ad(path)
    if (again.X != cells.X).nnz or not again.obs.equals(cells.obs) or not again.var_names.equals(cells.var_names):
        raise ValueError(f"{path} does not read back as it was")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, required=True, help="folder of the two data sets")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    for cut in CUTS:
        cells = cut_out(anndata.read_h5ad(options.cells / cut.source), cut)
        write(cells, options.out / cut.out)
        size = (options.out / cut.out).stat().st_size
        print(f"{cut.out}: {cells.n_obs:,} x {cells.n_vars:,}, {cells.X.nnz:,} counts, {size:,} bytes")
        print(f"  {cells.uns['cut']}")
        print(pd.crosstab(cells.obs["cell_type"], cells.obs["donor"], margins=True).to_string())
        print(cells.obs["malignancy"].value_counts().to_string())


if __name__ == "__main__":
    main()
