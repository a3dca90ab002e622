"""The explorer's page: time to make it, its size, time to the first picture and frames per second in Chromium.

    python -m benchmarks.explorer [--cells 100000,1000000] [--quick]

The cells are drawn from the packaged ones, with repeats: all their columns, counts of 500 genes (50 of them in the
page) and made coordinates, an island for each cell type. Each number of cells is written by
:func:`cell_lm.pl.explorer` as it comes (at most 100,000 cells are drawn), and the largest also whole. Chromium draws by
software (SwiftShader) on the CPU, and shares it with everything else that runs: the frames are a lower bound for a
graphics card. ``frames_per_second`` is of panning, ``colour_s`` the time to colour by a gene, ``test_s`` that of the
tests of all genes for half of the cells. ``--quick``: 5,000 cells. Ends with one line of JSON.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import anndata
import numpy as np
from numpy.typing import NDArray

from benchmarks.options import data_if_given, need_packages, parser, run
from cell_lm.errors import ConfigError

GENES = 500
FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PAN = """async () => {
    let frames = 0;
    const began = performance.now();
    while (performance.now() - began < 3000) {
        await map.plot.zoomToLocation([0.3 * Math.sin(frames / 8), 0], 1);
        frames += 1;
    }
    return (1000 * frames) / (performance.now() - began);
}"""
COLOUR = """async () => {
    const began = performance.now();
    await show(genes[0]);
    return performance.now() - began;
}"""
TEST = """async () => {
    const inside = new Uint8Array(page.cells).fill(1, 0, page.cells >> 1);
    await Promise.all(genes.map((gene) => gene.levels()));
    const began = performance.now();
    await compareGenes(inside, page.cells >> 1);
    return performance.now() - began;
}"""


def made_cells(number: int) -> anndata.AnnData:
    """Return packaged cells, repeated, on a made map."""
    from cell_lm.data.demo import demo_cells

    packaged = anndata.concat(demo_cells(harmonise=True), join="inner", label="dataset", index_unique="-")
    expressed = np.asarray((packaged.X > 0).sum(axis=0)).ravel()
    packaged = packaged[:, np.sort(np.argsort(-expressed)[:GENES])]
    rows = np.random.default_rng(2).integers(0, packaged.n_obs, number)  # in no order that compression could use
    names = [f"{packaged.obs_names[row]}-{i}" for i, row in enumerate(rows)]
    obs = packaged.obs.iloc[rows].set_axis(names).assign(cell_type=lambda table: table["cell_type"].astype("category"))
    obs["cell_lm_confidence"] = np.random.default_rng(1).beta(6, 2, number)
    cells = anndata.AnnData(packaged.X[rows], obs, packaged.var)
    cells.obsm["X_umap"] = islands(obs["cell_type"].cat.codes.to_numpy())
    return cells


def islands(types: NDArray[np.integer]) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.uniform(-10, 10, (int(types.max()) + 1, 2))
    return (centres[types] + rng.normal(size=(len(types), 2))).astype(np.float32)


def write(cells: anndata.AnnData, path: Path, max_cells: int) -> dict[str, float]:
    from cell_lm import pl

    began = time.perf_counter()
    pl.explorer(cells, save=path, max_cells=max_cells, color="cell_type")
    return {"make_s": time.perf_counter() - began, "megabytes": path.stat().st_size / 1e6}


def look(path: Path, chromium: str) -> dict[str, float]:
    """Open the page and measure it; times are in seconds."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(path.as_uri(), timeout=300_000)
        page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=300_000)
        first = float(page.evaluate("document.documentElement.dataset.firstDraw"))
        times = {name: page.evaluate(code) for name, code in (("pan", PAN), ("colour", COLOUR), ("test", TEST))}
        browser.close()
    return {
        "first_draw_s": first / 1000,
        "frames_per_second": times["pan"],
        "colour_s": times["colour"] / 1000,
        "test_s": times["test"] / 1000,
    }


def main() -> None:
    options = parser(__doc__, quick="5,000 cells", reads_data=False)
    options.add_argument("--cells", default="100000,1000000", help="numbers of cells, with commas")
    given = options.parse_args()
    data_if_given(given.data)
    need_packages({"playwright": "playwright"})
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise ConfigError("there is no Chromium on this machine", fix="Install it: apt install chromium")
    numbers = [5_000] if given.quick else [int(number) for number in given.cells.split(",")]
    cases = [(number, min(number, 100_000)) for number in numbers]
    if numbers[-1] > 100_000:
        cases.append((numbers[-1], numbers[-1]))
    found: dict[str, Any] = {}
    print("cells        drawn    make s     MB  first draw s  frames/s  colour s  test s  (software rendering)")
    with tempfile.TemporaryDirectory() as folder:
        cells = None
        for number, drawn in cases:
            cells = cells if cells is not None and cells.n_obs == number else made_cells(number)
            page = Path(folder) / "page.html"
            row = write(cells, page, drawn) | look(page, chromium)
            found[f"{drawn:_} of {number:_}"] = {name: round(value, 3) for name, value in row.items()}
            make, size, first, frames, colour, test = row.values()
            print(
                f"{number:>9,} {drawn:>9,} {make:>9.1f} {size:>6.1f} {first:>13.2f} {frames:>9.1f} {colour:>9.2f}"
                f" {test:>7.3f}",
                flush=True,
            )
    print(json.dumps(found))


if __name__ == "__main__":
    run(main)
