"""Benchmarks: each is ``python -m benchmarks.NAME``, prints a table and ends with one line of JSON.

Each takes ``--data DIR``, the folder with ``cells/``, ``drug/`` and ``genes/``, and ``--quick``, which needs no other
argument and runs a small version in minutes. :data:`COMMANDS` lists them. ``options``, ``probes``, ``encoder_small``,
``encoder_cuda``, ``robustness_writers`` and the modules in ``parts/`` are shared and are not run by themselves.
Finished studies are in ``studies/``.
"""

from cell_lm.cli.kernels import keep_few_kernels
from cell_lm.cli.threads import sleep_when_idle

COMMANDS = (
    "annotation",
    "attribution",
    "divide_and_conquer",
    "drug_response",
    "drug_sensitivity",
    "encoder",
    "evaluation",
    "explorer",
    "finetuning",
    "first_contact",
    "large_store",
    "loading",
    "malignancy",
    "panels",
    "pretraining",
    "representation",
    "rivals",
    "robustness",
    "sharding",
    "steady_memory",
    "streaming",
    "threads",
    "unknown",
)

sleep_when_idle()
keep_few_kernels()
