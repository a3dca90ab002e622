"""``cell-lm annotate evaluate``: scores of a classifier on cells of known type, on the terminal, as JSON, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.annotate_options import Annotator, Truth, Unlabelled, label_notes, words
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import COMPUTING, CellsOrStore, Device, Force, NoVerify, column, output
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cell_lm.data.read_options import ReadOptions
    from cell_lm.evaluation.annotation_evaluation import AnnotationEvaluation
    from cell_lm.evaluation.annotation_metrics import AnnotationScores
    from cell_lm.evaluation.intervals import Interval
    from cell_lm.report import ReportData
    from cell_lm.tasks import Classifier

EXAMPLES = """[bold]Examples[/bold]

  cell-lm annotate evaluate test.h5ad --model ann --truth cell_type
  cell-lm annotate evaluate test.h5ad --model blood --truth cell_type --groups donor --report scores.html"""
_CONFUSED = 6
"""Most pairs of types that are taken for each other on the terminal."""


@reads_cells()
def evaluate(
    context: typer.Context,
    cells: CellsOrStore,
    model: Annotator,
    truth: Truth,
    groups: Annotated[
        str | None, column("Column of obs, such as the donor: scores for each, and intervals within them.")
    ] = None,
    unlabelled: Unlabelled = None,
    few_shot: Annotated[
        bool,
        typer.Option(
            "--few-shot",
            help="Also fit new classifiers on 1, 5 and 20 of these cells of each type, and score them on the others.",
            rich_help_panel=COMPUTING,
        ),
    ] = False,
    report: Annotated[
        Path | None, output("FILE.html", "Page to write, with the confusion and the reliability.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    *,
    read: ReadOptions,
    device: Device = "auto",
    no_verify: NoVerify = False,
    force: Force = False,
) -> int:
    """Read the cells, predict, compare with the truth."""
    keep_large_blocks()
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.data.obs.labels import read_labels
    from cell_lm.data.opening import is_store
    from cell_lm.data.store import Store
    from cell_lm.engine.device import choose_device
    from cell_lm.evaluation.annotation_evaluation import evaluate_annotation
    from cell_lm.tasks import CellTypeClassifier, Classifier
    from cell_lm.tasks.annotation.few_shot import few_shot_curve

    says = messages(context)
    if report is not None:
        refuse_output_file(report, force=force, inputs=(cells, model), suffix=".html", option="--report")
    choose_device(device)
    refuse_other_task(model, "annotate")
    classifier = Classifier.load(model)
    if isinstance(classifier, CellTypeClassifier):
        classifier = classifier.placed(device)
    says.note(f"reading {cells}")
    held = Store.open(cells, verify=not no_verify) if is_store(cells) else cells
    with label_notes(says):
        view, labels = classifier.labelled(held, truth, missing_labels=words(unlabelled), read=read)
        known = view[labels.known]
        donors = None
        if groups is not None:
            donors = read_labels(view.obs([groups]), groups, where=str(cells)).text[labels.known]
            donors[donors == ""] = "not given"
    with says.progress("annotating", len(known)) as done:
        probabilities = classifier.predict_proba(known, progress=done)
    fitted_on = int(classifier.was_fitted_on(known).sum()) if isinstance(classifier, CellTypeClassifier) else 0
    if fitted_on:
        seen = f"the classifier was fitted on {fitted_on:,} of these {len(known):,} cells, with their labels"
        says.warn(f"{seen}: the scores are not those of new cells. Give cells of donors that it has not seen.")
    types = labels.text[labels.known]
    found = evaluate_annotation(types, probabilities.to_numpy(), list(classifier.classes_), groups=donors)
    several = len(set(types)) > 1
    curve = few_shot_curve(classifier, known, types).by_number if few_shot and several else {}
    if few_shot and not several:
        says.note("note: the cells are all of one type: no new classifier can learn from them, so there is no curve")
    if report is not None:
        _write_report(_page(found, classifier, donors, curve, str(model), says), report, force=force)
    if as_json:
        few = {str(number): {"macro_f1": one.mean, "interval": one.bounds()} for number, one in curve.items()}
        says.json(found.to_json() | {"fitted_on": fitted_on} | ({"few_shot": few} if few else {}))
    else:
        _show(found, curve, says)
        if report is not None:
            says.result(f"written: {report}")
    return 0


def _show(found: AnnotationEvaluation, curve: Mapping[int, Interval], says: Messages) -> None:
    from cell_lm.report.numbers import score

    def line(name: str, row: dict[str, float]) -> list[str]:
        return [name, f"{row['support']:.0f}", *(score(row[key]) for key in ("precision", "recall", "f1"))]

    rows = [line(str(name), dict(row)) for name, row in found.scores.per_class.iterrows()]
    says.table(["true type", "cells", "precision", "recall", "F1"], rows, numbers=4)
    confused = most_confused(found.scores)
    if confused:
        says.result()
        says.table(["true type", "taken for", "cells", "share"], confused, numbers=2)
    if found.groups:
        says.result()
        rows = [[g.name, f"{g.cells:,}", str(g.types), score(g.macro_f1), score(g.accuracy)] for g in found.groups]
        says.table(["group", "cells", "types", "macro-F1", "accuracy"], rows, numbers=4)
    says.result()
    bins = [one for one in found.reliability if one.cells]
    rows = [[f"{b.low:.1f} to {b.high:.1f}", f"{b.cells:,}", score(b.confidence), score(b.accuracy)] for b in bins]
    says.table(["confidence", "cells", "mean", "right"], rows, numbers=3)
    if curve:
        says.result()
        rows = [[f"{number}", str(one)] for number, one in curve.items()]
        says.table(["labels of each type", "macro-F1 of a new classifier"], rows, numbers=1)
    says.result()
    if found.unknown:
        says.result(f"unknown to the classifier, so counted as wrong: {', '.join(found.unknown)}")
    says.result(
        f"macro-F1 {found.macro_f1}, accuracy {found.scores.accuracy:.3f}, calibration error {found.ece:.3f} on "
        f"{found.scores.cells:,} labelled cells"
    )


def most_confused(scores: AnnotationScores) -> list[list[str]]:
    """Return the pairs of true and predicted type with the most cells off the diagonal, with number and share."""
    confusion, classes = scores.confusion.copy(), scores.classes
    sizes = confusion.sum(axis=1)
    for k in range(len(classes)):
        confusion[k, k] = 0
    order = confusion.ravel().argsort(kind="stable")[::-1][:_CONFUSED]
    pairs = [divmod(int(place), len(classes)) for place in order]
    return [
        [classes[true], classes[guess], f"{confusion[true, guess]:,}", f"{confusion[true, guess] / sizes[true]:.1%}"]
        for true, guess in pairs
        if confusion[true, guess]
    ]


def _page(
    found: AnnotationEvaluation,
    classifier: Classifier,
    donors: object,
    curve: Mapping[int, Interval],
    name: str,
    says: Messages,
) -> ReportData:
    from cell_lm._version import __version__
    from cell_lm.report import Annotation, ReportData, Reproduction, environment

    reference = classifier.reference_
    annotation = Annotation(
        truth=found.truth,
        predicted=found.predicted,
        method=f"{type(classifier).__name__} {name}",
        donors=donors,  # type: ignore[arg-type]
        trained_on=f"{reference.cells:,} cells of {reference.name}",
        known=frozenset(map(str, classifier.classes_)) if found.unknown else None,
        confidence=found.confidence,
        few_shot=curve,
    )
    return ReportData(
        title=f"Annotation by {name}",
        summary=f"Predicted cell types of {found.scores.cells:,} cells, compared with the true ones.",
        annotation=annotation,
        reproduction=Reproduction(command=says.command, version=__version__, environment=environment()),
    )


def _write_report(data: ReportData, path: Path, *, force: bool) -> None:
    from cell_lm.report import write_report

    write_report(data, path, replace=force)
