"""A disk that is full while a result is written: one line, the old file intact, nothing left.

The kernel refuses to let any file grow past a limit, as a quota does. All cases run in one process of their own: what
broke on a full disk before took the process with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WRITERS = (
    "h5ad",
    "packed h5ad",
    "model",
    "gene vectors",
    "csv",
    "json",
    "report",
    "figure",
    "vocabulary",
    "checkpoint",
    "store",
    "log",
)
LIMITS = (0, 1_000, 20_000)

CODE = """
import json, resource, shutil, sys
from contextlib import suppress
from pathlib import Path
import numpy as np, pandas as pd, torch
from anndata import AnnData
from scipy import sparse
from matplotlib.figure import Figure
from cell_lm import files
from cell_lm.config import EncoderConfig
from cell_lm.data.h5ad_writer import write_h5ad
from cell_lm.data.store import ShardWriter
from cell_lm.engine.checkpoint import Checkpoint, Checkpoints
from cell_lm.engine.log import RunLog
from cell_lm.errors import CellLMError
from cell_lm.genes import GeneVectors, Vocabulary
from cell_lm.model import CellLM
from cell_lm.pl.canvas import finish
from cell_lm.prepare.disk import writing

sys.path.insert(0, sys.argv[2])
from small_store import describe

rng = np.random.default_rng(0)
cells = AnnData(sparse.csr_matrix(rng.poisson(1.0, (300, 400)).astype(np.float32)))
cells.obs["text"] = [f"cell {i % 7}" for i in range(300)]
words = Vocabulary(tuple(f"GENE{i}" for i in range(3_000)), ("",) * 3_000)
vectors = GeneVectors.from_values(
    rng.normal(size=(3_000, 16)).astype(np.float32), np.ones(3_000, bool), words, source="test", about={}
)
small = {"width": 32, "layers": 1, "heads": 2, "head_width": 16, "feedforward": 64, "gene_width": 32}
model = CellLM(EncoderConfig(**small), words)
table = pd.DataFrame({"gene": [f"gene {i}" for i in range(9_000)]})
tensors = {"x": torch.ones(20_000)}


def picture(path):
    figure = Figure()
    axes = figure.add_subplot()
    axes.scatter(*rng.normal(size=(2, 3_000)))
    finish(axes, shown=False, save=path)


def log(path):
    path.mkdir(exist_ok=True)
    with RunLog(path) as run:
        for step in range(2_000):
            run.note(step, "a message " * 5)


def store(path):
    with writing(path), files.atomic_directory(path) as fresh, ShardWriter(fresh, "uint8") as writer:
        writer.add(np.arange(30_000) % 300, np.ones(30_000), np.full(100, 300), np.zeros((100, 2), np.uint64))
        writer.finish(describe(100))


def page(path):
    with files.atomic_file(path) as temporary:
        temporary.write_text("<p>" * 20_000)


WRITERS = {
    "h5ad": lambda path: write_h5ad(cells, path),
    "packed h5ad": lambda path: write_h5ad(cells, path, compression="gzip"),
    "model": model.save_pretrained,
    "gene vectors": vectors.save,
    "csv": lambda path: files.write_csv(table, path),
    "json": lambda path: files.write_json(path, ["x"] * 9_000),
    "report": page,
    "figure": lambda path: picture(path.with_suffix(".png")),
    "vocabulary": words.save,
    "checkpoint": lambda path: Checkpoints(path, 2).save(1, Checkpoint(tensors, tensors, {})),
    "store": store,
    "log": log,
}


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def attempt(name, limit, folder):
    path, before = folder / "out", content(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        WRITERS[name](path)
        said = None
    except CellLMError as error:
        said = str(error)
    except BaseException as error:
        said = f"FAULT {type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after = content(folder)
    if name == "log":  # it grows line by line, and what was written stays
        after = {key: value for key, value in after.items() if not key.startswith("out/")}
        before = {key: value for key, value in before.items() if not key.startswith("out/")}
    changed = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return {"name": name, "limit": limit, "said": said, "changed": changed}


results = []
for name in WRITERS:
    for limit in json.loads(sys.argv[3]):
        for there in (False, True):
            folder = Path(sys.argv[1]) / f"{name} {limit} {there}"
            folder.mkdir()
            if there:
                WRITERS[name](folder / "out")
            results.append(attempt(name, limit, folder) | {"there": there})
            WRITERS[name](folder / "out")  # room was made
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    helpers = Path(__file__).parent.parent / "data" / "store"
    words = [str(tmp_path_factory.mktemp("full")), str(helpers), json.dumps(LIMITS)]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, timeout=300, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    results: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return results


def test_every_writer_was_tried_at_every_limit(attempts: list[dict[str, object]]) -> None:
    assert len(attempts) == 2 * len(WRITERS) * len(LIMITS)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_that_names_file_and_remedy(attempts: list[dict[str, object]], name: str) -> None:
    for attempt in (attempt for attempt in attempts if attempt["name"] == name):
        said = str(attempt["said"])
        assert "could not be written (File too large)" in said, attempt
        assert "out" in said
        assert "Make room" in said
        assert "\n" not in said


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(attempts: list[dict[str, object]], name: str) -> None:
    for attempt in (attempt for attempt in attempts if attempt["name"] == name):
        assert attempt["changed"] == [], attempt
