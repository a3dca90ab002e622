"""scANVI (Xu et al. 2021) by scvi-tools: raw counts of labelled and unlabelled cells, the way of its tutorials.

scVI of both sides (train_scvi.py), then scANVI from it, 20 epochs with 100 cells a type and epoch.
"""

from __future__ import annotations

import time

import numpy as np
import scvi  # type: ignore[import-not-found,unused-ignore]
from case_files import Case  # type: ignore[import-not-found,unused-ignore]
from train_scvi import QUIET, train  # type: ignore[import-not-found,unused-ignore]

UNKNOWN = "no label"
EPOCHS, CELLS_A_TYPE = 20, 100


def main(folder: str) -> None:
    case = Case(folder)
    start = time.process_time()
    first = train(case, [*case.labels, *[UNKNOWN] * (len(case.batch) - case.known)])
    model = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category=UNKNOWN)
    model.train(max_epochs=EPOCHS, n_samples_per_label=CELLS_A_TYPE, **QUIET)
    fitted = time.process_time()
    chances = model.predict(soft=True).iloc[case.known :]
    classes = [name for name in chances.columns if name != UNKNOWN]
    values = chances[classes].to_numpy(float)
    values /= values.sum(axis=1, keepdims=True)
    case.write("scanvi", np.array(classes, object)[values.argmax(axis=1)], values, classes)
    epochs = len(first.history["elbo_train"])
    case.note(
        fit_s=fitted - start,
        predict_s={"scanvi": time.process_time() - fitted},
        scvi_epochs=epochs,
        scanvi_epochs=EPOCHS,
        version=scvi.__version__,
    )
