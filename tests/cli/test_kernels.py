from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cell_lm.cli.kernels import CACHES, KERNELS

SAID = """
import os, sys
from cell_lm.cli import main
from cell_lm.cli.kernels import CACHES
main(["--version"])
print(*(os.environ[name] for name in CACHES), "torch" in sys.modules)
"""

GROWTH = """
import ctypes, sys
from cell_lm.cli.kernels import keep_few_kernels
if sys.argv[1] == "few":
    keep_few_kernels()
import torch
from cell_lm.nn.linear import _PRODUCT, linear

names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names]

try:
    used = ctypes.CDLL(None).mallinfo2
except AttributeError:
    used = None
if used is None or _PRODUCT is None:
    print("absent")
    raise SystemExit
used.restype = Info
weight = torch.ones(64, 64)
for rows in range(100, 300):
    linear(torch.ones(rows, 64), weight, None)
    if rows == 199:
        before = used().uordblks
print(used().uordblks - before)
"""


def _run(script: str, *arguments: str, **said: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key not in CACHES} | said
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_the_caches_of_kernels_are_bounded_before_torch_is_there() -> None:
    assert _run(SAID)[-3:] == [str(KERNELS), str(KERNELS), "False"]


def test_a_user_who_bounds_a_cache_is_left_alone() -> None:
    assert _run(SAID, **{CACHES[0]: "7"})[-3:] == ["7", str(KERNELS), "False"]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_products_of_ever_new_shapes_take_no_more_memory_once_the_caches_are_full() -> None:
    (few,), (all_of_them,) = _run(GROWTH, "few"), _run(GROWTH, "all")
    if few == "absent":
        pytest.skip("another C library, or a PyTorch without oneDNN")
    if int(all_of_them) < 4_000_000:
        pytest.skip("oneDNN compiles no large kernels for this processor")
    assert int(few) < 1_000_000
