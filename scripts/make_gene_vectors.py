"""Make ``src/cell_lm/resources/gene_vectors.safetensors``, the gene vectors that ship in the package.

    python scripts/make_gene_vectors.py --string ppi_string12_union.parquet --run genes [--resume]

The table holds STRING v12.0's human interactions (columns gene_a, gene_b, score, 0 to 1): those of a combined score of
at least 0.8, or 0.7 without text mining; with STRING's own files, which ``cell-lm download string_detailed`` fetches,
give that folder instead (all channels, at least 0.8). The second network is the packaged one of ANAT. Settings are the
defaults of ``cell-lm genes pretrain``. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import GraphMAEConfig
from cell_lm.genes.interactions import Network, packaged_network, read_edges, read_string
from cell_lm.pretraining.gene_run import pretrain_genes

OUT = Path(__file__).parent.parent / "src" / "cell_lm" / "resources" / "gene_vectors.safetensors"
SOURCE = "STRING v12.0 (Szklarczyk et al. 2023, Nucleic Acids Research 51, D638), CC BY 4.0"


def read(path: Path) -> Network:
    network = read_string(path, min_score=0.8) if path.is_dir() else read_edges(path, score="score")
    return replace(network, name="string-v12.0", source=SOURCE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the packaged gene vectors.")
    parser.add_argument("--string", type=Path, required=True, help="table of STRING's interactions, or its own files")
    parser.add_argument("--run", type=Path, required=True, help="folder for the run")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    options = parser.parse_args()
    keep_large_blocks()
    networks = [read(options.string), packaged_network()]
    result = pretrain_genes(networks, GraphMAEConfig(), options.run, resume=options.resume)
    if result.vectors is not None:
        shutil.copyfile(result.path, OUT)
        print(f"{OUT.name}: {len(result.vectors):,} genes, width {result.vectors.width}, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
