"""How errors name the options of reading a network: as an argument in Python, and as an option of the command line."""

from __future__ import annotations

GENES = "gene_a= and gene_b= (--gene-a, --gene-b)"
SCORE = "score= (--score)"
NO_SCORES = "no_scores=True (--no-scores)"
FULL_SCORE = "full_score= (--full-score)"
MIN_SCORE = "min_score (--min-score)"

SPELLED = {
    "gene_a": "gene_a= (--gene-a)",
    "gene_b": "gene_b= (--gene-b)",
    "score": SCORE,
    "no_scores": NO_SCORES,
    "full_score": FULL_SCORE,
    "channels": "channels=",
}
"""Options that belong to one kind of network alone; ``channels`` is one of Python only."""
