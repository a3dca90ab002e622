"""Attributions: what they sum to, what they equal, and that company changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

from cell_lm.config import EncoderConfig
from cell_lm.data import CellData
from cell_lm.data.loading.expression import log_expression
from cell_lm.data.loading.tokeniser import Tokeniser
from cell_lm.errors import ConfigError, GeneError, InputError, ModelError
from cell_lm.evaluation.calibration import log_softmax
from cell_lm.genes import Vocabulary
from cell_lm.model import CellLM
from cell_lm.nn import linear_path
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.attribution import METHODS, Attributions, Method, attribute
from cell_lm.tasks.attribution.explained import Explained, pieces
from typed_cells import with_reference

Explain = Callable[..., Attributions]


def classifier_of(
    attention: str, reference: CellData, views: tuple[str, ...] = ("model",), max_genes: int = 60
) -> CellTypeClassifier:
    shape = {"width": 32, "layers": 2, "heads": 2, "head_width": 16, "feedforward": 64, "gene_width": 32}
    config = EncoderConfig.model_validate(
        shape | {"attention": attention, "latents": 8, "features": 32, "max_genes": max_genes, "reference_genes": 300}
    )
    model = with_reference(CellLM(config, Vocabulary.human()))
    return CellTypeClassifier(model, views=views).fit(reference, "cell_type")


@pytest.fixture(scope="module", params=["full", "latent", "performer"])
def classifier(request: pytest.FixtureRequest, reference_cells: CellData) -> CellTypeClassifier:
    return classifier_of(request.param, reference_cells[:60])


@pytest.fixture(scope="module")
def cells(query_cells: CellData) -> CellData:
    return query_cells[:7]


def called(classifier: CellTypeClassifier, cells: CellData) -> NDArray[np.int64]:
    return np.asarray(classifier.predict_proba(cells)).argmax(axis=1)


def logits(classifier: CellTypeClassifier, cells: CellData) -> NDArray[np.float64]:
    """Of each class less the mean of the others, from the probabilities: what they share cancels."""
    log = np.log(np.asarray(classifier.predict_proba(cells)))
    classes = log.shape[1]
    return (log - log.mean(axis=1, keepdims=True)) * classes / (classes - 1)


def methods_of(classifier: CellTypeClassifier) -> list[Method]:
    performer = classifier.model.config.attention == "performer"
    return [method for method in METHODS if method != "attention" or not performer]


def test_integrated_gradients_sum_to_the_difference_of_the_scores(classifier, cells):
    targets = called(classifier, cells)
    found = attribute(classifier, cells, targets, steps=32)
    assert np.abs(found.score - found.nothing).min() > 1e-2
    assert found.gap < 1e-4
    assert attribute(classifier, cells, targets, steps=1).gap > 10 * found.gap  # and the steps do matter
    assert attribute(classifier, cells, targets, method="gradient").gap > 10 * found.gap


def test_the_score_is_the_logit_of_the_target_less_the_mean_of_the_others(classifier, cells):
    for target in range(len(classifier.classes_)):
        found = attribute(classifier, cells, np.full(len(cells), target), method="gradient")
        np.testing.assert_allclose(found.score, logits(classifier, cells)[:, target], atol=1e-3)


def test_occlusion_of_a_gene_is_the_difference_of_two_predictions(reference_cells, cells):
    classifier = classifier_of("latent", reference_cells[:60])
    cells = kept_short(cells, genes=20)
    targets = called(classifier, cells)
    found = attribute(classifier, cells, targets, method="occlusion")
    explained = found.values[0]
    for gene in explained.indices[::5]:
        rest = np.delete(np.arange(explained.nnz), np.searchsorted(explained.indices, gene))
        batch_without = score_without(classifier, cells[:1], explained.indices[rest], targets[:1])
        assert explained[0, gene] == pytest.approx(found.score[0] - batch_without, abs=1e-5)


def kept_short(cells: CellData, genes: int) -> CellData:
    X = cells.X[:, :].tolil()
    for row in range(len(cells)):
        for gene in cells.X[row].indices[genes:]:
            X[row, gene] = 0
    short = sparse.csr_matrix(X)
    short.eliminate_zeros()
    return replace(cells, X=short)


def score_without(
    classifier: CellTypeClassifier, cell: CellData, genes: NDArray[np.int64], target: NDArray[np.int64]
) -> float:
    """The score of a cell from those genes' tokens alone, at its own depth, by forward pass and head."""
    config = classifier.model.config
    batch = Tokeniser(config.bins, config.max_genes)(cell, np.arange(1))
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        depths = classifier.model.encoder.readout.path.residuals(batch, None).depths
        patch.setattr(linear_path, "_sum_by_cell", lambda *_: depths)
        kept = batch.keep(torch.from_numpy(np.isin(batch.genes.numpy(), genes)))
        cls = classifier.model.encoder(kept, hidden=None, counter=None, only_cls=True).cls.numpy()
    log = classifier.pool_.linear["model"].logits(cls)[0]
    return float(log[target[0]] - np.delete(log, target[0]).mean())


def test_all_linear_views_take_part(reference_cells, cells, monkeypatch):
    monkeypatch.setattr("cell_lm.pretraining.adapt.LEAST_CELLS", 50)
    monkeypatch.setattr("cell_lm.tasks.annotation.classifier.LEAST_CELLS", 50)
    classifier = classifier_of("latent", reference_cells, ("genes", "components", "model", "adapted"), max_genes=1_400)
    assert {"genes", "adapted"} <= set(classifier.pool_.linear)
    targets = called(classifier, cells)
    found = attribute(classifier, cells, targets, steps=32)
    np.testing.assert_allclose(found.score, logits(classifier, cells)[np.arange(len(cells)), targets], atol=1e-3)
    assert found.gap < 1e-4
    alone = replace(Explained.of(classifier), encoders=())
    _, batch = next(alone.blocks(cells))
    presence = torch.ones(1, batch.tokens)
    linear = classifier.pool_.linear["genes"].logits(log_expression(cells))
    probabilities = alone.probabilities(batch, presence)[0]
    np.testing.assert_allclose(probabilities, np.exp(log_softmax(linear)), atol=1e-5)


def test_a_graph_alone_cannot_be_explained(reference_cells, cells):
    classifier = classifier_of("latent", reference_cells[:60])
    classifier.pool_ = replace(classifier.pool_, linear={})
    with pytest.raises(ConfigError, match="no view that is linear"):
        attribute(classifier, cells, called_first(cells))


def called_first(cells: CellData) -> NDArray[np.int64]:
    return np.zeros(len(cells), np.int64)


def test_a_cell_gets_the_same_whatever_its_company_its_place_and_the_budget(classifier, cells):
    cells = cells[:3]
    targets = called(classifier, cells)
    for method in methods_of(classifier):
        whole = attribute(classifier, cells, targets, method=method).values.toarray()
        backwards = attribute(classifier, cells[::-1], targets[::-1], method=method).values.toarray()[::-1]
        small = attribute(classifier, cells, targets, method=method, token_budget=200).values.toarray()
        tolerance = 1e-4 * np.abs(whole).max()
        np.testing.assert_allclose(backwards, whole, atol=tolerance)
        np.testing.assert_allclose(small, whole, atol=tolerance)


def test_every_gene_that_is_read_has_a_number_and_no_other_gene(classifier, cells):
    for method in methods_of(classifier):
        values = attribute(classifier, cells, called(classifier, cells), method=method).values
        assert values.dtype == np.float32
        assert np.isfinite(values.data).all()
        assert (np.diff(values.indptr) == np.minimum(cells.genes_per_cell, 60)).all()
        assert all(set(values[i].indices) <= set(cells.X[i].indices) for i in range(len(cells)))


def test_gradient_and_occlusion_agree_where_single_genes_matter_little(classifier, cells):
    targets = called(classifier, cells)
    gradient, occlusion = (
        attribute(classifier, cells, targets, method=method).values.data for method in ("gradient", "occlusion")
    )
    assert np.corrcoef(gradient, occlusion)[0, 1] > 0.9


def test_the_target_decides(classifier, cells):
    """Over all classes the scores sum to nothing, and so do the attributions."""
    number = len(classifier.classes_)
    each = [attribute(classifier, cells, np.full(len(cells), k), method="gradient").values for k in range(number)]
    assert abs(each[0] - each[1]).max() > 1e-3
    assert abs(sum(each[1:], each[0])).max() < 1e-4 * max(abs(values).max() for values in each)


def test_roll_out_gives_shares_that_are_not_negative(reference_cells, cells):
    for attention in ("full", "latent"):
        classifier = classifier_of(attention, reference_cells[:60])
        values = attribute(classifier, cells, called(classifier, cells), method="attention").values
        assert values.data.min() >= 0
        assert (values.sum(axis=1) > 0.05).all()
        assert (values.sum(axis=1) < 1).all()


def test_the_model_is_as_it_was(classifier, cells):
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    for method in methods_of(classifier):
        attribute(classifier, cells, called(classifier, cells), method=method)
    assert all(value.equal(before[name]) for name, value in classifier.model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.model.parameters())
    assert not any(module._forward_pre_hooks for module in classifier.model.modules())


@pytest.mark.parametrize(("costs", "variants", "budget"), [([3, 1, 4, 1, 5], 2, 10), ([9, 9], 7, 20), ([1], 5, 1)])
def test_pieces_cover_all_once_and_keep_to_the_budget(costs, variants, budget):
    seen = np.zeros((variants, len(costs)), int)
    for cells, some in pieces(np.array(costs), variants, budget):
        seen[some, cells] += 1
        cost = sum(costs[cells]) * (some.stop - some.start)
        assert cost <= budget or (cells.stop - cells.start, some.stop - some.start) == (1, 1)
    assert (seen == 1).all()


def test_what_cannot_be_asked_is_refused(reference_cells, cells):
    latent, performer = (classifier_of(kind, reference_cells[:60]) for kind in ("latent", "performer"))
    targets = called(latent, cells)
    with pytest.raises(InputError, match=r"no method is called 'magic'.*Choose one of integrated_gradients"):
        attribute(latent, cells, targets, method="magic")
    with pytest.raises(InputError, match="a performer never forms"):
        attribute(performer, cells, targets, method="attention")
    with pytest.raises(InputError, match="targets of shape"):
        attribute(latent, cells, targets + 4)
    with pytest.raises(InputError, match="steps = 0"):
        attribute(latent, cells, targets, steps=0)
    with pytest.raises(ModelError, match="not been fitted"):
        attribute(CellTypeClassifier(latent.model), cells, targets)
    small = Vocabulary(cells.vocabulary.symbols[:1500], cells.vocabulary.ensembl[:1500])
    with pytest.raises(GeneError, match="another vocabulary"):
        attribute(latent, replace(cells, vocabulary=small, X=cells.X[:, :1500]), targets)
