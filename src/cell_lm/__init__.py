"""A single-cell language model for AnnData: pretrain it on your own cells, embed and annotate with it.

>>> import cell_lm
>>> model = cell_lm.CellLM.from_pretrained("run/")
>>> cell_lm.tl.embed(adata, model)  # adata.obsm["X_cell_lm"]
>>> classifier = cell_lm.CellTypeClassifier(model).fit(reference, "cell_type", groups="donor")
>>> cell_lm.tl.annotate(adata, classifier)  # adata.obs["cell_lm_label"]
>>> cell_lm.genes.similar("CD3D")  # genes near it in networks of genes

Names are loaded when they are first used: torch and scanpy take seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cell_lm._version import __version__

if TYPE_CHECKING:
    from cell_lm import errors, genes, pl, pp, tl
    from cell_lm.genes.vocabulary import Vocabulary
    from cell_lm.model import CellLM
    from cell_lm.tasks.annotation import CellTypeClassifier
    from cell_lm.tasks.malignancy import MalignancyClassifier
    from cell_lm.tasks.response.regressor import DrugResponseRegressor
    from cell_lm.tasks.sensitivity import DrugSensitivityClassifier

__all__ = [
    "CellLM",
    "CellTypeClassifier",
    "DrugResponseRegressor",
    "DrugSensitivityClassifier",
    "MalignancyClassifier",
    "Vocabulary",
    "__version__",
    "errors",
    "genes",
    "pl",
    "pp",
    "tl",
]

_MODULES = ("errors", "genes", "pl", "pp", "tl")
_HOMES = {
    "CellLM": "cell_lm.model",
    "CellTypeClassifier": "cell_lm.tasks.annotation",
    "DrugResponseRegressor": "cell_lm.tasks.response.regressor",
    "DrugSensitivityClassifier": "cell_lm.tasks.sensitivity",
    "MalignancyClassifier": "cell_lm.tasks.malignancy",
    "Vocabulary": "cell_lm.genes.vocabulary",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"cell_lm.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cell_lm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
