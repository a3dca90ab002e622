"""Genes: the vocabulary of human protein-coding genes, and the offline resolver that maps a file's gene names onto it.

The journey of a name: :mod:`~cell_lm.genes.nomenclature` knows what HGNC calls every gene,
:mod:`~cell_lm.genes.spelling` undoes what programs do to names, :mod:`~cell_lm.genes.reader` puts both together,
:mod:`~cell_lm.genes.resolver` reads all names of a file, :mod:`~cell_lm.genes.refusals` turns away what is no human
gene, and :mod:`~cell_lm.genes.audit` accounts for every name.
"""

from cell_lm.genes.audit import AuditSummary, GeneAudit
from cell_lm.genes.resolver import resolve_genes
from cell_lm.genes.vocabulary import Vocabulary

__all__ = ["AuditSummary", "GeneAudit", "Vocabulary", "resolve_genes"]
