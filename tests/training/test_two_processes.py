from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_run import HERE, finish, rows, toy_cells, toy_config

from cell_lm.training import pretrain

SCRIPT = f"""
import json, os, sys
sys.path.insert(0, {str(HERE)!r})
from toy_run import *
from cell_lm.errors import CellLMError
from cell_lm.training import pretrain

out, rank = Path(sys.argv[1]), int(os.environ["RANK"])
result = pretrain([toy_cells()], toy_config(), out / "run", progress=True)
said = {{"trained": result.train.total}}
result = pretrain([toy_cells()], toy_config(), out / "stopped", progress=False, stop=after(5) if rank else None)
said["stopped after"] = result.steps
try:
    pretrain([toy_cells()], toy_config(), out / "run", progress=False)
except CellLMError as error:
    said["refused"] = type(error).__name__
result = pretrain([toy_cells()], toy_config(), out / "stopped", progress=False, resume=True)
said["resumed"] = result.train.total
(out / f"rank{{rank}}.json").write_text(json.dumps(said))
"""


def numbers(row: dict[str, Any]) -> dict[str, float]:
    names = {"total", "masked", "discrimination", "contrastive", "masked_accuracy", "learning_rate", "norm"}
    return {name: row[name] for name in names & row.keys()}


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    process = subprocess.Popen(
        [*launch, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    code, _, err = finish(process)
    assert code == 0, err

    pretrain([toy_cells()], toy_config(), tmp_path / "alone", progress=False)
    together, alone = rows(tmp_path / "run"), rows(tmp_path / "alone")
    assert [(row["kind"], row["step"]) for row in together] == [(row["kind"], row["step"]) for row in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-5), ours["step"]

    final = rows(tmp_path / "run", "train")[-1]["total"]
    for rank, refusal in enumerate(("InputError", "TrainingError")):
        said = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert said == {"trained": final, "stopped after": 5, "refused": refusal, "resumed": final}
    assert err.count("step 12/12") == 1
