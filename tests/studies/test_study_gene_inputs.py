"""The study of gene vectors: arms differ in those alone, probes judge other cells than they fit, results add up."""

from __future__ import annotations

import fcntl
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cell_lm.data import CellData, from_anndata
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.genes.vectors import GeneVectors
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.pretraining.run import initial_model
from typed_cells import TYPES, tiny_model, typed_adata

pytest.importorskip("benchmarks", reason="benchmarks are not part of a source distribution")
from benchmarks import probes
from studies import gene_inputs, netmf_vectors
from studies.arms import result_file, seed_major, spread, unclaimed
from studies.gene_inputs import Arm, configuration, default_arms, vectors_setting, with_baselines
from studies.gene_inputs_report import report
from studies.gene_inputs_settings import Settings

FILES = {"graphmae": Path("graphmae.safetensors"), "netmf": Path("netmf.safetensors")}
TOY = Settings(32, "light", 1024, targets=("toy",), shots=(1, 3), draws=2, batch=16, validation=0.1)


@pytest.fixture(scope="module")
def cells() -> CellData:
    return from_anndata(typed_adata(96, seed=1))


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    vocabulary = Vocabulary.human()
    known = np.arange(len(vocabulary)) < 700
    values = np.random.default_rng(0).standard_normal((len(vocabulary), 80))
    path = tmp_path / "graphmae.safetensors"
    GeneVectors.from_values(values, known, vocabulary, source="toy").save(path)
    return path


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("random", Arm("random")),
        ("random frozen", Arm("random", frozen=True)),
        ("network+coexpression", Arm("network+coexpression")),
        ("graphmae", Arm("graphmae")),
        ("graphmae+coexpression frozen", Arm("graphmae", joined=True, frozen=True)),
        ("coexpression, before pretraining", Arm("coexpression", trained=False)),
    ],
)
def test_the_name_of_an_arm_says_what_it_is(name: str, arm: Arm) -> None:
    assert Arm.parse(name, FILES) == arm


@pytest.mark.parametrize("name", ["node2vec", "coexpression+graphmae", "random frozen frozen", "random+coexpression"])
def test_an_unknown_arm_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"there are: random; .*netmf\+coexpression"):
        Arm.parse(name, FILES)


def test_every_arm_that_is_there_by_default_can_be_read() -> None:
    names = with_baselines(default_arms(FILES))
    assert {"random", "netmf frozen", "graphmae frozen", "coexpression", "graphmae+coexpression"} <= set(names)
    assert names[0] == "logistic regression"
    assert names.count("graphmae, before pretraining") == 1
    assert all(Arm.parse(name, FILES) for name in names[1:])


def test_a_stopped_run_has_equally_many_seeds_of_each_arm() -> None:
    assert seed_major(["a", "b"], 2) == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_a_job_is_taken_once_and_again_after_its_process_died(tmp_path: Path) -> None:
    jobs, file = seed_major(["a", "b, c"], 1), partial(result_file, tmp_path)
    with file("a", 0).with_suffix(".claim").open("w") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        assert [name for name, *_ in unclaimed(jobs, file)] == ["b, c"]
    for name, _, result in unclaimed(jobs, file):
        assert [other for other, *_ in unclaimed(jobs, file)] == [each for each, _ in jobs if each != name]
        result.write_text("{}")
        break
    assert [name for name, *_ in unclaimed(jobs, file)] == ["b, c"]


@pytest.mark.parametrize("name", ["graphmae", "coexpression", "graphmae+coexpression"])
def test_arms_start_from_the_same_weights_but_for_the_gene_vectors(
    cells: CellData, vectors: Path, tmp_path: Path, name: str
) -> None:
    states = []
    for each in ("random", name):
        arm = Arm.parse(each, {"graphmae": vectors})
        setting = vectors_setting(arm, [cells], TOY, 3, {"graphmae": vectors}, tmp_path / "joined.safetensors")
        states.append(initial_model([cells], configuration(arm, TOY, 3, setting)).state_dict())
    differ = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert differ == ["encoder.embedding.genes.weight"]
    assert states[1][differ[0]].std() == pytest.approx(float(states[0][differ[0]].std()), rel=0.1)


def test_vectors_joined_to_coexpression_know_the_genes_of_both(cells: CellData, vectors: Path, tmp_path: Path) -> None:
    arm, files, out = Arm("graphmae", joined=True), {"graphmae": vectors}, tmp_path / "joined.safetensors"
    assert vectors_setting(arm, [cells], TOY, 0, files, out) == str(out)
    known = GeneVectors.load(out).known
    assert known[:700].all()
    assert 700 < known.sum() <= 1400


def test_only_a_frozen_arm_freezes() -> None:
    assert not configuration(Arm("random"), TOY, 0, "random").training.freeze_gene_vectors
    assert configuration(Arm("random", frozen=True), TOY, 0, "random").training.freeze_gene_vectors


def test_few_cells_are_so_many_of_each_type_and_at_most_half_of_a_rare_one() -> None:
    labels = np.array(["a"] * 30 + ["b"] * 7 + ["c"], object)
    draws = list(probes.few_cells(labels, 5, 3, seed=0))
    for chosen in draws:
        assert {name: int((labels[chosen] == name).sum()) for name in "abc"} == {"a": 5, "b": 3, "c": 1}
    assert not np.array_equal(draws[0], draws[1])
    assert all(map(np.array_equal, draws, probes.few_cells(labels, 5, 3, seed=0)))


def test_labels_are_judged_on_cells_that_took_no_part_in_the_fit() -> None:
    labels = np.array(["a", "b", "c"] * 20, object)
    seen: list[tuple[int, int]] = []

    def all_knowing(fit: probes.Rows, judged: probes.Rows) -> probes.Labels:
        assert not set(fit) & set(judged)
        seen.append((len(fit), len(judged)))
        return labels[judged]

    figures = probes.judge_labels(all_knowing, labels, 0, shots=(1, 4), draws=2)
    assert figures == {"probe": 1.0, "shots_1": 1.0, "shots_4": 1.0}
    assert seen == [(48, 12), (3, 57), (3, 57), (12, 48), (12, 48)]


def test_a_probe_learns_from_labels_and_not_from_shuffled_ones(cells: CellData) -> None:
    labels = probes.labels_of(cells)
    shuffled = np.random.default_rng(0).permutation(labels)
    scores = []
    for each in (labels, shuffled):
        predict = probes.linear_probe(tiny_model().encode(cells), each, 0)
        scores.append(probes.judge_labels(predict, each, 0, shots=(), draws=0)["probe"])
    assert scores[0] > scores[1] + 0.2
    assert set(predict(np.arange(80), np.arange(80, 96))) <= set(TYPES)


def test_logistic_regression_sees_the_same_splits(cells: CellData) -> None:
    figures = probes.judge_labels(probes.rival_probe(cells, 0), probes.labels_of(cells), 0, shots=(3,), draws=1)
    assert set(figures) == {"probe", "shots_3"}
    assert figures["probe"] > 0.5


def unsure(model: CellLM) -> CellLM:
    """The model with logits near zero, so that no bin is likelier than another by the luck of the draw."""
    with torch.no_grad():
        for parameter in model.expression_head[-1].parameters():
            parameter.mul_(0.02)
    return model


def test_models_of_one_seed_are_asked_for_the_same_genes(cells: CellData, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Tokeniser(6, 1024)(cells, np.arange(20))
    ask = partial(probes.hidden_genes, rate=0.15, seed=5, draws=2)
    (nats, right, asked), (_, _, others) = (ask(unsure(tiny_model(seed)), [batch]) for seed in (0, 1))
    assert np.array_equal(asked, others)
    assert asked.sum() == pytest.approx(2 * 0.15 * batch.tokens, rel=0.1)
    assert nats.sum() / asked.sum() == pytest.approx(np.log(6), rel=0.02)
    assert 0 < right.sum() < asked.sum()
    monkeypatch.setattr(probes, "CHUNK", 500)
    cut = ask(unsure(tiny_model(0)), [batch])
    assert np.array_equal(cut[2], asked)
    np.testing.assert_allclose(cut[0], nats, rtol=1e-4, atol=1e-4)


def test_a_study_keeps_each_result_once_and_reports_it(
    cells: CellData, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gene_inputs, "read_pretraining", lambda folder: [cells])
    monkeypatch.setattr(gene_inputs, "read_target", lambda folder, name: cells)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(gene_inputs, "keep_large_blocks", lambda: None)
    out, files = tmp_path / "study", {"graphmae": vectors}
    out.mkdir()
    jobs = seed_major(["logistic regression", "random", "graphmae frozen", "graphmae, before pretraining"], 1)
    call = partial(gene_inputs.work, "nowhere", str(out), TOY.to_json(), {"graphmae": str(vectors)}, jobs)
    key = Settings.key(gene_inputs.job_settings("random", TOY, files))
    half_made = result_file(out, "random", 0, key).with_suffix(".run")
    half_made.mkdir()
    (half_made / "config.json").write_text("{")
    call()
    kept = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert sorted(Path(name).suffix for name in kept) == [".json"] * 4 + [".npz"] * 2
    call()
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == kept
    lines = list(report(out, files))
    arms = json.loads(lines[-1])["arms"]
    assert next(iter(arms)) == "logistic regression"
    assert {"masked", "masked_known", "masked_other", "probe", "toy.shots_3"} <= set(arms["graphmae frozen"])
    assert "masked" not in arms["graphmae, before pretraining"]
    whole, known, others = (arms["random"][f"masked{part}"]["mean"] for part in ("", "_known", "_other"))
    assert min(known, others) <= whole <= max(known, others)


def _result(out: Path, arm: str, seed: int, probe: float, vectors: str = "", cells: int = 32) -> None:
    settings = {**Settings(cells, "light", 1024, targets=("toy",)).to_json(), "vectors": vectors}
    path = result_file(out, arm, seed, Settings.key(settings))
    figures = {"masked": 1 - probe, "toy.probe": probe}
    path.write_text(json.dumps({"arm": arm, "seed": seed, "settings": settings, "figures": figures}))


def test_differences_are_taken_seed_by_seed(tmp_path: Path) -> None:
    for seed, probe in enumerate((0.1, 0.5, 0.9)):
        _result(tmp_path, "random", seed, probe)
        _result(tmp_path, "network", seed, probe + 0.05)
    _result(tmp_path, "random", 3, 0.3)
    lines = list(report(tmp_path, {}))
    figure = json.loads(lines[-1])["arms"]["network"]["probe"]
    assert (figure["mean"], figure["difference_mean"], figure["difference_sd"]) == (0.55, 0.05, 0.0)
    assert figure["difference_seeds"] == 3
    assert any(line.startswith("| network | 3 | -0.050 ± 0.000 (3) | +0.050 ± 0.000 (3) |") for line in lines)


def test_results_of_other_settings_and_of_older_vectors_are_not_mixed_in(tmp_path: Path) -> None:
    import os

    for place, (vectors, cells, probe) in enumerate([("old", 32, 0.1), ("new", 32, 0.2), ("new", 64, 0.3)]):
        _result(tmp_path, "graphmae", 0, probe, vectors, cells)
        newest = max(tmp_path.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (place, place))
    summaries = [json.loads(line) for line in report(tmp_path, {}) if line.startswith("{")]
    assert [each["arms"]["graphmae"]["probe"]["mean"] for each in summaries] == [0.2, 0.3]


def test_netmf_of_an_edge_file_becomes_a_file_of_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = Vocabulary.human().symbols[:40]
    edges, out = tmp_path / "edges.csv", tmp_path / "netmf.safetensors"
    rows = [f"{symbols[i]},{symbols[(i * step + 1) % 40]},0.9" for i in range(40) for step in (1, 3)]
    edges.write_text("gene_a,gene_b,score\n" + "\n".join(rows) + "\n")
    monkeypatch.setattr("sys.argv", ["netmf_vectors", str(edges), "--out", str(out), "--width", "8"])
    netmf_vectors.main()
    vectors = GeneVectors.load(out)
    assert (len(vectors), vectors.width) == (40, 8)
    assert np.square(vectors.values[vectors.known]).mean() == pytest.approx(1.0, rel=0.01)


def test_spread_is_mean_and_deviation_over_seeds() -> None:
    assert spread([0.1, 0.3]) == "0.200 ± 0.141"
    assert spread([0.1, 0.3], sign=True) == "+0.200 ± 0.141"
    assert spread([]) == ""
