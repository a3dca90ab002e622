"""The same command under torchrun and under accelerate: one voice, an orderly end of all, and on with the other one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typed import TINY

from forked import HUNG

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
ACCELERATE += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")
LONG = ("--steps=40", "--set=training.checkpoint_every=1000")


def launch(launcher: tuple[str, ...], *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "cell_lm", "pretrain", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )


def wait_for_a_step(log: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if process.poll() is not None or (log.is_file() and '"train"' in log.read_text()):
            return
        time.sleep(0.1)


def ranks(run: Path) -> list[int]:
    folders = sorted((run / "checkpoints").iterdir())
    return [json.loads((folder / "state.json").read_text())["ranks"] for folder in folders]


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_and_accelerate_goes_on(make_file: Callable[..., Path], tmp_path: Path) -> None:
    cells, run = make_file(), tmp_path / "run"
    process = launch(TORCHRUN, cells, "--out", run, *TINY, *LONG)
    try:
        wait_for_a_step(run / "log.jsonl", process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=HUNG)
    finally:
        process.kill()
    assert process.returncode != 0
    assert out.count("go on with the same command and --resume") == 1, err
    assert "error: " not in err
    assert ranks(run) == [2]

    process = launch(ACCELERATE, cells, "--out", run, "--resume")
    try:
        out, err = process.communicate(timeout=HUNG)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.count("pretrained 40 steps") == 1
    assert err.count("reading ") == 1
    assert err.count("resumed after step") == 1
    assert ranks(run) == [2, 2]
    assert (run / "report.html").is_file()
    assert json.loads((run / "data.json").read_text())["cells"] == 60
