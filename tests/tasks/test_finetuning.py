"""Fine-tuning: what is trained, what is not, and when the frozen encoder is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.utils import parametrize

from cell_lm.config import EncoderConfig, FineTuneConfig
from cell_lm.data import from_anndata
from cell_lm.data.view import CellView
from cell_lm.errors import ConfigError, InputError, ModelError
from cell_lm.evaluation import linear_head
from cell_lm.evaluation.linear_head import LinearHead, fit_head
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.tasks.features import embed_cells
from cell_lm.tasks.finetuning import FineTuned, fine_tune, fine_tuning, tuning
from cell_lm.tasks.finetuning.step import FineTuneStep, LabelledCells
from cell_lm.tasks.finetuning.trainable import merge, prepare
from cell_lm.tasks.finetuning.tuning import hold_out
from typed_cells import typed_adata, with_reference

PARTS = ("refinement", "last", "lora", "all")
Objects = NDArray[np.object_]
QUICK = {"steps": 12, "batch_size": 32, "validate_every": 4, "learning_rate": 3e-3, "token_budget": 8192}


@pytest.fixture(autouse=True)
def _one_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try one strength of the head only: that it is chosen is tested elsewhere."""
    monkeypatch.setattr(linear_head, "GRID", (0.1,))


@pytest.fixture(scope="module")
def model() -> CellLM:
    """An encoder whose transformer has no part in CLS, as that of the packaged model."""
    shape = {"attention": "latent", "width": 16, "layers": 2, "heads": 2, "head_width": 8, "feedforward": 24}
    shape |= {"gene_width": 8, "latents": 4, "reference_genes": 200, "attended_genes": 48}
    made = with_reference(CellLM(EncoderConfig.model_validate(shape), Vocabulary.human()))
    torch.nn.init.zeros_(made.encoder.readout.correction.weight)
    return made


@pytest.fixture
def corrected(model: CellLM) -> CellLM:
    """The same with a transformer that has its part in CLS."""
    made = CellLM(model.config, model.vocabulary)
    made.load_state_dict(model.state_dict())
    torch.nn.init.ones_(made.encoder.readout.correction.weight)
    return made


@pytest.fixture(scope="module")
def cells() -> CellView:
    return CellView.of(from_anndata(typed_adata(110)))


@pytest.fixture(scope="module")
def labels(cells: CellView) -> Objects:
    return cells.obs()["cell_type"].to_numpy(object)


@pytest.fixture(scope="module")
def donors(cells: CellView) -> Objects:
    return cells.obs()["donor"].to_numpy(object)


@cache
def head_of(model: CellLM, cells: CellView) -> LinearHead:
    return fit_head(embed_cells(model, cells), cells.obs()["cell_type"].to_numpy(object))


def step_of(model: CellLM, cells: CellView, labels: Objects, part: str, **changes: object) -> FineTuneStep:
    config = FineTuneConfig.model_validate({**QUICK, "part": part, **changes})
    head = head_of(model, cells)
    codes, rows = np.searchsorted(head.classes, labels.astype(str)), np.arange(len(cells))
    copied = tuning.prepared(model, config)
    return FineTuneStep(copied, head, LabelledCells(cells, codes, rows[25:], rows[:25]), config)


def gradients(step: FineTuneStep) -> dict[str, torch.Tensor]:
    step.module.zero_grad()
    step.gradient(3)
    return {name: p.grad.clone() for name, p in step.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("part", PARTS)
def test_step_0_is_the_frozen_classifier(model: CellLM, cells: CellView, labels: Objects, part: str) -> None:
    step = step_of(model, cells, labels, part)
    logits = torch.cat([each.detach() for each in step._logits(np.arange(len(cells)))])
    expected = head_of(model, cells).probabilities(embed_cells(model, cells))
    np.testing.assert_allclose(torch.softmax(logits, dim=1), expected, atol=1e-3)


@pytest.mark.parametrize("part", PARTS)
def test_it_learns_and_the_given_model_stays(
    model: CellLM, cells: CellView, labels: Objects, donors: Objects, part: str
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = FineTuneConfig.model_validate({**QUICK, "part": part, "repeat": False, "patience": 3})
    steps: list[int] = []
    tuned = fine_tune(model, cells, labels, donors, config, progress=lambda done, _: steps.append(done))
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert steps
    assert tuned.looks[0].step == 0
    assert tuned.unit == "donor"
    assert len(set(donors[tuned.left_out])) == 1
    assert {*tuned.model.state_dict()} == {*before}  # an ordinary model, whatever was trained
    if tuned.best_step:
        able = [look for look in tuned.looks if look.macro_f1 >= tuned.looks[0].macro_f1]
        assert min(able, key=lambda look: look.loss).step == tuned.best_step
        assert any(not torch.equal(tensor, before[name]) for name, tensor in tuned.model.state_dict().items())
        assert "fine-tuned for" in str(tuned)
    assert all(parameter.requires_grad for parameter in tuned.model.parameters())


@pytest.mark.parametrize(("part", "takes_part"), [("refinement", False), ("last", True), ("lora", True), ("all", True)])
def test_the_transformer_takes_part_where_it_is_trained(
    model: CellLM, cells: CellView, labels: Objects, part: str, takes_part: bool
) -> None:
    step = step_of(model, cells, labels, part)
    optimiser = step.optimiser()
    assert not step.readout.corrects
    step.gradient(0)
    optimiser.step()
    merge(step.model)
    assert step.readout.corrects == takes_part


def test_only_the_chosen_parameters_are_trained(model: CellLM, cells: CellView, labels: Objects) -> None:
    found = {part: gradients(step_of(model, cells, labels, part)) for part in PARTS}
    own = {part: {name for name in names if not name.startswith("head.")} for part, names in found.items()}
    assert {name.split(".")[0] for name in own["refinement"]} == {"norm", "refinement"}
    assert any("layers.1" in name for name in own["last"])
    assert not any("layers.0" in name or "embedding" in name for name in own["last"])
    assert all("parametrizations" in name for name in own["lora"])
    assert any("embedding.genes" in name for name in own["all"])


@pytest.mark.parametrize("part", ["refinement", "last"])
def test_dropout_is_on_in_training_and_off_in_prediction(
    corrected: CellLM, cells: CellView, labels: Objects, part: str
) -> None:
    step, rows = step_of(corrected, cells, labels, part), np.arange(20)
    with torch.no_grad():
        (_, first, counter), (_, second, other) = (next(step._encoded(rows, number)) for number in (0, 1))
        (_, plain, none), (_, again, _) = (next(step._encoded(rows, None)) for _ in range(2))
    assert counter is not None
    assert other is not None
    assert not torch.equal(counter.cells, other.cells)
    assert torch.equal(first, second) == (part == "refinement")  # the encoder's own: the refinement has none
    assert none is None
    assert torch.equal(plain, again)
    np.testing.assert_allclose(plain, embed_cells(corrected, cells[rows])[: len(plain)], atol=1e-4)
    before_the_head = step_of(corrected, cells, labels, part, dropout=0.5).gradient(0).total
    assert before_the_head != step.gradient(0).total
    assert step.gradient(0).total == step.gradient(0).total  # a function of seed and step
    assert step.validate() == step.validate()


@pytest.mark.parametrize("thinning", [False, True])
def test_chunks_change_nothing(model: CellLM, cells: CellView, labels: Objects, thinning: bool) -> None:
    whole, cut = (
        gradients(step_of(model, cells, labels, "last", token_budget=budget, thinning=thinning))
        for budget in (1 << 20, 2_000)
    )
    assert whole.keys() == cut.keys()
    for name, grad in whole.items():
        torch.testing.assert_close(grad, cut[name], rtol=1e-3, atol=1e-5)


def test_thinning_reads_half_the_counts_in_every_second_step(model: CellLM, cells: CellView, labels: Objects) -> None:
    step = step_of(model, cells, labels, "refinement", thinning=True)
    rows = np.arange(60)
    full, whole, half = (step._tokens(rows, number).depths for number in (None, 2, 3))
    assert torch.equal(full, whole)
    assert (half / full).mean() == pytest.approx(0.5, abs=0.02)


def test_balanced_classes_weigh_the_same(model: CellLM, cells: CellView, labels: Objects) -> None:
    step = step_of(model, cells, labels, "refinement")
    sizes = np.bincount(step.labelled.codes[step.labelled.train])
    np.testing.assert_allclose(step.weights.numpy() * sizes, sizes.sum() / len(sizes), rtol=1e-5)
    assert (step_of(model, cells, labels, "refinement", balanced=False).weights == 1).all()


def test_the_same_seed_gives_the_same_model(model: CellLM, cells: CellView, labels: Objects) -> None:
    config = FineTuneConfig.model_validate({**QUICK, "part": "lora", "steps": 4, "repeat": False})
    first, second = (fine_tune(model, cells, labels, None, config) for _ in range(2))
    assert first.unit == "cell"
    assert first.looks == second.looks
    pairs = zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_without_a_better_step_the_frozen_model_is_returned(
    model: CellLM, cells: CellView, labels: Objects, donors: Objects
) -> None:
    config = FineTuneConfig.model_validate({**QUICK, "learning_rate": 30.0, "clip": 1e6, "patience": 2})
    tuned = fine_tune(model, cells, labels, donors, config)
    assert tuned.best_step == 0
    assert tuned.model is model
    assert str(tuned).startswith("not fine-tuned: no step predicted the ")
    assert same_head(tuned, model, cells, labels, donors)


def same_head(tuned: FineTuned, model: CellLM, cells: CellView, labels: Objects, donors: Objects | None) -> bool:
    frozen = fit_head(embed_cells(model, cells), labels, groups=donors)
    return np.array_equal(tuned.head.coefficients, frozen.coefficients)


def test_too_few_cells_leave_the_model_as_it_is(model: CellLM, cells: CellView, labels: Objects) -> None:
    few = np.sort([np.flatnonzero(labels == name)[0] for name in np.unique(labels)])
    tuned = fine_tune(model, cells[few], labels[few], None, FineTuneConfig())
    assert (tuned.best_step, tuned.looks, tuned.model) == (0, (), model)
    assert "too few cells" in str(tuned)


def test_the_temperature_is_that_of_cells_left_out(
    model: CellLM, cells: CellView, labels: Objects, donors: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FineTuneConfig.model_validate({**QUICK, "steps": 24, "patience": 10})
    calls: list[float] = []
    once = tuning._divided
    monkeypatch.setattr(tuning, "_divided", lambda head, t: calls.append(t) or once(head, 2.0))
    tuned = fine_tune(model, cells, labels, donors, config)
    assert tuned.best_step > 0
    plain = fit_head(embed_cells(tuned.model, cells), labels, groups=donors)
    assert len(calls) == 1
    np.testing.assert_allclose(tuned.head.coefficients, plain.coefficients / 2.0)


def test_donors_are_left_out_whole() -> None:
    codes, donors = np.arange(100) % 2, np.repeat([f"d{i}" for i in range(10)], 10).astype(object)
    left_out = hold_out(codes, donors, 0.2, seed=1)
    assert left_out.sum() == 20
    assert not {*donors[left_out]} & {*donors[~left_out]}
    assert not hold_out(codes, np.full(100, "one", object), 0.2, 0).any()
    assert not hold_out(codes, np.where(codes == 1, "a", "b").astype(object), 0.2, 0).any()  # each has one class
    cells = hold_out(codes, None, 0.2, 0)
    assert np.bincount(codes[cells]).tolist() == [10, 10]


def test_a_model_without_a_linear_path_has_no_refinement(make_config: Callable[..., EncoderConfig]) -> None:
    plain = CellLM(make_config("full", linear_path=False), Vocabulary.human())
    with pytest.raises(ModelError, match="no refinement to train"):
        prepare(plain, FineTuneConfig(part="refinement"))
    prepare(plain, FineTuneConfig(part="last"))
    assert plain.encoder.layers[-1].norm_forward.weight.requires_grad
    with pytest.raises(ConfigError, match="layers = 3, and the model has 2"):
        prepare(plain, FineTuneConfig(part="last", layers=3))


def test_merged_changes_leave_plain_layers(make_config: Callable[..., EncoderConfig]) -> None:
    model = CellLM(make_config("latent"), Vocabulary.human())
    prepare(model, FineTuneConfig(part="lora", rank=2))
    layer = model.encoder.layers[0].forward_block.rise
    before = layer.weight.detach().clone()
    low = layer.parametrizations.weight[0]
    torch.nn.init.ones_(low.up)
    expected = before + low.up.detach() @ low.down.detach()
    merge(model)
    assert not any(parametrize.is_parametrized(module) for module in model.modules())
    torch.testing.assert_close(layer.weight.detach(), expected)


def test_labels_must_be_those_of_the_cells(model: CellLM, cells: CellView, labels: Objects) -> None:
    with pytest.raises(InputError, match="109 labels of 4 kinds for 110 cells"):
        fine_tune(model, cells, labels[1:])


def test_the_parameter_of_an_estimator() -> None:
    assert fine_tuning(None, seed=3, where="it") is None
    assert fine_tuning("lora", seed=3, where="it") == FineTuneConfig(part="lora", seed=3)
    assert fine_tuning({"steps": 5, "seed": 1}, seed=3, where="it") == FineTuneConfig(steps=5, seed=1)
    for wrong, found in (("everything", "'part'"), ({"stepps": 1}, "'stepps' is not a known setting"), (7, "is a int")):
        with pytest.raises(ConfigError, match=found):
            fine_tuning(wrong, seed=0, where="it")
