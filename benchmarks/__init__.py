"""Benchmarks: each is ``python -m benchmarks.NAME``, prints a table and ends with one line of JSON."""

from cell_lm.cli.kernels import keep_few_kernels
from cell_lm.cli.threads import sleep_when_idle

sleep_when_idle()
keep_few_kernels()
