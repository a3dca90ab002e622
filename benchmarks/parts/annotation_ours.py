"""Ours in :mod:`benchmarks.annotation`: the classifier as it is, its parts, and an encoder by scBERT's recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.parts.annotation_peers import Answer, Method
from benchmarks.parts.annotation_tasks import Case
from cell_lm.data import CellData
from cell_lm.evaluation.linear_head import fit_head
from cell_lm.model import CellLM
from cell_lm.tasks.annotation import CellTypeClassifier
from cell_lm.tasks.finetuning import FineTuning

LABEL, DONOR = "label", "donor_of_the_fit"


@dataclass(eq=False)
class Encoders:
    """The packaged model, and models made from it, each once."""

    model: CellLM
    _start: CellLM | None = None

    @property
    def start(self) -> CellLM:
        """The model before any step of pretraining: the components of its corpus, random weights."""
        if self._start is None:
            assert self.model.reference is not None
            start = CellLM(self.model.config, self.model.vocabulary, self.model.objectives)
            start.set_reference(self.model.reference)
            self._start = start.eval()
        return self._start


def with_labels(case: Case) -> CellData:
    """Return the reference with its labels and donors in ``obs``."""
    columns = {LABEL: case.labels.astype(str)} | ({} if case.groups is None else {DONOR: case.groups.astype(str)})
    return replace(case.reference, obs=case.reference.obs.assign(**columns))


def classified(
    case: Case, model: CellLM, name: str, *, unlabelled: bool = False, fine_tune: FineTuning = None
) -> dict[str, Answer]:
    """Fit the classifier as it is by default, and name the query, whose cells it may see without their labels."""
    start = time.process_time()
    classifier = CellTypeClassifier(model, seed=case.seed, cache=False, fine_tune=fine_tune)
    groups, query = None if case.groups is None else DONOR, case.query if unlabelled else None
    classifier.fit(with_labels(case), LABEL, groups=groups, min_cells=1, unlabelled=query)
    fitted = time.process_time()
    table = classifier.predict_proba(case.query)
    seconds = fitted - start, time.process_time() - fitted
    return {name: Answer.of(table.to_numpy(), table.columns.to_numpy(object), *seconds)}


def frozen(case: Case, model: CellLM) -> dict[str, Answer]:
    """A linear head on CLS of the frozen encoder, nothing else."""
    start = time.process_time()
    cls = model.encode(case.reference)
    head = fit_head(cls, case.labels, groups=case.groups, seed=case.seed)
    fitted = time.process_time()
    chances = head.probabilities(model.encode(case.query))
    seconds = fitted - start, time.process_time() - fitted
    return {"ours_frozen": Answer.of(chances, np.array(head.classes, object), *seconds)}


def ours(encoders: Callable[[], Encoders]) -> Mapping[str, Method]:
    """Return the methods of ours by name; the encoders are read when one of them first runs."""
    return {
        "ours": lambda case: classified(case, encoders().model, "ours"),
        "ours_frozen": lambda case: frozen(case, encoders().model),
        "ours_unlabelled": lambda case: classified(case, encoders().model, "ours_unlabelled", unlabelled=True),
        "ours_start": lambda case: classified(case, encoders().start, "ours_start"),
        "ours_finetuned": lambda case: classified(case, encoders().model, "ours_finetuned", fine_tune="refinement"),
    }
