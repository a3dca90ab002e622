"""Bundle regl-scatterplot and what it needs into the one script that the explorer's page holds, with the licences.

    python scripts/make_scatterplot.py src/cell_lm/resources/regl_scatterplot

Needs npm (Node 18 or newer) and a package index that serves npm. Versions are pinned, install scripts are not run, and
the same versions give the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

BUNDLED = {
    "regl-scatterplot": "1.16.0",
    "regl": "2.1.1",
    "regl-line": "1.1.1",
    "pub-sub-es": "3.0.0",
    "dom-2d-camera": "2.2.6",
    "camera-2d-simple": "3.0.0",
    "gl-matrix": "3.4.4",
    "earcut": "3.2.4",
    "@flekschas/utils": "0.33.0",
}
COPIED = {"kdbush": "4.0.2", "simplify-js": "1.2.4"}
"""Parts of these stand in the source of regl-scatterplot; they are installed for their licences only."""
BUNDLER = {"esbuild": "0.28.2"}
FLAGS = (
    # regl's build without its checks of the caller, which are advice for developers.
    "--alias:regl=regl/dist/regl.unchecked.js",
    *("--bundle", "--minify", "--format=iife", "--target=es2020", "--charset=ascii", "--legal-comments=none"),
)
ENTRY = 'import createScatterplot from "regl-scatterplot";\nglobalThis.createScatterplot = createScatterplot;\n'


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        install(place)
        (place / "entry.js").write_text(ENTRY, encoding="utf-8")
        subprocess.run(["npx", "esbuild", "entry.js", *FLAGS, "--outfile=made.js"], cwd=place, check=True)
        script, texts = (place / "made.js").read_bytes(), licences(place)
    out.mkdir(parents=True, exist_ok=True)
    (out / "regl_scatterplot.min.js").write_bytes(script)
    (out / "LICENSES.txt").write_text(texts, encoding="utf-8")


def install(place: Path) -> None:
    wanted = {**BUNDLED, **COPIED, **BUNDLER}
    (place / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}), encoding="utf-8")
    subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, check=True)
    for name, version in wanted.items():
        found = json.loads((place / "node_modules" / name / "package.json").read_text(encoding="utf-8"))["version"]
        if found != version:
            raise SystemExit(f"{name} {found} was installed, not {version}")


def licences(place: Path) -> str:
    """Return the licence of each package, one after the other."""
    parts = []
    for name, version in {**BUNDLED, **COPIED}.items():
        folder = place / "node_modules" / name
        texts = sorted(folder.glob("LICEN[CS]E*"))
        if not texts:
            raise SystemExit(f"{name} has no licence file")
        text = texts[0].read_text(encoding="utf-8").strip()
        note = " (parts of it, in the source of regl-scatterplot)" if name in COPIED else ""
        parts.append(f"{name} {version}{note}\n{'=' * 40}\n\n{text}\n")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
