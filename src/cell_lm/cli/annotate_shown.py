"""What ``cell-lm annotate fit`` shows of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cell_lm.cli.annotate_evaluate import most_confused
from cell_lm.cli.console import Messages

if TYPE_CHECKING:
    from cell_lm.tasks.annotation import CellTypeClassifier
    from cell_lm.tasks.annotation.cross_validation import CrossValidation


def show_fit(classifier: CellTypeClassifier, says: Messages) -> None:
    """Print types, the cells that were learned from, weights, and the scores of cells that were left out."""
    sizes, without = classifier.cells_per_class_, classifier.unlabelled_
    scores = classifier.cross_validation_
    if scores is None:
        says.table(["cell type", "cells"], [[name, f"{number:,}"] for name, number in sizes.items()], numbers=1)
    else:
        _show_types(sizes, scores, says)
    left_out = f" ({without:,} without a label)" if without else ""
    says.result(f"fitted on {sum(sizes.values()):,} cells of {len(sizes):,} types{left_out}")
    if classifier.reference_.cut:
        says.result(f"on the {len(classifier.reference_.genes):,} genes that both have")
    says.note(f"learned from {classifier.learned_from_}")
    if scores is not None:
        total = max(sum(classifier.weights_.values()), 1e-12)
        shares = (f"{name} {weight / total:.0%}" for name, weight in classifier.weights_.items())
        says.note("weights of the views: " + ", ".join(shares))
    if classifier.fine_tuned_:
        says.result(classifier.fine_tuned_)
        if classifier.encoder_ is not classifier.resolved_model:
            says.result(
                "scores of left-out cells are those of the frozen encoder; there is no novelty, and no label set"
            )
    if scores is None:
        says.result("too few labelled cells of each type to leave any out: no cross-validated scores")
    else:
        _show_scores(scores, says)


def _show_types(sizes: dict[str, int], scores: CrossValidation, says: Messages) -> None:
    from cell_lm.report.numbers import score

    found = {str(name): dict(row) for name, row in scores.scores.per_class.iterrows()}
    rows = []
    for name, number in sizes.items():
        known = found.get(name, {"support": 0})
        each = [score(known[key]) if known["support"] else "" for key in ("precision", "recall", "f1")]
        rows.append([name, f"{number:,}", *each])
    says.table(["cell type", "cells", "precision", "recall", "F1"], rows, numbers=4)
    confused = most_confused(scores.scores)
    if confused:
        says.result()
        says.table(["true type", "taken for", "cells", "share"], confused, numbers=2)
    says.result()


def _show_scores(scores: CrossValidation, says: Messages) -> None:
    from cell_lm.report.numbers import score

    by_donor = scores.by_donor()
    if by_donor:
        rows = [[name, f"{one.cells:,}", score(one.macro_f1), score(one.accuracy)] for name, one in by_donor.items()]
        says.table(["left out", "cells", "macro-F1", "accuracy"], rows, numbers=3)
    what = "cells of donors" if by_donor else "cells"
    says.result(
        f"macro-F1 {scores.macro_f1}, accuracy {scores.scores.accuracy:.3f}, calibration error "
        f"{scores.calibration_error:.3f} on {scores.scores.cells:,} {what} that were left out in turn"
    )
