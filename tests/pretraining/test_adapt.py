"""Adaptation of a model that knows some cell types to cells that have more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cell_lm.config import AdaptConfig, EncoderConfig
from cell_lm.data import CellData, from_anndata
from cell_lm.data.loading.batch import CellBatch
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.errors import GeneError, InputError, ModelError
from cell_lm.genes.reference import Reference, compute_reference
from cell_lm.genes.vocabulary import Vocabulary
from cell_lm.model import CellLM
from cell_lm.pretraining import adapt as adapt_module
from cell_lm.pretraining.adapt import RefinementStep, adapt
from typed_cells import typed_adata

QUICK = AdaptConfig(steps=60, batch_size=64, validate_every=15, new_genes=100, learning_rate=3e-3)
Configs = Callable[..., EncoderConfig]


def everything(cells: CellData) -> CellBatch:
    return Tokeniser(6, 16384)(cells, np.arange(len(cells)))


@pytest.fixture(scope="module")
def cells() -> CellData:
    return from_anndata(typed_adata(260), name="mine.h5ad")


@pytest.fixture(scope="module")
def model(cells: CellData) -> CellLM:
    """A model whose reference comes from two of the four types."""
    # attention reads all genes: genes that join the reference change which ones are the furthest from expectation
    shape = {"attention": "latent", "width": 24, "layers": 1, "heads": 2, "head_width": 8, "feedforward": 48}
    shape |= {"gene_width": 16, "latents": 4, "reference_genes": 200, "attended_genes": 2048}
    config = EncoderConfig.model_validate(shape)
    known = typed_adata(200, seed=1)
    known = from_anndata(known[known.obs["cell_type"].isin(["alpha", "beta"])].copy())
    made = CellLM(config, known.vocabulary, seed=0)
    made.set_reference(compute_reference(everything(known).counts(len(known.vocabulary)), 200, 24))
    return made.eval()


@pytest.fixture(scope="module")
def adapted(model: CellLM, cells: CellData) -> CellLM:
    return adapt(model, [cells], QUICK, device="cpu")


def state(model: CellLM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_the_model_is_unchanged_and_the_result_is_another(model: CellLM, cells: CellData) -> None:
    before = state(model)
    result = adapt(model, [cells], QUICK.model_copy(update={"steps": 3}), device="cpu")
    assert same(before, model.state_dict())
    assert result is not model
    assert not np.allclose(result.encode(cells), model.encode(cells), atol=1e-2)
    assert not result.training


def test_genes_that_vary_in_the_new_cells_join_the_reference(model: CellLM, adapted: CellLM) -> None:
    before, after = model.reference, adapted.reference
    assert before is not None
    assert after is not None
    assert set(before.genes) < set(after.genes)
    assert len(after.genes) == len(before.genes) + QUICK.new_genes
    assert adapted.config.reference_genes == len(after.genes)
    assert adapted.residual_head.weight.shape == (len(after.genes), 24)


def test_adaptation_predicts_the_other_half_of_other_cells_better(
    model: CellLM, adapted: CellLM, cells: CellData
) -> None:
    """Of cells that took no part: better than the adapted linear path, and that explains more than the model's own."""
    others = from_anndata(typed_adata(200, seed=7))
    path_only = adapt(model, [cells], QUICK.model_copy(update={"steps": 0}), device="cpu")
    unexplained = []
    for each in (model, path_only, adapted):
        step = RefinementStep(each, everything(others), np.arange(100), np.arange(100, 200), QUICK)
        with torch.no_grad():
            first, second = each.encoder.readout.path.dense(step._halves(np.arange(100, 200), 0)).chunk(2)
        whole = torch.cat([first, second]).square().mean(dim=0)
        errors = step.validate().values["reconstruction"]
        unexplained.append(errors / float(whole.mean()))
    assert unexplained[2] < unexplained[1]
    assert unexplained[1] < unexplained[0]


def test_few_cells_another_vocabulary_and_a_model_without_path_are_refused(
    model: CellLM, cells: CellData, make_config: Configs
) -> None:
    with pytest.raises(InputError, match=r"mine\.h5ad.*199 cells.*at least 200"):
        adapt(model, [cells[:199]], QUICK)
    words = Vocabulary(cells.vocabulary.symbols[:-1], cells.vocabulary.ensembl[:-1])
    narrow = replace(cells, vocabulary=words, X=cells.X[:, :-1])
    with pytest.raises(GeneError, match="not the model's"):
        adapt(model, [narrow], QUICK)
    plain = CellLM(make_config("latent", linear_path=False), cells.vocabulary)
    with pytest.raises(ModelError, match="no linear path"):
        adapt(plain, [cells], QUICK)


def test_labels_are_not_read_and_the_result_is_a_function_of_the_cells(
    model: CellLM, adapted: CellLM, cells: CellData
) -> None:
    unlabelled = replace(cells, obs=cells.obs[[]], malignancy=np.full(len(cells), -1, np.int8))
    labelled = replace(cells, malignancy=np.arange(len(cells), dtype=np.int8) % 2)
    for each in (unlabelled, labelled):
        assert same(adapt(model, [each], QUICK, device="cpu").state_dict(), adapted.state_dict())


def test_the_weights_of_the_best_validation_are_kept(
    model: CellLM, cells: CellData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen, totals = RefinementStep.validate, list[dict[str, Tensor]](), iter([5.0, 3.0, 2.0, 4.0, 4.0, 4.0, 1.0])

    def scripted(self: RefinementStep) -> object:
        seen.append({name: tensor.clone() for name, tensor in self.module.state_dict().items()})
        found = whole(self)
        return replace(found, values=found.values | {"total": next(totals)})

    monkeypatch.setattr(RefinementStep, "validate", scripted)
    config = QUICK.model_copy(update={"steps": 300, "validate_every": 2, "patience": 3})
    told = []
    result = adapt(model, [cells], config, device="cpu", progress=lambda done, _: told.append(done))
    assert len(seen) == 6, "three validations without improvement end it"
    assert told == list(range(1, 11))
    readout = result.encoder.readout
    parts = {"norm": readout.norm, "refinement": readout.refinement, "residual_head": result.residual_head}
    final = torch.nn.ModuleDict(parts).state_dict()
    assert same(final, seen[2])
    assert not same(final, seen[5])


def with_transformer(model: CellLM) -> CellLM:
    """The model with a transformer that has its part in CLS."""
    active = CellLM(model.config, model.vocabulary, model.objectives, seed=0).eval()
    active.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for linear in (active.encoder.readout.correction, active.encoder.readout.to_state):
            linear.weight.copy_(0.3 * torch.randn(linear.weight.shape, generator=generator))
            linear.bias.copy_(torch.randn(linear.bias.shape, generator=generator))
    return active


def residuals_of_cls(model: CellLM, cells: CellData) -> np.ndarray:
    """CLS as the residuals that it stands for, of the vocabulary, centred on these cells."""
    reference = model.reference
    assert reference is not None
    cls = model.encode(cells) * float(model.encoder.readout.path.scale)
    found = np.zeros((len(cells), len(model.vocabulary)))
    found[:, reference.genes] = cls @ reference.components.T
    return found - found.mean(axis=0)


def test_what_the_transformer_adds_survives_the_change_of_basis(
    model: CellLM, cells: CellData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same span in another basis, of another length and centre: nothing but the coordinates may change."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0].astype(np.float32)

    def turned(before: Reference, *_: object, **__: object) -> Reference:
        centre, spread = before.centre @ rotation + 1, 3 * before.spread
        return replace(before, components=before.components @ rotation, centre=centre, spread=spread)

    monkeypatch.setattr(adapt_module, "extend_reference", turned)
    active, config = with_transformer(model), QUICK.model_copy(update={"steps": 0})
    before, linear = residuals_of_cls(active, cells), residuals_of_cls(model, cells)
    added = np.linalg.norm(before - linear)
    assert added > 0.1 * np.linalg.norm(linear)
    result = adapt(active, [cells], config)
    assert np.linalg.norm(residuals_of_cls(result, cells) - before) < 1e-4 * added
    with torch.no_grad():
        logits = [each.malignancy_head(torch.from_numpy(each.encode(cells))) for each in (active, result)]
    assert (logits[1] - logits[0]).abs().max() < 1e-4 * logits[0].abs().max()
    monkeypatch.setattr(adapt_module, "_change_basis", lambda *_: None)
    broken = residuals_of_cls(adapt(active, [cells], config), cells)
    assert np.linalg.norm(broken - before) > 0.3 * added


def test_a_part_that_the_new_components_lack_is_not_amplified(model: CellLM, cells: CellData) -> None:
    active = with_transformer(model)
    result = adapt(active, [cells], QUICK.model_copy(update={"steps": 0, "weight": 0.9}))
    written = [
        float((each.encoder.readout.correction.weight.detach() * each.encoder.readout.path.scale).norm())
        for each in (active, result)
    ]
    assert written[1] <= written[0] * (1 + 1e-5)
