"""One label a type: nothing can be left out, so CLS is trusted only on a tissue that the linear path covers."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm import CellLM, CellTypeClassifier
from cell_lm.data.demo import OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.data.obs.labels import LabelWarning
from cell_lm.tasks.annotation.tissue import LEAST, VARIABLE, covered_variance


def test_the_variance_of_the_most_variable_genes_is_shared_out() -> None:
    x = np.zeros((4, VARIABLE + 50))
    x[::2, :VARIABLE] = 2.0  # variance 1 each
    x[::2, 10] = 4.0  # variance 4
    x[::2, VARIABLE:] = 0.2  # too little to be among them
    x[:, 20] += 5.0  # a mean is no variance
    log = sparse.csr_matrix(x)
    total = VARIABLE + 3
    assert covered_variance(log, np.arange(VARIABLE)) == pytest.approx(1.0)
    assert covered_variance(log, np.array([10])) == pytest.approx(4 / total)
    assert covered_variance(log, np.array([10, 20, VARIABLE + 3])) == pytest.approx(5 / total)
    assert covered_variance(log, np.array([], int)) == 0.0


def test_cells_that_are_all_the_same_are_covered() -> None:
    assert covered_variance(sparse.csr_matrix(np.ones((3, 5))), np.array([1])) == 1.0


@pytest.fixture(scope="module")
def small() -> CellLM:
    return CellLM.from_pretrained("small")


def one_a_type(name: str) -> AnnData:
    cells = demo_cells()[name]
    return cells[~cells.obs["cell_type"].duplicated()].copy()


def test_on_a_tissue_that_the_encoder_lacks_cls_is_left_out_with_one_label_a_type(small: CellLM) -> None:
    cells = one_a_type(PANCREAS)
    with pytest.warns(LabelWarning, match=r"^\d\d% of what varies among the labelled cells .* CLS is left out"):
        classifier = CellTypeClassifier(small).fit(cells, "cell_type", min_cells=1)
    assert set(classifier.weights_) == {"genes", "components"}
    assert (classifier.predict(cells) == cells.obs["cell_type"].astype(str)).all()


def test_on_a_tissue_that_it_covers_cls_counts(small: CellLM) -> None:
    classifier = CellTypeClassifier(small).fit(one_a_type(OVARIAN_CANCER), "cell_type", min_cells=1)
    assert classifier.weights_["model"] > 0


def test_where_cells_can_be_left_out_these_decide(small: CellLM) -> None:
    cells = demo_cells()[PANCREAS]
    few = cells[cells.obs.groupby("cell_type", observed=True).cumcount() < 3].copy()
    assert "model" in CellTypeClassifier(small).fit(few, "cell_type", min_cells=3).weights_


def test_a_classifier_of_cls_alone_stays_one(small: CellLM) -> None:
    classifier = CellTypeClassifier(small, views=("model",)).fit(one_a_type(PANCREAS), "cell_type", min_cells=1)
    assert set(classifier.weights_) == {"model"}
    assert 0 < LEAST < 1
