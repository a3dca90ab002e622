"""Folders of fitted estimators as input of a verb: one that belongs to another verb is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from cell_lm.errors import ModelError
from cell_lm.tasks import folder, ready

Task: TypeAlias = Literal["annotate", "malignancy", "sensitivity", "response"]

_TASKS: dict[str, tuple[Task, str]] = {
    "MalignancyClassifier": ("malignancy", "a classifier of tumour and normal cells"),
    "DrugSensitivityClassifier": ("sensitivity", "a classifier of drug sensitivity"),
    "DrugResponseRegressor": ("response", "a regressor of drug response"),
}
"""The verb of each estimator, and what it is; all others annotate."""


def refuse_other_task(path: Path, task: Task) -> None:
    """Raise :class:`ModelError` for the folder of an estimator that another verb takes, and name that verb."""
    place = ready.find(path)
    if not (place / folder.MANIFEST).is_file():
        return
    kind = folder.read_manifest(place).estimator
    theirs, what = _TASKS.get(kind, ("annotate", "a classifier of cell types"))
    if theirs != task:
        raise ModelError(f"it is {what} ({kind})", where=str(path), fix=f"Use it with cell-lm {theirs} predict")
