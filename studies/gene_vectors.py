"""Comparison of gene vectors: shared pathways, neighbours in gene sets, held-out interactions.

    python -m studies.gene_vectors --data DIR [--methods "NAME;NAME"] [--out runs/gene_vectors] [--jobs 2] [--quick]

``DIR`` holds ``genes/`` (STRING, all sources of interactions, labelled pairs, gene sets) and ``cells/`` (counts).
:data:`studies.gene_methods.METHODS` are compared by their [genes, 512] vectors, and ``degree``, the number of edges of
two genes together, on the tests that apply to it. One rule for all: a gene without a vector has cosine 0 to every gene,
and random neighbours. All tuning uses the validation split of the pairs. The last line is JSON,
``{"FIGURE.METHOD": [mean, standard deviation over the seeds]}``:

``gene_pairs_auc``
    AUC of the cosine on the test split of Gene2vec's pairs (do two genes share a pathway?).
``gene_pairs_form_auc``
    The same, with the vectors transformed as is best on the validation split (mean subtracted or not, axes scaled).
``gene_pairs_classifier_auc``
    A classifier with one hidden layer on product, difference and sum of the two vectors: trained on 131,072 of the
    training pairs, early stopping on the validation split, five seeds.
``reactome_purity``, ``hallmark_purity``, ``reactome_small_purity``
    Fraction of the 10 nearest genes that share a set with the gene, among all genes with a vector; ``..._chance`` is
    that of neighbours drawn uniformly. Small: sets of at most 200 genes. ``reactome_annotated_purity``: among
    Reactome's genes only.
``..._purity_no_common_set``
    The same, all edges between genes of a common set (Reactome or Hallmark) removed before learning.
``string_auc``, ``string_matched_auc``
    A tenth of STRING's edges, held out of all networks before training, against as many random pairs: drawn uniformly,
    and degree-matched. Five draws.
``biogrid_auc``, ``biogrid_matched_auc``
    Likewise 100,000 edges that BioGRID has and no other source.

Every result is kept in ``--out`` under the hash of its settings: the same command continues an interrupted study, and
repeats only what has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.options import data_folder, parser, run
from cell_lm.errors import ModelError
from cell_lm.files import JSON
from studies.gene_graphs import COLLECTIONS, HELD_OUT, NO_COMMON_SET, WHOLE, Knowledge, read_knowledge
from studies.gene_methods import CELLS, METHODS, QUICK, Bench, Method, Scale, fingerprint
from studies.gene_pairs import ClassifierSettings, classifier_auc, read_pairs
from studies.gene_store import ResultStore, Vectors
from studies.gene_tests import cosine, degree_sum, forms, link_aucs, purities

FILES = [
    *(f"genes/{name}.parquet" for name in ("gene2vec_ggi_pairs", "ppi_string12_union", "ppi_all_sources")),
    *(f"genes/{name}.gmt" for name in COLLECTIONS),
    *(f"cells/{name}.h5ad" for name in CELLS),
]
DEGREE = "degree"
NAMES = (DEGREE, *METHODS)
LONGEST = ("node2vec", "graphmae", "graphmae_random")
"""Begun first; those that others build on are then there before these ask for them."""
TESTS_VERSION = 1
"""Counts changes of the tests; results of another version are not read."""

Figures = dict[str, list[float]]


def open_bench(data: Path, out: Path, *, quick: bool, trainings: int) -> Bench:
    knowledge = read_knowledge(data / "genes")
    pairs = read_pairs(data / "genes" / "gene2vec_ggi_pairs.parquet", knowledge.vocabulary)
    return Bench(knowledge, pairs, data / "cells", ResultStore(out), QUICK if quick else Scale(trainings=trainings))


def judge(bench: Bench, name: str) -> Figures:
    """Return all figures of a method, those that are there already from the store."""
    if name == DEGREE:
        return judge_degree(bench)
    method = METHODS[name]
    trainings = min(method.seeds, bench.scale.trainings, bench.scale.seeds)
    learned = [method.make(bench, WHOLE, seed) for seed in range(trainings)]
    figures: Figures = {}
    for seed, vectors in enumerate(learned):
        _extend(figures, _kept(bench, name, "whole", vectors, partial(whole_figures, bench, vectors, seed)))
    for seed in range(bench.scale.seeds):
        vectors = learned[seed % len(learned)]
        _extend(
            figures, _kept(bench, name, "classifier", vectors, partial(pair_classifier, bench, vectors, seed), seed)
        )
    for wanted, test in ((NO_COMMON_SET, untaught_purity), (HELD_OUT, held_out_links)):
        other = other_vectors(bench, method, wanted)
        if other is not None:
            _extend(figures, _kept(bench, name, wanted, other, partial(test, bench, other)))
    return figures


def other_vectors(bench: Bench, method: Method, wanted: str) -> Vectors | None:
    graph = method.graph(wanted)
    return None if graph is None else method.make(bench, graph, 0)


def whole_figures(bench: Bench, vectors: Vectors, seed: int) -> Figures:
    """Pairs by cosine, purity, and BioGRID's links; ``seed`` is that of the chance pairs where there are several."""
    figures = {"gene_pairs_auc": [bench.pairs["test"].judge(cosine(vectors))]}
    figures["gene_pairs_valid_auc"] = [bench.valid(vectors)]
    read = forms(vectors)
    best = max(read.values(), key=bench.valid)
    figures["gene_pairs_form_auc"] = [bench.pairs["test"].judge(cosine(best))]
    draws = bench.scale.seeds if seed == 0 else 1
    links = link_aucs(cosine(vectors), bench.knowledge.biogrid, bench.knowledge, draws)
    return figures | set_figures(bench.knowledge, vectors) | _named("biogrid", links)


def set_figures(knowledge: Knowledge, vectors: Vectors, ending: str = "") -> Figures:
    """Purity in all collections; and in Reactome, were its own genes the only ones."""
    reactome = knowledge.sets["reactome"]
    annotated = np.asarray(np.diff(reactome.member.indptr) > 0)
    found = purities(vectors, knowledge.judged_sets)
    found["reactome_annotated"] = purities(vectors, [reactome], annotated)["reactome"]
    figures = {f"{name}_purity{ending}": [pure] for name, (pure, _) in found.items()}
    return figures | {f"{name}_chance{ending}": [chance] for name, (_, chance) in found.items()}


def pair_classifier(bench: Bench, vectors: Vectors, seed: int) -> Figures:
    settings = ClassifierSettings(epochs=1, most_pairs=8192) if bench.scale == QUICK else ClassifierSettings()
    found = classifier_auc(vectors, bench.pairs, settings, seed=seed)
    return {"gene_pairs_classifier_auc": [found["test"]], "gene_pairs_classifier_valid_auc": [found["valid"]]}


def untaught_purity(bench: Bench, vectors: Vectors) -> Figures:
    return set_figures(bench.knowledge, vectors, "_no_common_set")


def held_out_links(bench: Bench, vectors: Vectors) -> Figures:
    knowledge = bench.knowledge
    return _named("string", link_aucs(cosine(vectors), knowledge.held_out, knowledge, bench.scale.seeds))


def judge_degree(bench: Bench) -> Figures:
    """How far popularity alone gets: the edges that both genes have in STRING together."""
    knowledge, draws = bench.knowledge, bench.scale.seeds
    whole, part = knowledge.string.degree, knowledge.network("string", HELD_OUT).degree
    log = np.log1p(whole)[:, None].astype(np.float32)

    def make() -> Figures:
        figures = {"gene_pairs_auc": [bench.pairs["test"].judge(degree_sum(whole))]}
        figures |= _named("biogrid", link_aucs(degree_sum(whole), knowledge.biogrid, knowledge, draws))
        figures |= _named("string", link_aucs(degree_sum(part), knowledge.held_out, knowledge, draws))
        for seed in range(draws):
            _extend(figures, pair_classifier(bench, Vectors.of(log), seed))
        return figures

    return _kept(bench, DEGREE, "all", Vectors.of(log), make)


def _named(name: str, links: dict[str, list[float]]) -> Figures:
    return {f"{name}_auc": links["random"], f"{name}_matched_auc": links["matched"]}


def _kept(bench: Bench, name: str, test: str, vectors: Vectors, make: Callable[[], Figures], seed: int = 0) -> Figures:
    settings: dict[str, JSON] = {
        "vectors": fingerprint(vectors), "knowledge": bench.knowledge.fingerprint, "seed": seed,
        "seeds": bench.scale.seeds, "quick": bench.scale == QUICK, "version": TESTS_VERSION,
    }  # fmt: skip
    figures: Figures = bench.store.result(f"{name}.{test}", settings, make)
    return figures


def _extend(figures: Figures, more: Figures) -> None:
    for key, values in more.items():
        figures.setdefault(key, []).extend(values)


def work(data: Path, out: Path, quick: bool, trainings: int, names: Iterable[str]) -> None:
    """Judge the methods that no other process has begun."""
    torch.set_num_threads(1)
    bench = open_bench(data, out, quick=quick, trainings=trainings)
    for name in names:
        try:
            (out / f"{name}.claim").touch(exist_ok=False)
        except FileExistsError:
            continue
        began = time.process_time()
        try:
            figures = judge(bench, name)
        except ModelError as error:  # the packaged vectors are not there
            print(f"{name}: {error}", flush=True)
            continue
        (out / f"{name}.figures").write_text(json.dumps(figures))
        print(
            f"{name}: {(time.process_time() - began) / 60:.1f} CPU minutes: {json.dumps(summary(figures))}", flush=True
        )


def summary(figures: Figures) -> dict[str, list[float]]:
    """Return mean and standard deviation (0 for one value) of each figure."""
    return {
        key: [round(float(np.mean(v)), 4), round(float(np.std(v, ddof=1)), 4) if len(v) > 1 else 0.0]
        for key, v in figures.items()
    }


def run_methods(options: argparse.Namespace, names: Sequence[str], out: Path) -> None:
    """Share the methods among processes of one thread each."""
    for mark in [*out.glob("*.claim"), *out.glob("*.figures")]:
        mark.unlink()
    order = sorted(names, key=lambda name: name not in LONGEST)
    call = f"work(Path({str(options.data)!r}), Path({str(out)!r}), {options.quick}, {options.trainings}, {order!r})"
    code = f"from pathlib import Path; from studies.gene_vectors import work; {call}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    workers = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(options.jobs)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit("a worker failed; the same command goes on")


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Return a Markdown table: a row for each method, mean ± standard deviation."""
    columns = (
        "gene_pairs_auc", "gene_pairs_form_auc", "gene_pairs_classifier_auc", "reactome_purity", "reactome_chance",
        "reactome_purity_no_common_set", "reactome_small_purity", "hallmark_purity", "hallmark_chance",
        "hallmark_purity_no_common_set", "string_auc", "string_matched_auc", "biogrid_auc", "biogrid_matched_auc",
    )  # fmt: skip
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in found.items():
        cells = [f"{figures[key][0]:.3f} ± {figures[key][1]:.3f}" if key in figures else "" for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    arguments = parser(__doc__, quick="2 seeds, few steps: does it run?")
    arguments.add_argument("--out", type=Path, default=Path("runs/gene_vectors"))
    arguments.add_argument("--methods", default=";".join(NAMES), help="names parted by semicolons; default: all")
    arguments.add_argument("--jobs", type=int, default=2)
    arguments.add_argument("--trainings", type=int, default=5, help="most times a method is learned on the whole graph")
    options = arguments.parse_args()
    data_folder(options.data, FILES)
    names = [name.strip() for name in options.methods.split(";")]
    if unknown := [name for name in names if name not in NAMES]:
        arguments.error(f"no method is called {', '.join(unknown)}; there are: {'; '.join(NAMES)}")
    out = options.out / ("quick" if options.quick else "full")
    out.mkdir(parents=True, exist_ok=True)
    run_methods(options, names, out)
    files = {name: out / f"{name}.figures" for name in names}
    found = {name: summary(json.loads(path.read_text())) for name, path in files.items() if path.is_file()}
    print(table(found))
    print(json.dumps({f"{figure}.{name}": value for name, each in found.items() for figure, value in each.items()}))


if __name__ == "__main__":
    run(main)
