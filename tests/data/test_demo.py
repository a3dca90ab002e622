from __future__ import annotations

import time
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from cell_lm.data.demo import HELD_OUT, OVARIAN_CANCER, PANCREAS, demo_cells
from cell_lm.genes import resolve_genes

RARE = {PANCREAS: {"epsilon"}, OVARIAN_CANCER: set()}


@pytest.fixture(scope="module")
def cells() -> dict[str, AnnData]:
    return demo_cells()


def test_the_files_are_small_and_read_fast() -> None:
    sizes = [
        item.stat().st_size for item in (files("cell_lm") / "resources").iterdir() if item.name.startswith("demo_")
    ]  # type: ignore[attr-defined]
    assert len(sizes) == 2
    assert sum(sizes) <= 6_000_000
    start = time.process_time()
    demo_cells()
    assert time.process_time() - start < 3.0  # 0.5 s on an idle machine


@pytest.mark.parametrize("name", [PANCREAS, OVARIAN_CANCER])
def test_counts_are_raw_and_every_cell_and_gene_has_some(cells: dict[str, AnnData], name: str) -> None:
    X = cells[name].X
    assert isinstance(X, sparse.csr_matrix)
    assert X.dtype == np.float32
    assert X.has_canonical_format
    assert (X.data > 0).all()
    assert (X.data == np.round(X.data)).all()
    assert X.getnnz(axis=1).min() >= 500
    assert X.getnnz(axis=0).min() >= 1
    assert np.median(np.asarray(X.sum(axis=1))) > 3_000


@pytest.mark.parametrize("name", [PANCREAS, OVARIAN_CANCER])
def test_every_gene_is_protein_coding(cells: dict[str, AnnData], name: str) -> None:
    audit = resolve_genes(cells[name].var_names)
    assert audit.used == cells[name].n_vars
    assert audit.counts()["renamed"] > 100


@pytest.mark.parametrize("name", [PANCREAS, OVARIAN_CANCER])
def test_cells_are_labelled_and_named(cells: dict[str, AnnData], name: str) -> None:
    obs = cells[name].obs
    assert list(obs.columns) == ["cell_type", "donor", "tissue", "disease", "malignant", "assay", "malignancy"]
    assert all(isinstance(dtype, pd.CategoricalDtype) for dtype in obs.dtypes)
    assert not obs.isna().any(axis=None)
    assert obs.index.is_unique
    assert obs["donor"].nunique() == 3
    assert obs["cell_type"].value_counts().min() >= 10


@pytest.mark.parametrize("name", [PANCREAS, OVARIAN_CANCER])
def test_holding_out_a_donor_leaves_every_common_type_in_both_parts(cells: dict[str, AnnData], name: str) -> None:
    obs = cells[name].obs
    held_out = obs["donor"] == HELD_OUT[name]
    assert 0.2 < held_out.mean() < 0.5
    types = set(obs["cell_type"])
    assert set(obs.loc[~held_out, "cell_type"]) == types
    assert set(obs.loc[held_out, "cell_type"]) == types - RARE[name]
    common = obs["cell_type"].value_counts().loc[lambda counts: counts >= 100].index
    table = pd.crosstab(obs["cell_type"], held_out).loc[common]
    assert table.to_numpy().min() >= 10


def test_state_is_that_of_the_cell_and_normal_cells_are_in_both(cells: dict[str, AnnData]) -> None:
    pancreas, ovarian = cells[PANCREAS].obs, cells[OVARIAN_CANCER].obs
    assert set(pancreas["malignancy"]) == {"normal"}
    assert (ovarian["malignancy"].eq("tumour") == ovarian["cell_type"].eq("Epithelial")).all()
    assert (ovarian["malignancy"].eq("tumour") == ovarian["malignant"].eq("putative")).all()
    assert ovarian["malignancy"].eq("normal").sum() > 900
    assert (
        ovarian.groupby("donor", observed=True)["malignancy"]
        .apply(lambda malignancy: malignancy.eq("tumour").sum())
        .min()
        >= 100
    )


@pytest.mark.parametrize(
    ("name", "accession", "marks"),
    [
        (PANCREAS, "GSE84133", {"beta": "INS", "alpha": "GCG", "delta": "SST", "acinar": "PRSS1"}),
        (
            OVARIAN_CANCER,
            "E-MTAB-8107",
            {"Epithelial": "EPCAM", "T_cell": "CD3D", "B_cell": "CD79A", "Macrophage": "CD68"},
        ),
    ],
)
def test_labels_belong_to_their_cells(
    cells: dict[str, AnnData], name: str, accession: str, marks: dict[str, str]
) -> None:
    adata = cells[name]
    assert accession in adata.uns["accession"]
    assert all(adata.uns[key] for key in ("source", "citation", "licence", "cut", "x_is"))
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    for cell_type, gene in marks.items():
        share = adata[:, gene].X.toarray().ravel() / depth
        means = pd.Series(share).groupby(adata.obs["cell_type"].to_numpy()).mean()
        assert means.idxmax() == cell_type


def test_every_call_returns_cells_of_its_own(cells: dict[str, AnnData]) -> None:
    again = demo_cells()[PANCREAS]
    again.X.data[:] = 0
    assert cells[PANCREAS].X.data.min() > 0


def test_a_type_that_both_data_sets_have_has_one_name_where_names_are_harmonised(cells: dict[str, AnnData]) -> None:
    harmonised = demo_cells(harmonise=True)
    types = {name: set(each.obs["cell_type"]) for name, each in harmonised.items()}
    assert types[PANCREAS] & types[OVARIAN_CANCER] == {"endothelial", "macrophage"}
    everything = types[PANCREAS] | types[OVARIAN_CANCER]
    assert len({name.lower().replace("_", " ") for name in everything}) == len(everything) == 16
    for name, each in harmonised.items():
        published = cells[name].obs["cell_type"].astype(str)
        assert each.obs["published_type"].tolist() == published.tolist()
        assert len(types[name]) == published.nunique()
        assert pd.crosstab(each.obs["cell_type"], published).gt(0).sum(axis=1).max() == 1
