from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from cell_lm import tl
from cell_lm.data import from_anndata
from cell_lm.errors import InputError
from cell_lm.tasks import CellTypeClassifier
from cell_lm.tasks.attribution import attribute
from cell_lm.tasks.attribution.curves import SHARES
from typed_cells import TYPES, tiny_model, typed_adata


@pytest.fixture(scope="module")
def classifier() -> CellTypeClassifier:
    return CellTypeClassifier(tiny_model()).fit(typed_adata(200), "cell_type", groups="donor")


@pytest.fixture
def adata() -> AnnData:
    return typed_adata(30, seed=1)


def called(classifier: CellTypeClassifier, adata: AnnData) -> np.ndarray:
    return np.asarray(classifier.predict(adata).astype(str))


def test_the_table_is_the_mean_over_the_cells_of_each_called_label(classifier, adata):
    table = tl.gene_attribution(adata, classifier)
    labels = called(classifier, adata)
    assert set(table["label"]) == set(labels)
    cells = from_anndata(adata)
    values = attribute(classifier, cells, np.array([TYPES_SORTED.index(name) for name in labels])).values
    for name, rows in table.groupby("label", observed=True):
        mean = np.asarray(values[labels == name].mean(axis=0)).ravel()
        order = [cells.vocabulary.symbols.index(gene) for gene in rows["gene"].head(20)]
        np.testing.assert_allclose(rows["attribution"].head(20), mean[order], atol=1e-5)
        assert rows["attribution"].is_monotonic_decreasing
        assert (rows["cells"] == (labels == name).sum()).all()


TYPES_SORTED = sorted(TYPES)


def test_what_is_known_of_it_goes_into_uns_and_survives_a_file(classifier, adata, tmp_path):
    before = adata.X.copy()
    table = tl.gene_attribution(adata, classifier, n_cells=2, per_cell=True)
    tl.deletion_curve(adata, classifier, n_cells=2, shares=[0.0, 0.5, 1.0], seeds=1)
    about = adata.uns["cell_lm_attribution"]
    assert about["method"] == "integrated_gradients"
    assert 0 <= about["gap"] < 1e-3
    assert about["cells"] == table.groupby("label", observed=True)["cells"].first().sum()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    kept = back.uns["cell_lm_attribution"]["table"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, table, check_categorical=False, check_dtype=False, check_index_type=False)
    assert set(back.uns["cell_lm_deletion"]["table"]["order"]) == set(adata.uns["cell_lm_deletion"]["table"]["order"])
    assert abs(back.layers["cell_lm_attribution"] - adata.layers["cell_lm_attribution"]).max() == 0
    assert abs(adata.X - before).max() == 0


def test_single_cells_stand_at_their_own_genes(classifier, adata):
    adata = adata[:, ::-1].copy()
    tl.gene_attribution(adata, classifier, per_cell=True, n_cells=3, method="gradient")
    layer = adata.layers["cell_lm_attribution"]
    assert layer.shape == adata.shape
    explained = np.flatnonzero(np.diff(layer.indptr))
    labels = called(classifier, adata)
    assert len(explained) == sum(min(3, size) for size in np.unique(labels, return_counts=True)[1])
    cells = from_anndata(adata)
    targets = np.array([TYPES_SORTED.index(name) for name in labels])
    values = attribute(classifier, cells, targets, method="gradient").values[explained]
    np.testing.assert_allclose(layer[explained].toarray(), values.toarray()[:, cells.audit.columns], atol=1e-5)


def test_merged_genes_share_an_attribution(classifier, adata):
    adata.var_names = [*adata.var_names[:-1], adata.var_names[0]]
    tl.gene_attribution(adata, classifier, per_cell=True, n_cells=3, method="gradient")
    layer = adata.layers["cell_lm_attribution"].toarray()
    np.testing.assert_array_equal(layer[:, 0], layer[:, -1])
    assert layer[:, 0].any()


def test_a_named_target_is_explained_for_all_and_a_column_for_each(classifier, adata):
    tl.gene_attribution(adata, classifier, target="alpha", per_cell=True, key_added="alpha", method="gradient")
    adata.obs["all alpha"] = ["alpha"] * 29 + [None]
    table = tl.gene_attribution(
        adata, classifier, target="all alpha", per_cell=True, key_added="column", method="gradient"
    )
    assert set(table["label"]) == {"alpha"}
    assert (table["cells"] == 29).all()
    alpha, column = (adata.layers[key].toarray() for key in ("alpha", "column"))
    np.testing.assert_allclose(alpha[:29], column[:29], atol=1e-6)
    assert not column[29].any()


def test_labels_of_a_column_may_be_averaged_over(classifier, adata):
    table = tl.gene_attribution(adata, classifier, groupby="donor", method="gradient", n_cells=None)
    sizes = table.groupby("label", observed=True)["cells"].first()
    assert sizes.to_dict() == adata.obs["donor"].value_counts().to_dict()


def test_a_deletion_curve_tells_orders_shares_and_areas(classifier, adata, tmp_path):
    classifier.save(tmp_path / "ann")
    table = tl.deletion_curve(adata, tmp_path / "ann", methods=["gradient", "attention"], n_cells=3)
    areas = table.groupby("order")["area"].first()
    assert set(areas.index) == {"gradient", "attention", "random", "random, equally expressed"}
    assert areas["gradient"] < areas["random"]
    assert table["deleted"].drop_duplicates().tolist() == list(SHARES)
    assert adata.uns["cell_lm_deletion"]["table"].equals(table)


def test_progress_is_told_of_every_cell(classifier, adata):
    told: list[int] = []
    tl.gene_attribution(adata, classifier, n_cells=None, method="gradient", progress=told.append)
    assert sum(told) == 30
    told.clear()
    tl.deletion_curve(adata, classifier, n_cells=None, methods=["gradient"], seeds=1, progress=told.append)
    assert sum(told) == 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"method": "magic"}, "no method is called 'magic'"),
        ({"target": "omega"}, "target 'omega' is neither a class of the classifier nor a column of obs"),
        ({"target": "donor"}, r"holds 3 labels that the classifier lacks \('d1'\)"),
        ({"groupby": "Donor"}, "Did you mean 'donor'"),
        ({"n_cells": 0}, "n_cells is 0"),
        ({"steps": 0}, "steps = 0"),
        ({"key_added": "mine"}, "holds something else"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_written(classifier, adata, words, says):
    adata.uns["mine"] = {"precious": 1}
    before = str(adata)
    with pytest.raises(InputError, match=says):
        tl.gene_attribution(adata, classifier, **words)
    assert str(adata) == before


def test_single_cells_never_replace_a_layer_that_is_not_from_here(classifier, adata):
    adata.layers["counts"] = adata.X.copy()
    words = {"method": "gradient", "n_cells": 2}
    with pytest.raises(InputError, match=r"layers\['counts'\] is what is read"):
        tl.gene_attribution(adata, classifier, layer="counts", per_cell=True, key_added="counts", **words)
    with pytest.raises(InputError, match=r"layers\['counts'\].* holds something else.*another key_added"):
        tl.gene_attribution(adata, classifier, per_cell=True, key_added="counts", **words)
    assert "counts" not in adata.uns
    tl.gene_attribution(adata, classifier, key_added="counts", **words)  # writes a table of that name, and no layer
    with pytest.raises(InputError, match="holds something else"):
        tl.gene_attribution(adata, classifier, per_cell=True, key_added="counts", **words)
    assert abs(adata.layers["counts"] - adata.X).max() == 0


def test_single_cells_replace_those_of_an_earlier_call_unless_they_are_what_is_read(classifier, adata, tmp_path):
    words = {"method": "gradient", "per_cell": True, "n_cells": 2, "key_added": "why"}
    tl.gene_attribution(adata, classifier, **words)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    adata = anndata.read_h5ad(tmp_path / "cells.h5ad")
    tl.gene_attribution(adata, classifier, **words | {"n_cells": 1})
    assert adata.uns["why"]["cells"] == np.count_nonzero(np.diff(adata.layers["why"].indptr))
    with pytest.raises(InputError, match=r"layers\['why'\] is what is read"):
        tl.gene_attribution(adata, classifier, layer="why", **words)


def test_cells_without_a_gene_are_refused_as_everywhere(classifier, adata):
    adata.X.data[adata.X.indptr[3] : adata.X.indptr[4]] = 0
    with pytest.raises(InputError, match="min_genes"):
        tl.gene_attribution(adata, classifier)
