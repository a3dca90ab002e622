"""Studies that are finished: each answered a question once, and ``docs/`` tells the answer.

They stay runnable, as ``python -m studies.NAME --data DIR``, so that their figures (``results/``) can be had again.
``batch_size``, ``gene_inputs``, ``gene_vectors`` and ``netmf_vectors`` are commands; the other files are their parts.
"""

from cell_lm.cli.kernels import keep_few_kernels
from cell_lm.cli.threads import sleep_when_idle

sleep_when_idle()
keep_few_kernels()
