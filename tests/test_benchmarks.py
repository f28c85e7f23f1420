"""Benchmarks that need what is not here run their code all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "stream_gpu.py"
SHORT = ["--tiny", "--hours", "0.03", "--streams", "3", "--seconds", "10", "--tokens", "3"]


def run(*args: str) -> str:
    done = subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    assert run().splitlines() == ["no GPU here: nothing was measured (--tiny --device cpu runs the code)"]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_all_that_is_measured_runs_on_a_toy(device: str, tmp_path: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    run(*SHORT, "--device", device, "--json", str(tmp_path / "made.json"))
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["tiny"]
    assert made["sustained"]["frames_a_second"] > 0
    assert made["streams"]["streams"] == 3
    assert made["streams"]["glimpse_lag_p95"] > 0
    young, old = made["age"]["ids_held"]
    assert young < old <= young + 512, "what is held is bounded"
    assert made["age"]["last_position"][1] <= old
