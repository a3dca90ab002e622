from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pytest
import scanpy
import torch
from scipy import sparse

from cell_lm import model_folder
from cell_lm.config import EncoderConfig, ObjectivesConfig
from cell_lm.data.cells import CellData, from_anndata
from cell_lm.data.loading.tokeniser import NOMINAL_DEPTH, Tokeniser
from cell_lm.errors import CellLMError, ConfigError, GeneError, ModelError
from cell_lm.files import with_checksum
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from made_reference import made_reference

ATTENTIONS = ("full", "latent", "performer")
Configs = Callable[..., EncoderConfig]


@pytest.fixture(scope="module")
def cells() -> CellData:
    rng = np.random.default_rng(0)
    genes = Vocabulary.human().symbols[:1500]
    X = sparse.csr_matrix(rng.poisson(0.05 * rng.gamma(1, 1, (40, 1500))).astype(np.float32))
    adata = anndata.AnnData(X)
    adata.var_names = list(genes)
    return from_anndata(adata, min_overlap=100)


def active(config: EncoderConfig, vocabulary: Vocabulary) -> CellLM:
    """A model with a reference, whose transformer has its part in CLS."""
    model = CellLM(config, vocabulary)
    model.set_reference(made_reference(len(vocabulary), config.reference_genes, config.width))
    if config.linear_path:
        generator = torch.Generator().manual_seed(0)
        for linear in (model.encoder.readout.correction, model.encoder.readout.refinement.out):
            torch.nn.init.normal_(linear.weight, std=0.2, generator=generator)
    return model


@pytest.mark.parametrize("expression", ["bins", "continuous"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_an_embedding_is_the_same_in_any_order_company_and_chunk(
    attention: str, expression: str, cells: CellData, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model = active(make_config(attention, expression=expression), vocabulary)
    together = model.encode(cells)
    order = np.random.default_rng(1).permutation(len(cells))
    variants = [
        model.encode(cells, token_budget=1),
        model.encode(cells, token_budget=150),
        model.encode(cells[order])[np.argsort(order)],
        np.concatenate([model.encode(cells[i : i + 1]) for i in range(len(cells))]),
    ]
    assert together.shape == (40, 32)
    assert together.dtype == np.float32
    for other in variants:
        distance = np.linalg.norm(other - together, axis=1) / np.linalg.norm(together, axis=1)
        assert distance.max() <= 1e-5


def test_scaling_the_counts_of_a_cell_changes_nothing_and_other_counts_do(
    cells: CellData, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model = active(make_config(linear_path=False), vocabulary)
    plain, tripled = model.encode(cells), model.encode(replace(cells, X=cells.X * 3))
    assert np.allclose(plain, tripled, atol=1e-5)
    assert np.linalg.norm(plain[0] - plain[1]) > 1e-3


def test_counts_that_say_nothing_of_the_depth_are_read_at_a_nominal_one(
    cells: CellData, make_config: Configs, vocabulary: Vocabulary
) -> None:
    """The linear path knows the depth: three times the counts are other evidence. TPM and the like have none."""
    model = active(make_config(), vocabulary)
    plain = model.encode(cells)
    assert np.linalg.norm(model.encode(replace(cells, X=cells.X * 3)) - plain) > 1e-2 * np.linalg.norm(plain)
    fractions = [model.encode(replace(cells, X=cells.X * np.float32(scale))) for scale in (0.37, 1.11)]
    assert np.allclose(*fractions, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    tokenise = Tokeniser(6, 4096)
    rows = np.arange(len(cells))
    assert torch.equal(tokenise(cells, rows).depths, torch.from_numpy(cells.X.sum(axis=1).A1))
    nominal = tokenise(replace(cells, X=cells.X * np.float32(0.37)), rows).depths
    assert (nominal == NOMINAL_DEPTH).all()


def test_the_logarithm_of_counts_gives_the_embedding_of_the_counts(
    make_config: Configs, vocabulary: Vocabulary
) -> None:
    """The counts and the depth are recovered from the steps between the values."""
    rng = np.random.default_rng(0)
    X = sparse.csr_matrix(rng.poisson(0.3 * rng.lognormal(0, 1.5, (40, 1500))).astype(np.float32))
    adata = anndata.AnnData(X)
    adata.var_names = list(vocabulary.symbols[:1500])
    logged = adata.copy()
    scanpy.pp.normalize_total(logged, target_sum=1e4)
    scanpy.pp.log1p(logged)
    counts, log = from_anndata(adata, min_overlap=100), from_anndata(logged, min_overlap=100, scale="log1p")
    assert log.scale == "log1p"
    model = active(make_config(), vocabulary)
    expected = model.encode(counts)
    assert np.linalg.norm(model.encode(log) - expected) <= 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_saved_model_comes_back_to_the_bit(
    attention: str, cells: CellData, make_config: Configs, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    objectives = ObjectivesConfig.model_validate({"contrastive": {"projection": 0}})
    model = CellLM(make_config(attention), vocabulary, objectives, seed=4)
    reference = made_reference(len(vocabulary), 64, 32)
    model.set_reference(reference)
    torch.nn.init.normal_(model.encoder.readout.correction.weight)
    model.redraw_features(9, 5000)
    model.save_pretrained(tmp_path / "model", notes="Trained on **nothing**.")
    again = CellLM.from_pretrained(tmp_path / "model")
    assert np.array_equal(again.encode(cells), model.encode(cells))
    assert again.config == model.config
    assert again.objectives == objectives
    for name in ("genes", "components", "centre", "spread", "profile"):
        assert np.array_equal(getattr(again.reference, name), getattr(reference, name))
    assert sorted(item.name for item in (tmp_path / "model").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "vocabulary.json",
    ]
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: cell-lm\n")
    assert "Trained on **nothing**." in card
    assert CellLM.from_pretrained(tmp_path).config == model.config  # a run folder that holds model/


def features(model: CellLM) -> torch.Tensor:
    found: torch.Tensor = model.encoder.layers[0].attention.directions.clone()
    return found


def test_random_features_are_a_function_of_the_seed_and_of_the_draw(
    make_config: Configs, vocabulary: Vocabulary
) -> None:
    model = CellLM(make_config("performer", redraw_every=10), vocabulary, seed=1)
    drawn = {}
    for seed, step in [(1, 0), (2, 0), (2, 9), (2, 10), (1, 10), (1, 5)]:
        model.redraw_features(seed, step)
        drawn[seed, step] = features(model)
    assert torch.equal(drawn[1, 0], drawn[1, 5])
    assert torch.equal(drawn[2, 0], drawn[2, 9])
    different = [drawn[key] for key in [(1, 0), (2, 0), (1, 10), (2, 10)]]
    assert all(not torch.equal(a, b) for i, a in enumerate(different) for b in different[:i])


def test_loaded_features_are_redrawn_for_a_seed_that_is_not_theirs(
    make_config: Configs, vocabulary: Vocabulary
) -> None:
    config = make_config("performer")
    first, second = CellLM(config, vocabulary, seed=1), CellLM(config, vocabulary, seed=2)
    expected = features(second)
    second.load_state_dict(first.state_dict())
    assert torch.equal(features(second), features(first)), "until then they are the loaded ones"
    second.redraw_features(2, 0)
    assert torch.equal(features(second), expected)


def test_bfloat16_embeddings_differ_from_float32_by_its_rounding_and_come_in_order(
    cells: CellData, make_config: Configs, vocabulary: Vocabulary
) -> None:
    for attention in ATTENTIONS:
        model, done = active(make_config(attention), vocabulary), list[int]()
        exact = model.encode(cells, token_budget=150)
        rounded = model.encode(cells, token_budget=150, precision="bfloat16", progress=done.append)
        assert rounded.dtype == np.float32
        assert 1e-5 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.05
        assert sum(done) == len(cells)
        assert len(done) > 3


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(
    make_config: Configs, vocabulary: Vocabulary
) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second, other = (CellLM(make_config(), vocabulary, seed=seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    weights = [torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_half_precision_is_smaller_on_disk_and_nearly_the_same_in_memory(
    attention: str, cells: CellData, make_config: Configs, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    model = active(make_config(attention), vocabulary)
    for half in (False, True):
        model.save_pretrained(tmp_path / str(half), half=half)
    sizes = [(tmp_path / str(half) / "model.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.65 * sizes[0]
    again = CellLM.from_pretrained(tmp_path / "True")
    assert {tensor.dtype for tensor in again.parameters()} == {torch.float32}
    exact = model.encode(cells)
    distance = np.linalg.norm(again.encode(cells) - exact) / np.linalg.norm(exact)
    assert 0 < distance < 1e-2
    again.save_pretrained(tmp_path / "again", half=True)
    assert np.array_equal(CellLM.from_pretrained(tmp_path / "again").encode(cells), again.encode(cells))


def test_only_another_model_is_replaced(make_config: Configs, vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = CellLM(make_config(), vocabulary)
    (tmp_path / "precious.txt").touch()
    with pytest.raises(CellLMError, match=r"something else than a model \(precious.txt\)"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "precious.txt").exists()
    for _ in range(2):
        model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "thesis.txt").touch()
    with pytest.raises(CellLMError, match=r"thesis\.txt"):
        model.save_pretrained(tmp_path / "model")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="not the configuration of a cell-lm model"):
        model.save_pretrained(tmp_path / "bert")


def damage_weights(folder: Path) -> None:
    path = folder / model_folder.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def truncate_weights(folder: Path) -> None:
    path = folder / model_folder.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def change_config(folder: Path, **values: object) -> None:
    path = folder / model_folder.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_setting(folder: Path, section: str, **values: object) -> None:
    config = json.loads((folder / model_folder.CONFIG).read_text())
    change_config(folder, **{section: config[section] | values})


def sign(folder: Path, **values: object) -> None:
    """Change settings of the encoder and make the checksum that of the changed ones, as only a forger would."""
    change_setting(folder, "encoder", **values)
    path = folder / model_folder.CONFIG
    path.write_text(json.dumps(with_checksum(json.loads(path.read_text()))))


def exchange_vocabulary(folder: Path) -> None:
    Vocabulary(("A",), ("",)).save(folder / model_folder.VOCABULARY)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "SHA-256"),
        (truncate_weights, "SHA-256"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "cannot be read"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "vocabulary"),
        (lambda folder: change_config(folder, format=99), "Upgrade cell-lm"),
        (lambda folder: change_config(folder, model_type="bert"), "not the configuration of a cell-lm model"),
        (lambda folder: change_config(folder, encoder={"widht": 3}), "not those that its checksum names"),
        (lambda folder: change_setting(folder, "encoder", max_genes=500), "not those that its checksum names"),
        (lambda folder: change_setting(folder, "objectives", contrastive={}), "not those that its checksum names"),
        (lambda folder: change_config(folder, cell_lm_version="9"), "not those that its checksum names"),
        (lambda folder: change_config(folder, note="mine"), "not those that its checksum names"),
        (lambda folder: change_config(folder, format=-3), "format"),
        (lambda folder: change_config(folder, format=0), "format"),
        (lambda folder: change_config(folder, format=True), "format"),
        (lambda folder: change_config(folder, format=1.0), "format"),
        (exchange_vocabulary, "vocabulary.json: its SHA-256"),
        (lambda folder: sign(folder, layers=10**6), "layers"),
        (lambda folder: sign(folder, width=10**9), "'width' Input should be less"),
        (lambda folder: sign(folder, feedforward=10**15), "'feedforward' Input should be less"),
        (lambda folder: sign(folder, gene_width=10**7), "'gene_width' Input should be less"),
        (lambda folder: sign(folder, heads=10**9), "'heads' Input should be less"),
        (lambda folder: sign(folder, layers=512), "numbers or more"),
        (lambda folder: sign(folder, gene_width=16384), "ask for"),
        (lambda folder: sign(folder, layers=1), "does not fit its configuration"),
        (lambda folder: sign(folder, layers=-1), "layers"),
    ],
)
def test_a_damaged_model_folder_is_refused_in_one_line(
    damage: Callable[[Path], object], message: str, make_config: Configs, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    CellLM(make_config(), vocabulary).save_pretrained(folder)
    damage(folder)
    with pytest.raises((ModelError, ConfigError)) as caught:
        CellLM.from_pretrained(folder)
    assert isinstance(caught.value, CellLMError)
    assert "\n" not in str(caught.value)
    assert message in str(caught.value)


def test_the_card_of_a_model_may_be_edited(make_config: Configs, vocabulary: Vocabulary, tmp_path: Path) -> None:
    model = CellLM(make_config(), vocabulary)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("Mine.")
    read = CellLM.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(tensor, read[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/folder"])
def test_a_folder_that_is_not_there_is_said_to_be_missing(path: str) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        CellLM.from_pretrained(path)


def test_what_is_no_path_is_refused_by_its_kind() -> None:
    with pytest.raises(ModelError, match="NoneType"):
        CellLM.from_pretrained(None)  # type: ignore[arg-type]


def test_a_hub_repository_that_cannot_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*args: object, **settings: object) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match=r"someone/model: is neither .* \(no route to host\)") as caught:
        CellLM.from_pretrained("someone/model")
    assert "\n" not in str(caught.value)


def test_a_hub_repository_is_read_like_a_folder(
    make_config: Configs, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    model = CellLM(make_config(), vocabulary)
    model.save_pretrained(tmp_path / "snapshot")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **settings: str(tmp_path / "snapshot"))
    assert CellLM.from_pretrained("someone/model").config == model.config


def test_cells_of_another_vocabulary_are_refused(cells: CellData, make_config: Configs, vocabulary: Vocabulary) -> None:
    other = Vocabulary(vocabulary.symbols[:100], vocabulary.ensembl[:100])
    model = CellLM(make_config(), other)
    with pytest.raises(GeneError, match=r"vocabulary=model\.vocabulary"):
        model.encode(cells)


def test_past_the_token_limit_the_highest_expressed_genes_are_read(
    cells: CellData, make_config: Configs, vocabulary: Vocabulary
) -> None:
    model = active(make_config(max_genes=20), vocabulary)
    lowest = cells.X.copy()
    for row in range(lowest.shape[0]):
        part = slice(lowest.indptr[row], lowest.indptr[row + 1])
        values = lowest.data[part]
        if len(values) > 20 and values.max() > 1:
            values[np.argmax(values)] += 50  # now one gene stands out and the limit must keep it
    limited = model.encode(replace(cells, X=lowest))
    assert np.abs(limited - model.encode(cells)).max() > 1e-4
