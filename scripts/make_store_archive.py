"""Write the tiny store of this release that every later one must read: ``tests/data/archives/vX.Y.Z/store``.

    python scripts/make_store_archive.py

It holds some of the packaged cells over every twelfth gene, to be small. Run once a release, and commit the result.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from cell_lm import Vocabulary, __version__
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.prepare import Columns, PrepareSettings, prepare

ROOT = Path(__file__).parent.parent
EVERY, CELLS = 12, slice(None, None, 60)
COLUMNS = {name: {"column": name} for name in ("tissue", "disease", "donor", "cell_type", "malignancy")}


def vocabulary() -> Vocabulary:
    """Return every twelfth gene."""
    human = Vocabulary.human()
    return Vocabulary(human.symbols[::EVERY], human.ensembl[::EVERY])


def main() -> None:
    """Write it."""
    out = ROOT / "tests" / "data" / "archives" / f"v{__version__}" / "store"
    genes, files = vocabulary(), {"pancreas.h5ad": PANCREAS, "ovarian_cancer.h5ad": OVARIAN_CANCER}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for file, name in files.items():
            cells = demo_cells()[name]
            cells[CELLS, cells.var_names.isin(genes.symbols)].copy().write_h5ad(file)
        settings = PrepareSettings(min_genes=1, min_overlap=1, shard_cells=20)
        made = prepare(list(files), out, settings=settings, columns=Columns.model_validate(COLUMNS), vocabulary=genes)
    print(f"{out}: {made.manifest.cells} cells, {len(made.manifest.shards)} shards")


if __name__ == "__main__":
    main()
