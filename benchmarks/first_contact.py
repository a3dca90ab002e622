"""First contact: how much a user types, and waits for, until the first label, map and report.

    python -m benchmarks.first_contact [--environments DIR] [--rounds 3]
    python -m benchmarks.first_contact --quick

A user has a file of raw counts (458 packaged pancreas cells of one donor, without labels) in an empty folder. Counted
are the lines that he types, and the seconds of the whole process, until the labels are in a file:

    cell_lm         cell-lm annotate predict my.h5ad --model pancreas
    celltypist      read, normalize_total, log1p, annotate, write (:data:`CELLTYPIST`), in an environment of its own

CellTypist's models cannot be downloaded here: one is trained beforehand, by its own command, on the packaged pancreas
cells, and lies where a downloaded one would; this is not counted. Both models have seen the donor, so agreement with
the published types shows only that both work. Both processes start with an empty cache of compiled code
(``NUMBA_CACHE_DIR``), as after an installation, and are run in turn; ``again_*`` is with the cache of the run before.

The last line is JSON: ``lines``, ``seconds`` (wall, median), ``ratio_celltypist`` (ours by theirs, wall),
``ratio_celltypist_cpu``, ``again_seconds``, ``again_ratio_celltypist``, ``again_ratio_celltypist_cpu``;
``import_ratio_scanpy`` (CPU seconds of ``import cell_lm`` by those of ``import scanpy``), ``help_seconds`` (``cell-lm
--help``), ``first_plot_s`` (a process that reads 300 embedded cells and saves ``pl.embedding``) and ``first_report_s``
(``cell-lm report`` of a run with these cells). Wall seconds are those of a shared machine; the table has both.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.options import data_if_given, parser, run
from benchmarks.parts.annotation_environments import SCRIPTS, Environment, last_line
from cell_lm.errors import CellLMError

OURS = ("cell-lm annotate predict my.h5ad --model pancreas --out labelled.h5ad",)
CELLTYPIST = (
    "import celltypist, scanpy as sc",
    'adata = sc.read_h5ad("my.h5ad")',
    "sc.pp.normalize_total(adata, target_sum=1e4)",
    "sc.pp.log1p(adata)",
    'labelled = celltypist.annotate(adata, model="pancreas.pkl").to_adata()',
    'labelled.write_h5ad("labelled.h5ad")',
)
COLUMNS = {"cell_lm": "cell_lm_label", "celltypist": "predicted_labels"}
DONOR, CELLS = "human3", 300
PLOT = (
    "import anndata, cell_lm",
    'cell_lm.pl.embedding(anndata.read_h5ad("embedded.h5ad"), color="cell_type", save="map.png")',
)
IMPORT = "import time; start = time.process_time(); import {}; print(time.process_time() - start)"


class Cost(NamedTuple):
    """Seconds of a process."""

    wall: float
    cpu: float


def main() -> None:
    options = parser(__doc__, quick="one round without CellTypist", reads_data=False)
    options.add_argument("--environments", type=Path, default=Path("runs/environments"), help="folder of environments")
    options.add_argument("--rounds", type=int, default=3, help="runs of each, in turn; the median counts")
    given = options.parse_args()
    data_if_given(given.data)
    rounds = 1 if given.quick else given.rounds
    peer = None if given.quick else Environment("celltypist", given.environments.resolve())
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(Path(name), peer, rounds)))


def measure(folder: Path, peer: Environment | None, rounds: int) -> dict[str, float | None]:
    """Return all figures; tables of the single runs are printed."""
    write_cells(folder)
    if peer is not None:
        peer.ready()
        call([str(peer.python), str(SCRIPTS / "train_celltypist.py")], folder, celltypist_folder(folder))
    first, again = first_labels(folder, peer, rounds)
    found: dict[str, float | None] = {"lines": len(OURS), "lines_celltypist": len(CELLTYPIST)}
    for prefix, costs in (("", first), ("again_", again)):
        found[f"{prefix}seconds"] = round(median(cost.wall for cost in costs["cell_lm"]), 2)
        found[f"{prefix}ratio_celltypist"] = ratio(costs, "wall")
        found[f"{prefix}ratio_celltypist_cpu"] = ratio(costs, "cpu")
    found["import_ratio_scanpy"] = import_ratio(rounds)
    found["help_seconds"] = show("help", [ours("--help", folder) for _ in range(rounds)])
    prepare_run(folder)
    python = [sys.executable, "-c", "\n".join(PLOT)]
    found["first_plot_s"] = show("plot", [call(python, folder) for _ in range(rounds)])
    report = "report run --cells embedded.h5ad --label cell_type --force"
    found["first_report_s"] = show("report", [ours(report, folder) for _ in range(rounds)])
    return found


def write_cells(folder: Path) -> None:
    """Write the file of the user, the reference of CellTypist, and the cells to plot."""
    from cell_lm.data.demo import PANCREAS, demo_cells

    cells = demo_cells()[PANCREAS]
    cells.obs = cells.obs[["cell_type"]].assign(donor=cells.obs["donor"])
    cells.write_h5ad(folder / "reference.h5ad")
    cells[:CELLS].write_h5ad(folder / "few.h5ad")
    mine = cells[cells.obs["donor"] == DONOR].copy()
    mine.obs = mine.obs[[]]
    mine.write_h5ad(folder / "my.h5ad")


def first_labels(
    folder: Path, peer: Environment | None, rounds: int
) -> tuple[dict[str, list[Cost]], dict[str, list[Cost]]]:
    """Return the costs of first runs and of second runs, by method; methods take turns."""
    commands = {"cell_lm": command(OURS[0])}
    if peer is not None:
        commands["celltypist"] = [str(peer.python), "-c", "\n".join(CELLTYPIST)]
    first: dict[str, list[Cost]] = {name: [] for name in commands}
    again: dict[str, list[Cost]] = {name: [] for name in commands}
    for turn in range(rounds):
        for name, typed in commands.items():
            there = {"NUMBA_CACHE_DIR": str(folder / f"compiled-{name}-{turn}")} | celltypist_folder(folder)
            for costs in (first, again):
                (folder / "labelled.h5ad").unlink(missing_ok=True)
                costs[name].append(call(typed, folder, there))
            print(f"{name}: {agreement(folder, COLUMNS[name]):.1%} of the labels are the published ones", flush=True)
    for label, costs in (("first", first), ("again", again)):
        for name, each in costs.items():
            show(f"{label}, {name}", each)
    return first, again


def agreement(folder: Path, column: str) -> float:
    import anndata

    told = anndata.read_h5ad(folder / "labelled.h5ad").obs[column].astype(str)
    published = anndata.read_h5ad(folder / "reference.h5ad").obs["cell_type"].astype(str)
    return float((told == published.loc[told.index]).mean())


def celltypist_folder(folder: Path) -> dict[str, str]:
    return {"CELLTYPIST_FOLDER": str(folder / "celltypist")}


def import_ratio(rounds: int) -> float:
    """Return the CPU seconds of importing this package by those of importing scanpy."""
    costs: dict[str, list[float]] = {"cell_lm": [], "scanpy": []}
    for _ in range(rounds):
        for name, each in costs.items():
            typed = [sys.executable, "-W", "ignore", "-c", IMPORT.format(name)]
            each.append(float(subprocess.run(typed, check=True, capture_output=True, text=True).stdout))
    print(f"import: {', '.join(f'{name} {median(each):.3f} CPU s' for name, each in costs.items())}", flush=True)
    return round(median(costs["cell_lm"]) / median(costs["scanpy"]), 4)


def prepare_run(folder: Path) -> None:
    """Make what a user has before the first map and report: embedded cells and a short run."""
    ours("embed few.h5ad --out embedded.h5ad", folder)
    ours("pretrain few.h5ad --out run --preset tiny --steps 2 --batch-size 16 --no-report", folder)


def command(typed: str) -> list[str]:
    """Return the command that ``cell-lm`` starts."""
    return [sys.executable, "-m", "cell_lm", *typed.removeprefix("cell-lm ").split()]


def ours(typed: str, folder: Path) -> Cost:
    return call(command(typed), folder)


def call(typed: Sequence[str], folder: Path, there: Mapping[str, str] | None = None) -> Cost:
    """Run a process to its end, and return its seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(typed, cwd=folder, env=os.environ | dict(there or {}), capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise CellLMError(f"it ended with exit code {done.returncode}: {last_line(done.stderr)}", where=typed[-1])
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def show(name: str, costs: Sequence[Cost]) -> float:
    """Print the median seconds and those of each run, and return the median of the wall seconds."""
    wall, cpu = (median(values) for values in zip(*costs, strict=True))
    single = ", ".join(f"{cost.wall:.1f} ({cost.cpu:.1f})" for cost in costs)
    print(f"{name}: {wall:.2f} s, {cpu:.2f} CPU s; runs {single}", flush=True)
    return round(wall, 2)


def ratio(costs: Mapping[str, Sequence[Cost]], kind: str) -> float | None:
    """Return our median seconds by those of CellTypist."""
    if "celltypist" not in costs:
        return None
    mine, theirs = (median(getattr(cost, kind) for cost in costs[name]) for name in ("cell_lm", "celltypist"))
    return round(mine / theirs, 3)


if __name__ == "__main__":
    run(main)
