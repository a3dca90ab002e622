"""Gene vectors by NetMF, as a file for ``training.gene_vectors`` and ``studies.gene_inputs``.

    python -m studies.netmf_vectors NETWORK... --out netmf.safetensors [--width 512]

``NETWORK`` is ``anat`` (the packaged one), a folder of STRING's files or an edge file; several are joined first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cell_lm.genes.interactions import join_networks, read_network
from cell_lm.genes.netmf import netmf_vectors
from cell_lm.genes.vectors import GeneVectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0, help="of the vector that the decomposition begins with")
    options = parser.parse_args()
    networks = [read_network(each) for each in options.networks]
    network = networks[0] if len(networks) == 1 else join_networks(networks)
    values = netmf_vectors(network, options.width, seed=options.seed)
    about = {"method": "NetMF", "network": network.name, "network hash": network.hash, "seed": options.seed}
    vectors = GeneVectors.from_values(
        values, network.known, network.vocabulary, source=f"NetMF of {network.name}", about=about
    )
    vectors.save(options.out)
    print(f"{int(network.known.sum()):,} genes of {len(network):,} interactions, width {options.width}: {options.out}")


if __name__ == "__main__":
    main()
