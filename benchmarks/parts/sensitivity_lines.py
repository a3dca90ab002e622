"""Lines left out in turn: labels that are constant within a line are learned from other lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cell_lm.data import read_cells
from cell_lm.files import JSON
from cell_lm.tasks import DrugSensitivityClassifier

SENSITIVE_BELOW = {"gefitinib": -1.0, "afatinib": -1.0}
"""A line is sensitive if the z-score of its ln IC50 among GDSC's lines is below this."""


def leave_lines_out(path: Path) -> dict[str, JSON]:
    """Return, for each drug and line left out, the fraction of its cells that is called as the line responds."""
    cells, found = read_cells(path), dict[str, JSON]()
    lines = cells.obs["cell_line"].astype(str)
    for drug, limit in SENSITIVE_BELOW.items():
        sensitive = (cells.obs[f"gdsc_z_{drug}"] < limit).to_numpy()
        for line in sorted(lines.unique()):
            out = (lines == line).to_numpy()
            if len(set(sensitive[~out])) < 2:
                print(f"{drug}, {line} left out: no other line is sensitive, nothing to learn from")
                continue
            text = np.where(out, "", np.where(sensitive, "sensitive", "resistant"))
            labelled = replace(cells, obs=cells.obs.assign(label=text))
            for name, adapted in (("adapted", True), ("not adapted", False)):
                classifier = DrugSensitivityClassifier(self_training=adapted).fit(labelled, "label")
                called = (classifier.table(cells)["call"] == "sensitive").to_numpy()[out]
                right = float(np.mean(called == sensitive[out]))
                found[f"{drug}.{line}.{name.replace(' ', '_')}"] = round(right, 4)
                truth = "sensitive" if sensitive[out].all() else "resistant"
                print(f"{drug}, {line} ({truth}) left out, {name}: {right:.3f} of its cells called so", flush=True)
    return found
