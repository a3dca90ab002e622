"""The effect of the contrastive batch size on the embedding, at equal numbers of cells seen.

    python -m studies.batch_size --data DIR [--out runs/batch_size] [--cells 32768] [--seeds 5] [--jobs 2]
                                 [--arms main|all|"NAME;NAME"] [--figure FILE.png] [--quick]

Pretrains a small ``latent`` encoder on the eight pretraining files of ``benchmarks.annotation`` by masked LM alone, by
masked LM + discrimination, and by all three with contrastive batches of 32, 256 and 2,048; each arm sees equally many
cells, and its learning rate grows with the square root of the batch size. (Without the contrastive objective a cell is
read once and whole; with it twice, half of its genes each time, with masked LM on both: this changes more than the
loss.) The other arms (select them with ``--arms``) change one setting in the smallest and the largest contrastive
batch: temperature, genes of a view, projection head, what is masked in each view, initial gene vectors, length; two run
the 16 steps that the largest batch makes of the default cells.

Evaluated on data sets not used for pretraining: macro-F1 of a linear probe and of 15 nearest neighbours (cosine) on the
frozen CLS, from the same stratified 80/20 splits, the test cells used once; and the geometry of the embedding (mean
cosine, uniformity, alignment of two views under dropout, effective rank). A seed sets weights, order, masks and the
split. Every finished run is kept in ``--out``, so the same command continues an interrupted study.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.options import data_folder, parser, run
from benchmarks.parts.pretraining_cells import files, read_pretraining, read_target
from benchmarks.probes import rival_probe
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import PretrainConfig, parse
from cell_lm.data import CellBatch, CellData, Tokeniser
from cell_lm.evaluation.geometry import geometry
from cell_lm.evaluation.linear_head import fit_head
from cell_lm.files import JSON, write_json
from cell_lm.model import CellLM
from cell_lm.nn.counter import Counter
from cell_lm.objectives.masked import choose_read
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.run import initial_model
from studies.arms import (
    PAPER_ENCODER,
    PAPER_OBJECTIVES,
    result_file,
    run_workers,
    seed_major,
    spread,
    unclaimed,
    with_paper_objectives,
)

ENCODER = {
    "attention": "latent", "width": 64, "gene_width": 64, "layers": 2, "heads": 4, "head_width": 16,
    "feedforward": 256, "latents": 16, "max_genes": 1024, **PAPER_ENCODER,
}  # fmt: skip
TARGETS = ("zheng_facs10", "pbmc3k")
CHUNK = 32_768
NEIGHBOURS = 15
REFERENCE_BATCH, REFERENCE_RATE = 256, 1e-3
"""The learning rate at another batch is this one times the root of the ratio of the batches."""


@dataclass(frozen=True)
class Arm:
    """One way of pretraining: the batch, settings over the defaults, and how many of the usual cells, or steps."""

    batch: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    cells: float = 1.0
    steps: int | None = None


def _off(*objectives: str) -> dict[str, Any]:
    return {"objectives": {name: {"weight": 0.0} for name in objectives}}


def _contrastive(**settings: Any) -> dict[str, Any]:
    return {"objectives": {"contrastive": settings}}


SMALL, MIDDLE, LARGE = 32, 256, 2048
CHANGES: dict[str, dict[str, Any]] = {
    "temperature .2": _contrastive(temperature=0.2),
    "views by dropout alone": _contrastive(gene_fraction=1.0),
    "views of a fifth of the genes": _contrastive(gene_fraction=0.2),
    "no projection head": _contrastive(projection=0),
    "other genes masked in each view": {"objectives": {"masked": {"per_view": True}}},
    "contrastive alone": _off("masked", "discrimination"),
    "random gene vectors": {"training": {"gene_vectors": "random"}},
}
ARMS: dict[str, Arm] = {
    "before pretraining": Arm(MIDDLE, cells=0.0),
    "masked LM": Arm(MIDDLE, _off("discrimination", "contrastive")),
    "+ discrimination": Arm(MIDDLE, _off("contrastive")),
    **{f"+ contrastive, batch {batch}": Arm(batch) for batch in (SMALL, MIDDLE, LARGE)},
    **{
        f"{name}, batch {batch}": Arm(batch, change)
        for name, change in CHANGES.items()
        for batch in (SMALL, LARGE)
    },
    "four times the cells, batch 32": Arm(SMALL, cells=4.0),
    "four times the cells, batch 2048": Arm(LARGE, cells=4.0),
    **{f"16 steps, batch {batch}": Arm(batch, steps=16) for batch in (SMALL, MIDDLE)},
    "random gene vectors, masked LM": Arm(
        MIDDLE, {**_off("discrimination", "contrastive"), **CHANGES["random gene vectors"]}
    ),
    "random gene vectors, before pretraining": Arm(MIDDLE, CHANGES["random gene vectors"], cells=0.0),
}  # fmt: skip
MAIN = tuple(ARMS)[:6]


def configuration(arm: Arm, cells: int, seed: int) -> PretrainConfig:
    rate = REFERENCE_RATE * (arm.batch / REFERENCE_BATCH) ** 0.5
    steps = arm.steps or max(1, round(cells * arm.cells / arm.batch))
    training = {
        "steps": steps, "batch_size": arm.batch, "learning_rate": rate, "token_budget": CHUNK, "retain_graphs": 0,
        "seed": seed, "validation": 0.0, "checkpoint_every": 10**6, "keep_checkpoints": 1,
        "gene_vectors": "coexpression",
    }  # fmt: skip
    training |= arm.settings.get("training", {})
    objectives = with_paper_objectives(arm.settings.get("objectives", {}))
    return parse(PretrainConfig, {"encoder": ENCODER, "training": training, "objectives": objectives}, where="arm")


def train(datasets: Sequence[CellData], arm: Arm, cells: int, seed: int, out: Path) -> CellLM:
    config = configuration(arm, cells, seed)
    if not arm.cells:
        return initial_model(datasets, config)
    if pretrain(datasets, config, out, resume=(out / "config.json").is_file(), progress=False).interrupted:
        raise SystemExit("interrupted; the same command goes on")
    return CellLM.from_pretrained(out)


def two_views(model: CellLM, cells: CellData, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the CLS of two views of each cell: dropout, and half of the genes each, whatever the arm trained on."""
    batch = Tokeniser(model.config.bins, model.config.max_genes)(cells, np.arange(len(cells)))
    share = float(PAPER_OBJECTIVES["contrastive"]["gene_fraction"])
    first, second = (_view(model, batch, Counter.of(seed, 0, batch.slots, view), share) for view in range(2))
    return first, second


@torch.inference_mode()
def _view(model: CellLM, batch: CellBatch, counter: Counter, share: float) -> NDArray[np.float32]:
    read = batch.keep(choose_read(batch, counter, share)) if share < 1 else batch
    parts, done = [], 0
    for chunk in read.chunks(CHUNK):
        keys = Counter(counter.cells[done : done + len(chunk)])
        parts.append(model.encoder(chunk, hidden=None, counter=keys, only_cls=True).cls.numpy())
        done += len(chunk)
    return np.concatenate(parts)


def judge(model: CellLM, cells: CellData, seed: int) -> dict[str, float]:
    """Return the probes on the test cells of one split, and the geometry over all cells."""
    labels, (train_cells, test_cells) = _labels_and_split(cells, seed)
    cls = model.encode(cells)
    head = fit_head(cls[train_cells], labels[train_cells], seed=seed)
    linear = np.array(head.classes)[head.probabilities(cls[test_cells]).argmax(1)]
    nearest = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(cls[train_cells], labels[train_cells])
    shape = geometry(cls, views=two_views(model, cells, seed), seed=seed)
    return {
        "linear": _macro_f1(labels[test_cells], linear),
        "knn": _macro_f1(labels[test_cells], nearest.predict(cls[test_cells])),
        "mean_cosine": shape.mean_cosine,
        "uniformity": shape.uniformity,
        "alignment": float(shape.alignment or 0.0),
        "effective_rank": shape.effective_rank,
    }


def _labels_and_split(cells: CellData, seed: int) -> tuple[NDArray[Any], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    labels = cells.obs["cell_type"].astype(str).to_numpy().astype(object)
    first, second = train_test_split(np.arange(len(cells)), test_size=0.2, stratify=labels, random_state=seed)
    return labels, (first, second)


def _macro_f1(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    return float(f1_score(truth, predicted, average="macro"))


def logistic(cells: CellData, seed: int) -> float:
    """Return the macro-F1 of logistic regression on the genes, on the same split."""
    labels, (train_cells, test_cells) = _labels_and_split(cells, seed)
    return _macro_f1(labels[test_cells], rival_probe(cells, seed)(train_cells, test_cells))


def work(data: str, out: str, cells: int, jobs: Sequence[tuple[str, int]]) -> None:
    """Do the jobs that no other process is at."""
    keep_large_blocks()
    torch.set_num_threads(1)
    datasets = read_pretraining(Path(data))
    targets = {name: read_target(Path(data), name) for name in TARGETS}
    for name, seed, result in unclaimed(jobs, partial(result_file, Path(out))):
        if name == "logistic regression":
            figures = {target: {"linear": logistic(each, seed)} for target, each in targets.items()}
        else:
            model = train(datasets, ARMS[name], cells, seed, result.with_suffix(".run"))
            figures = {target: judge(model, each, seed) for target, each in targets.items()}
        write_json(result, {target: dict(values) for target, values in figures.items()})
        print(f"{name}, seed {seed}: {json.dumps(figures)}", flush=True)


def run_arms(options: argparse.Namespace, names: Sequence[str], out: Path) -> None:
    """Share the jobs among processes of one thread each, seeds in the outer loop."""
    jobs: list[JSON] = [list(job) for job in seed_major(names, options.seeds)]
    arguments: dict[str, JSON] = {"data": str(options.data), "out": str(out), "cells": options.cells, "jobs": jobs}
    run_workers("studies.batch_size", arguments, options.jobs)


def collect(out: Path, names: Sequence[str], seeds: int) -> dict[str, dict[str, list[float]]]:
    """Return ``{arm: {"target.figure": value of each seed}}``."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in names:
        for seed in range(seeds):
            for target, figures in json.loads(result_file(out, name, seed).read_text()).items():
                for figure, value in figures.items():
                    found.setdefault(name, {}).setdefault(f"{target}.{figure}", []).append(value)
    return found


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[str]:
    """Yield the lines of a Markdown table for each target: mean ± standard deviation over the seeds."""
    figures = ("linear", "knn", "mean_cosine", "uniformity", "alignment", "effective_rank")
    for target in TARGETS:
        yield f"| {target} | linear probe | 15 neighbours | mean cosine | uniformity | alignment | effective rank |"
        yield "|---" * 7 + "|"
        for name, values in found.items():
            cells = [values.get(f"{target}.{figure}") for figure in figures]
            yield f"| {name} | " + " | ".join(_spread(cell) for cell in cells) + " |"
        yield ""


def _spread(values: Sequence[float] | None) -> str:
    return spread(values, 1 if values and max(values) > 5 else 3)


def draw(found: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Draw probes and geometry by arm, one dot a seed."""
    import matplotlib.pyplot as plt

    names = list(MAIN)
    shown = {
        "linear": "linear probe, macro-F1",
        "knn": "15 neighbours, macro-F1",
        "uniformity": "uniformity",
        "alignment": "alignment of two views",
        "mean_cosine": "mean cosine",
        "effective_rank": "effective rank",
    }
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.5), sharex=True, layout="constrained")
    for axis, (key, title) in zip(axes.flat, shown.items(), strict=True):
        for target, colour in zip(TARGETS, ("#0072B2", "#D55E00"), strict=True):
            means = [np.mean(found[name][f"{target}.{key}"]) for name in names]
            axis.plot(range(len(names)), means, color=colour, label=target, linewidth=1)
            for place, name in enumerate(names):
                values = found[name][f"{target}.{key}"]
                axis.scatter([place] * len(values), values, color=colour, s=12, alpha=0.7, linewidths=0)
        axis.set_title(title, fontsize=10)
        axis.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], rotation=90, fontsize=8)
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    arguments = parser(__doc__, quick="1,024 cells and two seeds of two arms")
    arguments.add_argument("--out", type=Path, default=Path("runs/batch_size"))
    arguments.add_argument("--cells", type=int, default=32_768, help="cells seen by an arm")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--arms", default="main", help="main, all, or names parted by semicolons")
    arguments.add_argument("--figure", type=Path)
    options = arguments.parse_args()
    data_folder(options.data, files(TARGETS))
    names: Sequence[str] = {"main": MAIN, "all": tuple(ARMS)}.get(options.arms, tuple(options.arms.split(";")))
    if options.quick:
        options.cells, options.seeds, names = 1024, 2, ("masked LM", "+ contrastive, batch 256")
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        arguments.error(f"no arm is called {', '.join(unknown)}; there are: {'; '.join(ARMS)}")
    names = ("logistic regression", *names)
    out = options.out / f"{options.cells}-cells"
    out.mkdir(parents=True, exist_ok=True)
    run_arms(options, names, out)
    found = collect(out, names, options.seeds)
    print("\n".join(table(found)))
    if options.figure is not None and set(MAIN) <= set(names):
        draw(found, options.figure)
    rounded = {
        name: {key: [round(float(np.mean(v)), 4), round(float(np.std(v, ddof=1)), 4)] for key, v in values.items()}
        for name, values in found.items()
    }
    print(json.dumps(rounded))


if __name__ == "__main__":
    run(main)
