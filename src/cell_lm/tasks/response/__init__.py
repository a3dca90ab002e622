"""Drug response of cell lines.

:mod:`~cell_lm.tasks.response.regressor` is the estimator, and :mod:`~cell_lm.tasks.response.core` the same on arrays.
Its parts: vectors of lines (:mod:`~cell_lm.tasks.response.cells`), standardised and gap-filled responses
(:mod:`~cell_lm.tasks.response.impute`), two ridges in closed form (:mod:`~cell_lm.tasks.response.ridge`) and a network
(:mod:`~cell_lm.tasks.response.network`), blended in :mod:`~cell_lm.tasks.response.lines`; the Gaussian of residuals
given measured drugs (:mod:`~cell_lm.tasks.response.gaussian`); drugs never measured
(:mod:`~cell_lm.tasks.response.drugs`); intervals (:mod:`~cell_lm.tasks.response.conformal`).
"""

from cell_lm.tasks.response.core import ResponseModel, fit_response_model
from cell_lm.tasks.response.regressor import DrugResponseRegressor

__all__ = ["DrugResponseRegressor", "ResponseModel", "fit_response_model"]
