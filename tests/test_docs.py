"""The commands in README.md and docs/*.md run, in a folder with the sample media."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmworld.models.load import SHIPPED

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "mmworld" / "samples"
BLOCK = re.compile(r"^(<!-- not run: [^\n]+-->\n)?```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> list[object]:
    found: list[object] = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for i, (skipped, text) in enumerate(BLOCK.findall(page.read_text())):
            commands = [line for line in text.splitlines() if _runs(line)]
            if commands and not skipped:
                found.append(pytest.param(commands, id=f"{page.stem}-{i}"))
    return found


def _runs(line: str) -> bool:
    return re.match(r"(\.venv/bin/)?(mmworld|python|cat|printf) ", line.removeprefix("$ ")) is not None


@pytest.mark.parametrize("commands", blocks())
def test_documented_commands_run(commands: list[str], tmp_path: Path) -> None:
    if any("mmworld caption" in c or "mmworld demo" in c for c in commands) and not SHIPPED["nano"].is_dir():
        pytest.skip("nano is not part of this checkout")
    for sample in SAMPLES.iterdir():
        shutil.copy(sample, tmp_path)
    here = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for command in commands:
        command = command.removeprefix("$ ").replace(".venv/bin/", "")
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        wanted = int(match[1]) if (match := re.search(r"# exits (\d+)", command)) else 0
        assert done.returncode == wanted, f"{shlex.quote(command)}: {done.stderr}"
