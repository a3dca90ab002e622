"""Runs whose gene vectors start from a file, frozen or not: trained or left alone, resumed, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cell_lm.errors import ConfigError, InputError
from cell_lm.files import with_checksum
from cell_lm.genes import GeneVectors
from cell_lm.model import CellLM
from cell_lm.pretraining import pretrain
from cell_lm.pretraining.folder import KIND
from cell_lm.pretraining.run import initial_model
from toy_run import GENES, VOCABULARY, after, rows, same, tensors, toy_cells, toy_config

TABLE = "encoder.embedding.genes.weight"


def save_vectors(path: Path, seed: int = 0) -> Path:
    values = np.random.default_rng(seed).normal(size=(GENES, 20))
    known = np.arange(GENES) % 4 > 0
    GeneVectors.from_values(values, known, VOCABULARY, source="a test").save(path)
    return path


def run(path: Path, *, stop: Any = None, resume: bool = False, **training: Any) -> Any:
    config = toy_config(**training)
    return pretrain([toy_cells()], config, path, progress=False, stop=stop, resume=resume)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_vectors(tmp_path / "v.safetensors")


@pytest.mark.parametrize("encoder", [{}, {"attention": "latent"}, {"attention": "performer"}, {"gene_width": 8}])
def test_frozen_gene_vectors_are_the_same_to_the_bit_after_training(tmp_path: Path, file: Path, encoder: Any) -> None:
    config = toy_config(encoder, gene_vectors=str(file), freeze_gene_vectors=True, weight_decay=0.5)
    pretrain([toy_cells()], config, tmp_path / "run", progress=False)
    first, last = dict(initial_model([toy_cells()], config).named_parameters()), tensors(tmp_path / "run", 12)
    first = {name: parameter.detach() for name, parameter in first.items()}
    changed = {name for name in first if not np.array_equal(first[name].numpy(), last[name])}
    assert TABLE not in changed
    assert {name for name in first if "norm" not in name} - changed <= {TABLE}, "all else is trained"
    assert not [name for name in last if name.startswith(f"optimizer/{TABLE}")]
    model = CellLM.from_pretrained(tmp_path / "run")
    assert np.array_equal(model.encoder.embedding.genes.weight.detach().numpy(), first[TABLE].numpy())


def test_without_freezing_they_are_trained(tmp_path: Path, file: Path) -> None:
    run(tmp_path / "run", gene_vectors=str(file))
    config = toy_config(gene_vectors=str(file))
    first = initial_model([toy_cells()], config).state_dict()[TABLE].numpy()
    assert not np.array_equal(first, tensors(tmp_path / "run", 12)[TABLE])


def test_the_log_says_how_many_genes_start_from_where_and_data_json_which_file_it_was(
    tmp_path: Path, file: Path
) -> None:
    run(tmp_path / "run", gene_vectors=str(file), freeze_gene_vectors=True)
    (note,) = [row for row in rows(tmp_path / "run", "note") if row["message"].startswith("gene vectors")]
    assert note["step"] == 0
    assert "30 of 40 start from" in note["message"]
    assert "the other 10 at random; all are frozen" in note["message"]
    described = json.loads((tmp_path / "run" / "data.json").read_text())["gene_vectors"]
    assert described["name"] == "v.safetensors"
    assert len(described["hash"]) == 64


def test_a_resumed_frozen_run_equals_the_uninterrupted_one_to_the_bit(tmp_path: Path, file: Path) -> None:
    settings = {"gene_vectors": str(file), "freeze_gene_vectors": True}
    run(tmp_path / "whole", **settings)
    run(tmp_path / "run", stop=after(6), **settings)
    run(tmp_path / "run", resume=True, **settings)
    assert same(tensors(tmp_path / "run", 12), tensors(tmp_path / "whole", 12))


def test_a_run_goes_on_with_the_same_file_elsewhere_and_not_with_another_one(tmp_path: Path, file: Path) -> None:
    run(tmp_path / "run", stop=after(6), gene_vectors=str(file))
    moved = Path(shutil.copy(file, tmp_path / "moved.safetensors"))
    save_vectors(file, seed=1)
    with pytest.raises(InputError, match=r"the gene vectors of 'v\.safetensors' are not those"):
        run(tmp_path / "run", resume=True, gene_vectors=str(file))
    assert run(tmp_path / "run", resume=True, gene_vectors=str(moved)).steps == 12


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"freeze_gene_vectors": True}, r"training\.freeze_gene_vectors: False, now True"),
        ({"gene_vectors": "random"}, r"training\.gene_vectors: .*v\.safetensors, now random"),
    ],
)
def test_another_start_or_freezing_is_refused(tmp_path: Path, file: Path, changed: Any, found: str) -> None:
    run(tmp_path / "run", stop=after(6), gene_vectors=str(file))
    with pytest.raises(ConfigError, match=found):
        run(tmp_path / "run", resume=True, **({"gene_vectors": str(file)} | changed))


def test_a_file_that_is_not_there_stops_a_run_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        run(tmp_path / "run", gene_vectors=str(tmp_path / "absent"))
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_a_run_was_begun_without_changes_no_hash_at_its_default_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    settings = {"gene_vectors": "components"}
    frozen = toy_config(**settings, freeze_gene_vectors=True)
    assert KIND.hash(toy_config(**settings)) == KIND.hash(toy_config()) != KIND.hash(frozen)
    run(tmp_path / "run", stop=after(6), **settings)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["training"]["freeze_gene_vectors"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(with_checksum(config)))
    assert run(tmp_path / "run", resume=True, **settings).steps == 12
