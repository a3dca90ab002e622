"""Make ``src/cell_lm/resources/hgnc.json.gz``, the gene names that ship in the package, from two HGNC tables.

    python scripts/make_gene_names.py --genes DIR

``DIR`` holds ``genes_hgnc.parquet`` (approved genes: symbol, hgnc_id, ensembl_id, locus_type, aliases, previous) and
``genes_hgnc_withdrawn.parquet`` (symbol, target: HGNC ids of the successors), both made from HGNC's monthly archive of
2024-07-23 (https://www.genenames.org/download/archive/, CC0). The same input gives the same bytes.

The file is gzipped JSON: ``genes`` holds, by HGNC's locus type, approved symbols with their Ensembl id ("": none);
under every other kind of name are the names with their approved symbols, joined by "|" (none: withdrawn for good).
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

OUT = Path(__file__).parent.parent / "src" / "cell_lm" / "resources" / "hgnc.json.gz"


def join(symbols: Iterable[str]) -> str:
    return "|".join(sorted(set(symbols)))


def other_names(genes: pd.DataFrame, column: str) -> dict[str, str]:
    """Return name to symbols; plain numbers, which HGNC lists as aliases of three genes, name nothing."""
    pairs = genes[["symbol", column]].explode(column).dropna()
    pairs = pairs[~pairs[column].str.isdigit()]
    return {str(name): join(symbols) for name, symbols in pairs.groupby(column)["symbol"]}


def withdrawn(entries: pd.DataFrame, genes: pd.DataFrame) -> dict[str, str]:
    """Return withdrawn symbol to approved successors; successors that were withdrawn in turn lead nowhere."""
    symbol = dict(zip(genes["hgnc_id"], genes["symbol"], strict=True))
    targets = zip(entries["symbol"], entries["target"], strict=True)
    return {name: join(symbol[target] for target in ids if target in symbol) for name, ids in targets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=Path, required=True, help="folder of the two HGNC tables")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    genes = pd.read_parquet(options.genes / "genes_hgnc.parquet")
    entries = pd.read_parquet(options.genes / "genes_hgnc_withdrawn.parquet")
    content = {
        "genes": {
            str(locus): dict(zip(g["symbol"], g["ensembl_id"], strict=True)) for locus, g in genes.groupby("locus_type")
        },
        "previous symbol": other_names(genes, "previous"),
        "withdrawn symbol": withdrawn(entries, genes),
        "alias": other_names(genes, "aliases"),
    }
    text = json.dumps(content, sort_keys=True, indent=0, ensure_ascii=False)
    options.out.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    print(f"{options.out}: {len(genes):,} genes, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
