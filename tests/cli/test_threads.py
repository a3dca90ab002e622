from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from cell_lm.cli import main
main(["--version"])
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


@pytest.mark.parametrize(("said", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_are_asked_to_sleep_before_torch_is_there_unless_the_user_said_otherwise(
    said: str | None, expected: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": said} if said else {}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == [expected, "False"]
