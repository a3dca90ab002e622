"""How errors name the options of reading a network."""

from __future__ import annotations

from cell_lm.remedies import option

GENES = "gene_a= and gene_b= (--gene-a, --gene-b)"
SCORE = option("score")
NO_SCORES = option("no_scores", True)
FULL_SCORE = option("full_score")
MIN_SCORE = "min_score (--min-score)"

SPELLED = {
    "gene_a": option("gene_a"),
    "gene_b": option("gene_b"),
    "score": SCORE,
    "no_scores": NO_SCORES,
    "full_score": FULL_SCORE,
    "channels": "channels=",
}
"""Options that belong to one kind of network alone; ``channels`` is one of Python only."""
