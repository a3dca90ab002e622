"""Do pretrained gene vectors help a cell model? The same pretraining with different initial gene vectors.

    python -m studies.gene_inputs --data DIR --vectors graphmae=FILE netmf=FILE [--out runs/gene_inputs]
                                  [--arms "NAME;NAME"] [--cells 16384] [--seeds 5] [--jobs 2] [--encoder small|light]
    python -m studies.gene_inputs --out runs/gene_inputs --report

An arm is named by its initial gene vectors: ``random``, ``coexpression`` (of the training cells), ``network`` (the
packaged ones), a name given by ``--vectors`` (files that ``cell-lm genes pretrain`` or ``studies.netmf_vectors``
wrote), or two joined, as ``graphmae+coexpression``. The suffix ``frozen`` means that the vectors are not trained,
``, before pretraining`` that the model is evaluated before its first step. Everything else is the same: the cells (the
eight files of ``benchmarks.annotation``), their order, masks, all other initial weights, steps, learning rate,
objectives (all three). By default the encoder is preset ``small``, reading at most 1,024 genes of a cell; ``light`` is
that of ``studies.batch_size``, at about a third of the time.

Measured for each arm and seed: the masked-LM loss on held-out cells of the pretraining files (cells read whole, no
dropout, the same genes hidden whatever the arm), of all genes, of those in the network (``known``: a vector in any of
the ``--vectors``) and of the others; and on three data sets not used for pretraining, macro-F1 of the linear head on
the frozen CLS, from a stratified 80/20 split and from 1, 5, 10 and 20 labelled cells of each type (several draws per
seed, scored on all other cells). Logistic regression on the log-normalised genes has the same splits and draws. A seed
sets weights, held-out cells, order, masks, splits and draws, so arms are compared with ``random`` seed by seed.

Each result is saved in ``--out`` at once, under the hash of all settings that it depends on; seeds are the outer loop.
The same command continues an interrupted study.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from benchmarks.options import data_folder, parser, run
from benchmarks.parts.pretraining_cells import TARGETS, read_pretraining, read_target
from benchmarks.parts.pretraining_cells import files as cell_files
from benchmarks.probes import hidden_genes, judge_labels, labels_of, linear_probe, rival_probe
from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.config import PretrainConfig, resolve_config
from cell_lm.data import CellData
from cell_lm.data.loading.expression import MOST_CELLS
from cell_lm.engine.distributed import Ranks
from cell_lm.files import JSON, atomic_file, sha256, write_json
from cell_lm.genes.coexpression import coexpression_vectors
from cell_lm.genes.vectors import GeneVectors, packaged_path
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.batches import Batches
from cell_lm.pretraining.run import initial_model
from cell_lm.pretraining.start import join_vectors
from studies.arms import PAPER_ENCODER, result_file, run_workers, seed_major, unclaimed, with_paper_objectives
from studies.batch_size import ENCODER
from studies.gene_inputs_report import VECTORS, report
from studies.gene_inputs_settings import Settings

LOGISTIC = "logistic regression"
FROZEN, BEFORE, JOINED = " frozen", ", before pretraining", "+coexpression"
WORDS = ("random", "coexpression", "network", f"network{JOINED}")
"""What the product itself knows by name."""
CURVE = 4
"""Points of the validation curve of a run, after that of its start."""
MASKS = 2
"""Times that genes of each held-out cell are hidden anew, for the loss at the end."""


@dataclass(frozen=True)
class Arm:
    """Where gene vectors start (a word, or the name of a file), what is joined to them, and what becomes of them."""

    vectors: str
    joined: bool = False
    frozen: bool = False
    trained: bool = True

    @classmethod
    def parse(cls, name: str, files: Mapping[str, Path]) -> Arm:
        """Read a name; :class:`ValueError` with those there are for an unknown one."""
        rest = name.removesuffix(BEFORE)
        vectors = rest.removesuffix(FROZEN)
        own = vectors.removesuffix(JOINED)
        if vectors not in WORDS and own not in files:
            known = "; ".join([*WORDS, *files, *(f"{each}{JOINED}" for each in files)])
            raise ValueError(f"no gene vectors are called '{vectors}'; there are: {known}")
        trained, frozen = rest == name, vectors != rest
        return (
            cls(vectors, frozen=frozen, trained=trained)
            if vectors in WORDS
            else cls(own, vectors != own, frozen, trained)
        )


def default_arms(files: Mapping[str, Path]) -> list[str]:
    """Return each kind of vectors trained and frozen, co-expression trained only, and each file joined to it."""
    both = [name + form for name in ("random", *files) for form in ("", FROZEN)]
    return [*both, "coexpression", *(f"{name}{JOINED}" for name in files if name != "netmf")]


def with_baselines(names: Sequence[str]) -> list[str]:
    """Put before the arms logistic regression, and the start of each kind of vectors among them."""
    starts = dict.fromkeys(name.removesuffix(FROZEN) + BEFORE for name in names if not name.endswith(BEFORE))
    return [LOGISTIC, *(start for start in starts if start not in names), *names]


def configuration(arm: Arm, settings: Settings, seed: int, vectors: str) -> PretrainConfig:
    """Return the configuration of a run; ``vectors`` is what ``training.gene_vectors`` says."""
    steps = max(1, round(settings.cells / settings.batch))
    training: dict[str, Any] = {
        "steps": steps, "batch_size": settings.batch, "seed": seed, "validation": settings.validation,
        "validate_every": max(1, steps // CURVE), "checkpoint_every": 10**6, "keep_checkpoints": 1,
        "token_budget": 65_536, "retain_graphs": 8, "gene_vectors": vectors,
    }  # fmt: skip
    if arm.frozen:
        training["freeze_gene_vectors"] = True
    small = {**PAPER_ENCODER, "latents": 32, "max_genes": settings.max_genes}
    encoder = ENCODER if settings.encoder == "light" else small
    objectives = with_paper_objectives({})
    return resolve_config("small", overrides={"encoder": encoder, "training": training, "objectives": objectives})


def vectors_setting(
    arm: Arm, datasets: Sequence[CellData], settings: Settings, seed: int, files: Mapping[str, Path], joined: Path
) -> str:
    """Return what ``training.gene_vectors`` is to say; vectors of a file joined to co-expression are written first."""
    if arm.vectors in WORDS:
        return arm.vectors
    if not arm.joined:
        return str(files[arm.vectors].resolve())
    config = configuration(arm, settings, seed, "random")
    vocabulary, width = datasets[0].vocabulary, config.encoder.gene_width
    network = GeneVectors.load(files[arm.vectors]).align(vocabulary)
    cells = Batches(datasets, config, Ranks()).training_subset(MOST_CELLS)
    entries = (cells.values.numpy(), cells.genes.numpy(), cells.offsets)
    expression = sparse.csr_matrix(entries, shape=(len(cells), len(vocabulary)))
    parts = [(network.project(width), network.known), coexpression_vectors(expression, width, seed=seed)]
    values, known = join_vectors(parts, width)
    GeneVectors.from_values(values, known, vocabulary, source=f"{arm.vectors}{JOINED}").save(joined)
    return str(joined.resolve())


def job_settings(name: str, settings: Settings, files: Mapping[str, Path]) -> dict[str, JSON]:
    """Return all that the result of an arm depends on besides cells and seed, as JSON."""
    own = "" if name == LOGISTIC else Arm.parse(name, files).vectors
    path = packaged_path() if own.startswith("network") else files.get(own)
    return {**settings.to_json(), "vectors": sha256(path)[:16] if path else ""}


class Study:
    """The cells, and what is done with them for one arm and seed."""

    def __init__(self, data: Path, settings: Settings, files: Mapping[str, Path]) -> None:
        self.settings, self.files = settings, files
        self.datasets = read_pretraining(data)
        self.targets = {name: read_target(data, name) for name in settings.targets}

    def do(self, name: str, seed: int, result: Path) -> None:
        """Do a job, and keep its result: figures as JSON and, of a trained arm, losses by gene as npz beside it."""
        began = time.process_time()
        figures: dict[str, float] = {}
        if name == LOGISTIC:
            figures |= self._probes(None, seed)
        else:
            model, curve = self._model(Arm.parse(name, self.files), seed, result)
            trained = time.process_time()
            figures |= self._masked(model, seed, result.with_suffix(".npz")) if curve else {}
            figures |= self._probes(model, seed) | {f"loss_after_{step}": loss for step, loss in curve.items()}
            figures["cpu_pretraining"] = round(trained - began, 1)
        figures["cpu"] = round(time.process_time() - began, 1)
        settings = job_settings(name, self.settings, self.files)
        write_json(result, {"arm": name, "seed": seed, "settings": settings, "figures": dict(figures)})
        shutil.rmtree(result.with_suffix(".run"), ignore_errors=True)
        result.with_suffix(".joined").unlink(missing_ok=True)

    def _model(self, arm: Arm, seed: int, result: Path) -> tuple[CellLM, dict[int, float]]:
        """Return a model and, of a trained one, the masked-LM loss by step of the run's own validation."""
        joined, out = result.with_suffix(".joined"), result.with_suffix(".run")
        vectors = vectors_setting(arm, self.datasets, self.settings, seed, self.files, joined)
        config = configuration(arm, self.settings, seed, vectors)
        if not arm.trained:
            return initial_model(self.datasets, config), {}
        resume = any((out / "checkpoints").glob("*"))
        if not resume:
            shutil.rmtree(out, ignore_errors=True)
        if pretrain(self.datasets, config, out, resume=resume, progress=False).interrupted:
            raise SystemExit("interrupted; the same command goes on")
        entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        curve = {entry["step"]: entry["masked"] for entry in entries if entry.get("kind") == "valid"}
        return CellLM.from_pretrained(out), curve

    def _masked(self, model: CellLM, seed: int, by_gene: Path) -> dict[str, float]:
        config = configuration(Arm("random"), self.settings, seed, "random")
        batches = Batches(self.datasets, config, Ranks()).validation()
        rate = config.objectives.masked.rate
        nats, right, asked = hidden_genes(model, batches, rate=rate, seed=seed, draws=MASKS)
        with atomic_file(by_gene) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, nats=nats.astype(np.float32), asked=asked.astype(np.int32))
        return {"masked": nats.sum() / asked.sum(), "masked_accuracy": right.sum() / asked.sum()}

    def _probes(self, model: CellLM | None, seed: int) -> dict[str, float]:
        figures = {}
        for target, cells in self.targets.items():
            labels = labels_of(cells)
            predict = rival_probe(cells, seed) if model is None else linear_probe(model.encode(cells), labels, seed)
            scores = judge_labels(predict, labels, seed, shots=self.settings.shots, draws=self.settings.draws)
            figures |= {f"{target}.{figure}": score for figure, score in scores.items()}
        return figures


def work(data: str, out: str, settings: dict[str, Any], files: dict[str, str], jobs: list[tuple[str, int]]) -> None:
    """Do the jobs that no other process is at."""
    keep_large_blocks()
    torch.set_num_threads(1)
    chosen, paths = Settings.from_json(settings), {name: Path(path) for name, path in files.items()}
    study = Study(Path(data), chosen, paths)
    for name, seed, result in unclaimed(jobs, partial(_file, Path(out), chosen, paths)):
        study.do(name, seed, result)
        figures = json.loads(result.read_text())["figures"]
        shown = {key: round(value, 3) for key, value in figures.items() if key.startswith(("masked", "cpu"))}
        print(f"{name}, seed {seed}: {json.dumps(shown)}", flush=True)


def _file(out: Path, settings: Settings, files: Mapping[str, Path], name: str, seed: int) -> Path:
    return result_file(out, name, seed, Settings.key(job_settings(name, settings, files)))


def _named_file(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or name in WORDS or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=FILE with a file that is there and a name of its own")
    return name, Path(path)


def _options() -> argparse.Namespace:
    arguments = parser(__doc__, quick="512 cells, one seed, two arms, one data set")
    arguments.add_argument("--vectors", type=_named_file, nargs="+", default=[], metavar="NAME=FILE")
    arguments.add_argument("--out", type=Path, default=Path("runs/gene_inputs"))
    arguments.add_argument("--arms", help="names parted by semicolons; default: all that --vectors allow")
    arguments.add_argument("--no-baselines", action="store_true", help="the arms alone")
    arguments.add_argument("--cells", type=int, default=16_384, help="cells seen in pretraining")
    arguments.add_argument("--encoder", choices=("small", "light"), default="small")
    arguments.add_argument("--max-genes", type=int, default=1024, help="of a cell that the encoder small reads")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    arguments.add_argument("--report", action="store_true", help="print what there is in --out, run nothing")
    options = arguments.parse_args()
    files = dict(options.vectors)
    options.names = options.arms.split(";") if options.arms else default_arms(files)
    if options.quick:
        options.seeds, options.names = 1, ["random", "coexpression"]
    try:
        for name in options.names:
            Arm.parse(name, files)
    except ValueError as error:
        arguments.error(str(error))
    if not options.report:
        data_folder(options.data, cell_files(TARGETS))
    return options


def _settings(options: argparse.Namespace) -> Settings:
    if options.quick:
        return Settings(512, options.encoder, options.max_genes, targets=TARGETS[-1:], shots=(1, 5), draws=2)
    return Settings(options.cells, options.encoder, options.max_genes, targets=TARGETS)


def main() -> None:
    options = _options()
    out, files = options.out, dict(options.vectors)
    if options.report:
        print("\n".join(report(out, files)))
        return
    out.mkdir(parents=True, exist_ok=True)
    if files:
        write_json(out / VECTORS, {name: str(path.resolve()) for name, path in files.items()})
    settings = _settings(options)
    names = options.names if options.no_baselines else with_baselines(options.names)
    arguments: dict[str, JSON] = {
        "data": str(options.data),
        "out": str(out),
        "settings": settings.to_json(),
        "files": {name: str(path) for name, path in files.items()},
        "jobs": [list(job) for job in seed_major(names, options.seeds)],
    }
    run_workers("studies.gene_inputs", arguments, options.jobs)
    print("\n".join(report(out, files, only=settings)))


if __name__ == "__main__":
    run(main)
