"""What pretraining adds to the start of the packaged model: objectives, temperatures and batch sizes at equal cells.

    python -m benchmarks.pretraining --data DIR --out DIR [--arms ...] [--views 61440] [--sets ...] [--seeds 10]
    python -m benchmarks.pretraining --quick

Every arm goes on from the packaged model, whose CLS is the linear path, on the cells of
``benchmarks.parts.pretraining_cells.CORPUS``, none of which is evaluated on. ``--views`` are the views of cells that
it trains on, two a cell and step. Its run folder in ``--out`` is kept: the same command with more views goes on.

    all              the objectives by default: masked LM, discrimination, contrastive, reconstruction, weight 1 each
    gentle           masked LM and reconstruction at weight 1, contrastive (temperature .5) and discrimination at .03
    masked, discrimination, contrastive, reconstruction    one alone
    tau_0.05, tau_0.1, tau_1                               contrastive alone at another temperature (.3 by default)
    batch_32, batch_1024, batch_4096                       all, with other cells a step (256 by default)
    gene_halves      all, but each view reads its own half of the genes, not of the counts
    random_vectors, network_vectors     all, but gene vectors start at random, or from the packaged network, not from
                     the loadings of the linear path; the log of a run has masked LM on cells of the corpus left out
    more_genes       all; attention reads 256 genes of a cell (128 by default), 64 masked ones are predicted (32)

The sets are those of :mod:`benchmarks.representation`. Each row is an arm on a set: macro-F1 of a linear probe on CLS
with 1, 5 and 20 labels a type and with 80 % of them, minus that of the start on the same draws of labels, in points,
with 95 % intervals over the draws; the share of the 15 nearest cells of the same type, after and before; and the error
of the residuals of one half of the counts predicted from the other, after and before. Masked LM alone leaves CLS as it
is: its gradient reaches the other parts of the encoder only.

The last line is JSON: by arm ``views``, ``cpu_s``, and by set ``differences`` (mean, low, high), ``neighbours``,
``reconstruction``; and ``start``, the scores of the start.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.options import data_folder, data_if_given, parser, run
from benchmarks.parts.pretraining_cells import CORPUS, packaged, read_corpus
from benchmarks.representation import (
    KANG_LABELS,
    SETS,
    SHOTS,
    draws,
    neighbours,
    probe,
    read,
    scaled,
    with_common_types,
)
from cell_lm.config import ObjectivesConfig, PretrainConfig, resolve_config
from cell_lm.data import CellData
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.errors import ConfigError
from cell_lm.evaluation.intervals import mean_interval
from cell_lm.files import JSON
from cell_lm.genes.vectors import GeneVectors, packaged_path
from cell_lm.model import CellLM
from cell_lm.objectives.divide_and_conquer import DivideAndConquer
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.start import SPREAD, put_vectors

BATCH, RATE = 256, 5e-4
NAMES = ("masked", "discrimination", "contrastive", "reconstruction")
RECONSTRUCTED = 600
"""Cells of a set whose other half is predicted."""


def only(name: str, **settings: float) -> dict[str, Any]:
    off: dict[str, Any] = {other: {"weight": 0.0} for other in NAMES if other != name}
    return {"objectives": off | {name: settings}}


SETTINGS: Mapping[str, dict[str, Any]] = {
    "all": {},
    "gentle": {"objectives": {"contrastive": {"weight": 0.03, "temperature": 0.5}, "discrimination": {"weight": 0.03}}},
    **{name: only(name) for name in NAMES},
    **{f"tau_{tau:g}": only("contrastive", temperature=tau) for tau in (0.05, 0.1, 1.0)},
    **{f"batch_{cells}": {"training": {"batch_size": cells}} for cells in (32, 1024, 4096)},
    "gene_halves": {"objectives": {"contrastive": {"thinning": False, "gene_fraction": 0.5}}},
    "more_genes": {"encoder": {"attended_genes": 256}, "objectives": {"masked": {"most": 64}}},
}
GENE_VECTORS = {"random_vectors": "random", "network_vectors": "network"}
ARMS: Mapping[str, dict[str, Any]] = {**SETTINGS, **{name: {} for name in GENE_VECTORS}}
DEFAULT = ("all", "gentle", *NAMES)
QUICK = ("all", "reconstruction")


def configuration(arm: str, views: int) -> PretrainConfig:
    """Return the configuration of an arm: so many views of cells, whatever its batch size."""
    given = ARMS[arm]
    batch = int(given.get("training", {}).get("batch_size", BATCH))
    training = {
        "batch_size": batch,
        "steps": max(1, round(views / 2 / batch)),
        "learning_rate": RATE,
        "token_budget": 262_144,
        "validate_every": 200,
    }
    return resolve_config("small", overrides=given | {"training": training})


def with_settings(model: CellLM, encoder: Mapping[str, Any]) -> CellLM:
    """Return a copy of a model with other settings of the encoder, which change no weight."""
    copy = CellLM(model.config.model_copy(update=encoder), model.vocabulary, model.objectives)
    assert model.reference is not None
    copy.set_reference(model.reference)
    copy.load_state_dict(model.state_dict())
    return copy


def start_of(arm: str) -> CellLM:
    """Return the packaged model with the encoder's settings and the gene vectors of an arm."""
    model = with_settings(CellLM.from_pretrained("small"), ARMS[arm].get("encoder", {}))
    if arm in GENE_VECTORS:
        table = model.encoder.embedding.genes.weight
        nn.init.normal_(table, std=SPREAD, generator=torch.Generator().manual_seed(0))
    if GENE_VECTORS.get(arm) == "network":
        vectors = GeneVectors.load(packaged_path()).align(model.vocabulary)
        put_vectors(model, vectors.project(model.config.gene_width), vectors.known)
    return model


def trained(cells: Sequence[CellData], arm: str, views: int, folder: Path) -> tuple[CellLM, float]:
    """Return the model of an arm, and the CPU seconds of what was trained now."""
    began = time.process_time()
    given: dict[str, Any] = {"resume": True} if (folder / "checkpoints").is_dir() else {"initial": start_of(arm)}
    if pretrain(cells, configuration(arm, views), folder, **given).interrupted:
        raise SystemExit("interrupted; the same command goes on")
    return CellLM.from_pretrained(folder).eval(), time.process_time() - began


class LabelledSet:
    """A labelled set, and what is measured of a model on it."""

    def __init__(self, cells: CellData, seeds: Sequence[int]) -> None:
        self.cells = cells
        self.known = (cells.obs["cell_type"] != "").to_numpy()
        self.labels = cells.obs["cell_type"][self.known].astype(str)
        self.settings = draws(self.labels, seeds)
        some = np.random.default_rng(0).permutation(len(cells))[:RECONSTRUCTED]
        self.some = np.sort(some)

    def scores(self, model: CellLM) -> dict[str, NDArray[np.float64]]:
        """Return macro-F1 by setting, one number a draw; ``neighbours`` and ``reconstruction``, one number."""
        features = scaled(model.encode(self.cells))[self.known]
        found = {"neighbours": np.array([neighbours(features, self.labels.to_numpy(object))])}
        found |= {key: np.array(values) for key, values in probe(features, self.labels, self.settings).items()}
        return found | {"reconstruction": np.array([self.reconstruction(model)])}

    def reconstruction(self, model: CellLM) -> float:
        """Return the mean squared error of the residuals of one half of the counts, predicted from the other."""
        objectives = ObjectivesConfig.model_validate(only("reconstruction")["objectives"])
        copy = with_settings(model, {"dropout": 0.0})
        batch = Tokeniser(model.config.bins, model.config.max_genes)(self.cells, self.some)
        return DivideAndConquer(copy, objectives, seed=0, token_budget=262_144).evaluate(batch, 0).reconstruction


def difference(after: Mapping[str, NDArray[np.float64]], before: Mapping[str, NDArray[np.float64]]) -> dict[str, JSON]:
    """Return after minus before: points of macro-F1 with their interval, and the other two side by side."""
    points: dict[str, JSON] = {}
    for key in (*SHOTS, "80"):
        interval = mean_interval(100 * (after[key] - before[key]))
        points[key] = [round(float(value), 2) for value in (interval.mean, *interval.bounds())]
    pairs = {
        name: [round(float(each[name][0]), 4) for each in (after, before)] for name in ("neighbours", "reconstruction")
    }
    return {"differences": points, **pairs}


def show(arm: str, name: str, row: Mapping[str, Any]) -> None:
    points = "  ".join(
        f"{key}: {mean:+5.1f} [{low:+.1f}, {high:+.1f}]" for key, (mean, low, high) in row["differences"].items()
    )
    near, error = row["neighbours"], row["reconstruction"]
    print(f"{arm:15s} {name:17s} {points}  neighbours {near[0]:.3f} ({near[1]:.3f})  ", end="")
    print(f"error {error[0]:.4f} ({error[1]:.4f})", flush=True)


def main() -> None:
    options = parser(__doc__, quick="the packaged cells, two arms, 512 views, 3 draws")
    options.add_argument("--arms", nargs="+", choices=ARMS, metavar="ARM", help=f"of {', '.join(ARMS)}")
    options.add_argument("--views", type=int, help="views of cells that each arm trains on; default 61,440")
    options.add_argument("--sets", nargs="+", default=list(SETS[:1] + SETS[-1:]), choices=SETS)
    options.add_argument("--seeds", type=int, help="draws of labels; default 10")
    options.add_argument("--out", type=Path, help="folder of the runs; they are kept, and go on")
    given = options.parse_args()
    needs = [f"cells/{name}.h5ad" for name in (*CORPUS, *given.sets)] + [f"cells/{KANG_LABELS}"]
    folder = data_if_given(given.data, needs) if given.quick else data_folder(given.data, needs)
    if folder is not None and given.out is None:
        raise ConfigError("no folder for the runs was given", fix="Give --out, a folder that is made if it is missing")
    views, seeds = given.views or (512 if given.quick else 61_440), given.seeds or (3 if given.quick else 10)
    arms = given.arms or (QUICK if given.quick else DEFAULT)
    if folder is None:
        corpus, left_out = packaged()
        sets = {name: with_common_types(cells, cells.obs["cell_type"].astype(str)) for name, cells in left_out.items()}
    else:
        corpus, sets = read_corpus(folder), {name: read(folder, name) for name in given.sets}
    labelled = {name: LabelledSet(cells, range(seeds)) for name, cells in sets.items()}
    start = CellLM.from_pretrained("small")
    before = {name: one.scores(start) for name, one in labelled.items()}
    told: dict[str, JSON] = {
        "start": {name: {key: round(float(v.mean()), 4) for key, v in of.items()} for name, of in before.items()}
    }
    with tempfile.TemporaryDirectory() as scratch:
        for arm in arms:
            model, seconds = trained(corpus, arm, views, (given.out or Path(scratch)) / arm)
            rows = {name: difference(one.scores(model), before[name]) for name, one in labelled.items()}
            for name, row in rows.items():
                show(arm, name, row)
            training = configuration(arm, views).training
            told[arm] = {"views": 2 * training.batch_size * training.steps, "cpu_s": round(seconds, 1), **rows}
    print(json.dumps(told))


if __name__ == "__main__":
    run(main)
