"""Finished studies: each answered one question, and ``docs/`` describes the result.

``python -m studies.NAME --data DIR`` runs one again and reproduces its figures (``results/``). ``batch_size``,
``gene_inputs``, ``gene_vectors`` and ``netmf_vectors`` are commands; the other files are their parts.
"""

from cell_lm.cli.kernels import keep_few_kernels
from cell_lm.cli.threads import sleep_when_idle

sleep_when_idle()
keep_few_kernels()
