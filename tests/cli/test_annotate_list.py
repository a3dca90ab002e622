from __future__ import annotations

import json
import socket
from pathlib import Path

import anndata
import pytest
from typed import Cli

from cell_lm.data.demo import OVARIAN_CANCER, demo_cells


def test_the_list_names_types_data_and_scores(cli: Cli) -> None:
    said = cli("annotate", "list")
    assert said.code == 0, said.err
    assert [line.split()[0] for line in said.out.splitlines()[1:4]] == ["blood", "ovarian-cancer", "pancreas"]
    assert "blood: B cell, CD14+ monocyte" in said.out
    assert "zheng_facs10 (CC BY 4.0)" in said.out
    found = json.loads(cli("annotate", "list", "--json").out)
    assert found["pancreas"]["types"][:2] == ["acinar", "activated_stellate"]
    assert all(0 < score["macro_f1"] < 1 for one in found.values() for score in one["scores"])


def test_cells_are_annotated_by_a_ready_annotator_without_a_network(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was asked"))
    adata = demo_cells()[OVARIAN_CANCER][::50].copy()
    adata.write_h5ad(tmp_path / "my.h5ad")
    said = cli("annotate", "predict", tmp_path / "my.h5ad", "--model", "ovarian-cancer")
    assert said.code == 0, said.err
    assert "cell_lm_label, cell_lm_confidence, cell_lm_novelty, cell_lm_label_set" in said.out
    found = anndata.read_h5ad(tmp_path / "my.annotated.h5ad")
    assert (found.obs["cell_lm_label"].astype(str) == found.obs["cell_type"].astype(str)).mean() > 0.9
    assert set(found.obs.loc[found.obs["cell_lm_label"] == "B_cell", "cell_lm_ontology"]) <= {"CL:0000236"}


@pytest.mark.parametrize("verb", [("predict",), ("evaluate", "--truth=cell_type")])
def test_an_unknown_name_is_answered_with_the_ready_ones(cli: Cli, tmp_path: Path, verb: tuple[str, ...]) -> None:
    demo_cells()[OVARIAN_CANCER][:5].copy().write_h5ad(tmp_path / "my.h5ad")
    said = cli("annotate", verb[0], tmp_path / "my.h5ad", "--model=lung", *verb[1:])
    assert said.code == 1
    assert said.error.startswith("lung: it does not exist")
    assert "blood, ovarian-cancer, pancreas" in said.error
