"""Peers of :mod:`benchmarks.annotation` that need a package: each runs as a child process in an environment of its own.

The environment is made when its peer is first asked for, from the pinned list in ``parts/environments/NAME.txt``. The
child imports its packages once and runs one case after another (``parts/environments/serve.py``); the cells go to it as
files, its answer comes back as a table (``parts/environments/case_files.py``).
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.parts.annotation_peers import Answer
from benchmarks.parts.annotation_tasks import Case
from cell_lm.data import CellData
from cell_lm.errors import CellLMError
from cell_lm.evaluation.folds import training_folds
from cell_lm.files import write_json

SCRIPTS = Path(__file__).parent / "environments"
ANSWERS: Mapping[str, tuple[str, ...]] = {
    "celltypist": ("celltypist", "celltypist_vote"),
    "xgboost": ("xgboost",),
    "scanvi": ("scanvi",),
}
"""Environment, and the methods that a run in it answers for."""
_LAST = 200


class Environment:
    """A virtual environment with pinned packages.

    Parameters
    ----------
    name
        One of :data:`ANSWERS`.
    folder
        Where environments are kept.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.path, self.log = name, folder / name, folder / f"{name}.log"
        self.pins = SCRIPTS / f"{name}.txt"
        self.error: CellLMError | None = None
        self._worker: subprocess.Popen[str] | None = None

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def ready(self) -> None:
        """Make the environment unless it is there with these pins; a failure is kept, and raised again."""
        if self.error is not None:
            raise self.error
        mark, pinned = self.path / "pinned.sha256", hashlib.sha256(self.pins.read_bytes()).hexdigest()
        if mark.is_file() and mark.read_text() == pinned:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        install = [str(self.python), "-m", "pip", "install", "--requirement", str(self.pins)]
        try:
            with self.log.open("w") as log:
                for command in ([sys.executable, "-m", "venv", str(self.path)], install):
                    subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
        except (OSError, subprocess.CalledProcessError):
            said = last_line(self.log.read_text(errors="replace"))
            self.error = CellLMError(
                f"its packages cannot be installed: {said}", where=self.name, fix=f"See {self.log}"
            )
            raise self.error from None
        mark.write_text(pinned)

    def answer(self, case: Case) -> dict[str, Answer]:
        """Run the peer on a case.

        Raises
        ------
        CellLMError
            The environment cannot be made, or the peer ended with an error; its last line is in the message.
        """
        self.ready()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_case(case, folder)
            self.run(f"run_{self.name}", folder)
            return {method: read_answer(folder, method) for method in ANSWERS[self.name]}

    def run(self, module: str, folder: Path) -> None:
        """Run ``main(folder)`` of a module of the scripts in the environment, which is there.

        Raises
        ------
        CellLMError
            It ended with an error.
        """
        worker = self._started()
        request, answers = worker.stdin, worker.stdout
        assert request is not None
        assert answers is not None
        with suppress(BrokenPipeError):  # it has ended: no answer comes
            request.write(json.dumps([module, str(folder)]) + "\n")
            request.flush()
        answer = answers.readline()
        if answer and (said := json.loads(answer)) is None:
            return
        if not answer:
            self.close()
            said = f"its process ended with exit code {worker.wait()}: {last_line(self._said.read_text())}"
        raise CellLMError(str(said)[:_LAST], where=self.name, fix=f"See {self._said}")

    def close(self) -> None:
        """End the process that runs the peer, if there is one."""
        if self._worker is not None:
            self._worker.communicate()
            self._worker = None

    @property
    def _said(self) -> Path:
        return self.log.with_suffix(".run.log")

    def _started(self) -> subprocess.Popen[str]:
        """Return the process that runs the peer, one for all cases; it ends with this one."""
        if self._worker is None:
            there = {"PYTHONPATH": str(SCRIPTS), "CELLTYPIST_FOLDER": str(self.path / "files")}
            environment = os.environ | there | {"PYTHONWARNINGS": "ignore"}
            command = [str(self.python), str(SCRIPTS / "serve.py")]
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self._said.open("w") as log:
                self._worker = subprocess.Popen(
                    command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
            atexit.register(self.close)
        return self._worker


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:_LAST] if lines else "it said nothing"


def write_case(case: Case, folder: Path) -> None:
    """Write the counts of both sides, and the labels of the reference alone."""
    both = [cells.X[:, case.genes] for cells in (case.reference, case.query)]
    symbols = np.array(case.reference.vocabulary.symbols, object)[case.genes]
    genes = write_counts(sparse.csr_matrix(sparse.vstack(both)), symbols, folder)
    codes = np.unique(case.labels.astype(str), return_inverse=True)[1]
    folds = [[rest.tolist(), out.tolist()] for rest, out in training_folds(codes, case.groups, case.seed)]
    labels = [str(label) for label in case.labels]
    told = {"labels": labels, "genes": genes, "batch": batches(case), "seed": case.seed, "folds": folds}
    write_json(folder / "case.json", told)


def write_counts(counts: sparse.csr_matrix[np.float32], symbols: NDArray[np.object_], folder: Path) -> list[str]:
    """Write the counts of the genes that some cell expresses; return their symbols."""
    expressed = np.asarray(counts.sum(axis=0)).ravel() > 0
    sparse.save_npz(folder / "counts.npz", counts[:, expressed])
    return list(symbols[expressed])


def scvi_latents(cells: CellData, folder: Path) -> NDArray[np.float32]:
    """Return the latents of scVI trained on cells, [cells, 30]; it runs in the environment of scANVI.

    Raises
    ------
    CellLMError
        The environment cannot be made, or scVI ended with an error.
    """
    environment = Environment("scanvi", folder)
    environment.ready()
    with tempfile.TemporaryDirectory() as name:
        there = Path(name)
        genes = write_counts(cells.X, np.array(cells.vocabulary.symbols, object), there)
        donors = cells.obs["donor"].astype(str).tolist() if "donor" in cells.obs else ["one"] * len(cells)
        write_json(there / "case.json", {"labels": [], "genes": genes, "batch": donors, "seed": 0, "folds": []})
        with closing(environment):
            environment.run("train_scvi", there)
        latents: NDArray[np.float32] = np.load(there / "latents.npy")
        return latents


def batches(case: Case) -> list[str]:
    """Return the donor of each cell, with its side where the sides are of two experiments."""
    across = case.task.startswith("blood.")
    names = list[str]()
    for side, cells in (("reference", case.reference), ("query", case.query)):
        donors = cells.obs["donor"].astype(str) if "donor" in cells.obs else [side] * len(cells)
        names += [f"{side} {donor}" if across else str(donor) for donor in donors]
    return names


def read_answer(folder: Path, method: str) -> Answer:
    table = pd.read_csv(folder / f"{method}.csv", keep_default_na=False, dtype={"predicted": str})
    notes = json.loads((folder / "notes.json").read_text())
    classes = np.array(table.columns[1:], object)
    predicted = table["predicted"].to_numpy(object)
    fit_s, predict_s = notes.pop("fit_s"), notes.pop("predict_s")[method]
    chances = table.iloc[:, 1:].to_numpy(np.float64) if len(classes) else None
    if chances is not None:
        chances /= chances.sum(axis=1, keepdims=True)
    return Answer(predicted, chances, classes, fit_s, predict_s, notes)


def environments(folder: Path) -> dict[str, Callable[[Case], Mapping[str, Answer]]]:
    """Return the peers with an environment of their own, by name."""
    return {name: Environment(name, folder).answer for name in ANSWERS}
