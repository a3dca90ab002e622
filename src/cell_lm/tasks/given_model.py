"""The encoder of an estimator, given as a model, or by its name or path, which is read when it is first needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeAlias

from sklearn.base import BaseEstimator

from cell_lm.errors import ModelError
from cell_lm.model import CellLM
from cell_lm.model_folder import GIVE_MODEL

GivenModel: TypeAlias = CellLM | str | Path
"""A model; or the name of one of the package (``"small"``), the path of a model or run folder, or a repository of the
Hugging Face hub, as :meth:`cell_lm.model.CellLM.from_pretrained` reads them."""


class WithOptionalModel(BaseEstimator):  # type: ignore[misc]
    """Part of an estimator with a parameter ``model`` that may be None.

    The parameter stays as it was given, so that ``get_params`` and ``clone`` return it. A name or path is read once;
    clones share the model.
    """

    model: GivenModel | None
    _model_read: tuple[str | Path, CellLM] | None = None

    @property
    def resolved_model(self) -> CellLM | None:
        """The model itself, where ``model`` may be a name or path; None without one.

        Raises
        ------
        ModelError
            There is no such model, or it cannot be read.
        """
        given = self.model
        if given is None or isinstance(given, CellLM):
            return given
        if self._model_read is None or self._model_read[0] != given:
            self._model_read = given, CellLM.from_pretrained(given)
        return self._model_read[1]

    def _saved_model(self) -> CellLM | None:
        return self.resolved_model

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy that shares the model, which a fit does not change."""
        copied: Any = type(self)(**self.get_params(deep=False))
        copied._model_read = self._model_read
        return copied  # type: ignore[no-any-return]


class WithModel(WithOptionalModel):
    """Part of an estimator with a parameter ``model`` that must be given."""

    model: GivenModel

    @property
    def resolved_model(self) -> CellLM:
        """The model itself, where ``model`` may be a name or path.

        Raises
        ------
        ModelError
            There is no such model, or it cannot be read.
        """
        found = super().resolved_model
        if found is None:
            raise ModelError("model is None", where=type(self).__name__, fix=GIVE_MODEL)
        return found
