from __future__ import annotations

import subprocess
import sys

import pytest

from cell_lm.cli.allocator import keep_large_blocks

MAPPED = """
import ctypes
from cell_lm.cli.allocator import keep_large_blocks

names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]

def mapped(size):
    before = libc.mallinfo2().hblkhd
    libc.malloc(size)
    return libc.mallinfo2().hblkhd > before

print(mapped(200 << 20), keep_large_blocks(), mapped(200 << 20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_large_blocks_come_from_the_heap_once_it_is_set() -> None:
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True)
    if "False" in done.stdout.split()[1]:
        pytest.skip("another C library")
    assert done.stdout.split() == ["True", "True", "False"]


@pytest.mark.parametrize(
    "environment", [{"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4096"}]
)
def test_a_user_who_tunes_the_allocator_is_left_alone(environment: dict[str, str]) -> None:
    assert not keep_large_blocks(environment)


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_large_blocks({})
