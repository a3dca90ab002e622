"""Make ``src/cell_lm/resources/anat.npz``, the network of interactions that ships in the package.

    python scripts/make_interactions.py --edges ppi_all_sources.parquet [--describe]

The table has columns gene_a, gene_b, score, source, one row per interaction and source. Only the rows of ANAT
(``source == "anat_scnet"``) are taken: the human network of ANAT as the package scnet ships it, BSD-3-Clause. The
same input gives the same bytes. ``--describe`` prints what is in the table and makes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cell_lm.files import atomic_file
from cell_lm.genes import GeneAudit, Vocabulary, resolve_genes
from cell_lm.genes.interactions import Network
from cell_lm.genes.interactions.packaged import NAME, SOURCE, pack

OUT = Path(__file__).parent.parent / "src" / "cell_lm" / "resources" / "anat.npz"
ROWS = "anat_scnet"


def read(path: Path) -> tuple[Network, GeneAudit]:
    """Return the network of ANAT's rows among protein-coding genes, and what became of the names."""
    table = pd.read_parquet(path, filters=[("source", "==", ROWS)], columns=["gene_a", "gene_b", "score"])
    audit = resolve_genes(pd.unique(pd.concat([table["gene_a"], table["gene_b"]])), where=path.name)
    index = dict(zip(audit.table["gene"], audit.table["index"], strict=True))
    first, second = (table[column].map(index).to_numpy(np.int64) for column in ("gene_a", "gene_b"))
    kept = (first >= 0) & (second >= 0)
    network = Network.from_pairs(
        first[kept],
        second[kept],
        table["score"].to_numpy(np.float32)[kept],
        vocabulary=Vocabulary.human(),
        name=NAME,
        source=SOURCE,
        notes=(f"{int((~kept).sum()):,} of {len(table):,} edges have a gene that is not protein-coding",),
    )
    return network, audit


def spread(scores: pd.Series) -> str:
    if scores.empty:
        return "no scores"
    return f"scores {scores.min():.3f} to {scores.max():.3f}, {scores.nunique():,} different"


def describe(path: Path) -> None:
    table = pd.read_parquet(path)
    for source, rows in table.groupby("source", observed=True):
        scores = rows["score"].dropna()
        spread = (
            f"scores {scores.min():.3f} to {scores.max():.3f}, {scores.nunique():,} different" if len(scores) else ""
        )
        genes = pd.unique(pd.concat([rows["gene_a"], rows["gene_b"]]))
        print(f"{source}: {len(rows):,} edges of {len(genes):,} names; {spread(scores)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=Path, required=True, help="the table of interactions")
    parser.add_argument("--describe", action="store_true", help="print what is in the table, and make nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.describe:
        describe(options.edges)
    network, audit = read(options.edges)
    print(f"names: {audit.summary()}\n{network.summary()}")
    if not options.describe:
        content = pack(network)
        with atomic_file(options.out) as temporary:
            temporary.write_bytes(content)
        print(f"{len(content):,} bytes in {options.out.name}, network {network.hash[:16]}")


if __name__ == "__main__":
    main()
