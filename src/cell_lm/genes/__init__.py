"""Genes: the vocabulary of human protein-coding genes, the offline resolver of gene names, and vectors of genes.

To resolve a name, :mod:`~cell_lm.genes.nomenclature` holds HGNC's names of every gene,
:mod:`~cell_lm.genes.spelling` undoes changes that programs make to names, :mod:`~cell_lm.genes.reader` combines both,
:mod:`~cell_lm.genes.resolver` reads all names of a file, :mod:`~cell_lm.genes.refusals` refuses inputs that are not
human genes, and :mod:`~cell_lm.genes.audit` records the result for every name.

Gene vectors are in :mod:`~cell_lm.genes.vectors`; ``similar`` finds the nearest genes.

Submodules are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cell_lm.genes.audit import AuditSummary, GeneAudit
    from cell_lm.genes.resolver import resolve_genes
    from cell_lm.genes.vectors import GeneVectors, similar
    from cell_lm.genes.vocabulary import Vocabulary

__all__ = ["AuditSummary", "GeneAudit", "GeneVectors", "Vocabulary", "resolve_genes", "similar"]

_HOMES = {
    "AuditSummary": "audit",
    "GeneAudit": "audit",
    "GeneVectors": "vectors",
    "Vocabulary": "vocabulary",
    "resolve_genes": "resolver",
    "similar": "vectors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cell_lm.genes' has no attribute '{name}'")
    return getattr(import_module(f"cell_lm.genes.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
