"""Runs the peer of an environment on one case after another, so that its packages are imported and compiled once.

Each line of the standard input is JSON, ``[module, folder]``: ``main(folder)`` of the module runs in that folder. Each
answer is a line of JSON: null, or the error in a line. What the peer prints goes to the standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from pathlib import Path


def serve() -> None:
    """Answer until the input ends."""
    home = Path.cwd()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for request in sys.stdin:
            print(json.dumps(outcome(*json.loads(request))), file=answers, flush=True)
            os.chdir(home)


def outcome(module: str, folder: str) -> str | None:
    """Run the peer on a case; return what went wrong."""
    os.chdir(folder)
    try:
        importlib.import_module(module).main(folder)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    serve()
