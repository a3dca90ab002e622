"""Annotators that come with the package: fitted classifiers, found by name, with a record of their data and scores.

Each is the folder of an estimator whose encoder is the packaged model ``small``, recorded by name and hash, with a card
(``README.md``) and ``annotator.json``. ``scripts/make_annotators.py`` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cell_lm.reading import read_json_object

ABOUT = "annotator.json"
_READY = Path(__file__).parents[1] / "resources" / "annotators"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataRecord(_Record):
    """A data set that an annotator learned from."""

    name: str
    cells: int
    donors: int
    source: str
    licence: str


class ScoreRecord(_Record):
    """Scores on cells of a donor or data set that was left out of the fit."""

    test: str
    """Which cells."""
    cells: int
    types: int
    macro_f1: float
    low: float
    """Lower bound of the 95 % interval of the macro-F1, over cells of this set."""
    high: float
    accuracy: float
    ece: float
    """Expected calibration error."""
    confused: str = ""
    """The pair of types that is confused most, and how often."""


class About(_Record):
    """Record of an annotator (``annotator.json``)."""

    title: str
    tissue: str
    data: tuple[DataRecord, ...]
    harmonised: dict[str, dict[str, str]] = {}
    """By data set: the label there, and the type of the annotator."""
    recipe: str
    tested: str
    """What the scores are of."""
    scores: tuple[ScoreRecord, ...]
    limits: tuple[str, ...]

    @property
    def macro_f1(self) -> float:
        """Mean macro-F1 of the left-out donors or data sets."""
        return sum(score.macro_f1 for score in self.scores) / len(self.scores)


def ready_annotators() -> list[str]:
    """Return the names of the annotators in the package."""
    return sorted(path.parent.name for path in _READY.glob(f"*/{ABOUT}"))


def find(path: str | Path) -> Path:
    """Return the folder of an estimator: a path, or the name of an annotator of the package.

    A folder of that name in the working directory comes first.
    """
    place = Path(path)
    if place.exists() or str(path) not in ready_annotators():
        return place
    return _READY / str(path)


def about(name: str) -> About:
    """Return the record of an annotator of the package."""
    values: dict[str, Any] = read_json_object(_READY / name / ABOUT)
    return About.model_validate(values)
