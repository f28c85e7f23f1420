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
from checkpoints import answerer, captioner, matcher, speaker

from mmworld.cli import command
from mmworld.models.load import SHIPPED

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "mmworld" / "samples"
BLOCK = re.compile(r"^(<!-- not run: [^\n]+-->\n)?```console\n(.*?)^```", re.MULTILINE | re.DOTALL)

RECIPE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> list[object]:
    found: list[object] = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for i, (skipped, text) in enumerate(BLOCK.findall(page.read_text())):
            commands = [line for line in text.splitlines() if _runs(line)]
            if commands and not skipped:
                found.append(pytest.param(commands, id=f"{page.stem}-{i}"))
    return found


def scripts() -> list[object]:
    """The Python blocks that stand alone: those of README.md, docs/python.md, docs/borrowed.md and docs/watching.md."""
    pages = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("python", "borrowed", "watching"))]
    found = [(page, i, text) for page in pages for i, text in enumerate(SCRIPT.findall(page.read_text()))]
    return [pytest.param(text, id=f"{page.stem}-{i}") for page, i, text in found]


def _runs(line: str) -> bool:
    return re.match(r"(\.venv/bin/)?(mmworld|python|cat|printf|MMWORLD_\w+=\S+) ", line.removeprefix("$ ")) is not None


@pytest.mark.parametrize("commands", blocks())
def test_documented_commands_run(commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _samples(tmp_path, monkeypatch, wants_nano="mmworld caption" in str(commands) or "mmworld demo" in str(commands))
    _borrow("\n".join(commands))
    for text in commands:
        text = text.removeprefix("$ ").replace(".venv/bin/", "")
        wanted = int(match[1]) if (match := re.search(r"# exits (\d+)", text)) else 0
        assert _run(text) == wanted, text


BORROWED = {"blip": captioner, "llava": answerer, "clip": matcher, "llava-text": speaker}
"""Models in the documentation, and what makes a tiny one."""


def _borrow(text: str) -> None:
    """The models that a page names, here."""
    if "quantise" in text:
        pytest.importorskip("torchao", reason="the extra 'quantise' is not installed")
    if "rerun" in text:
        pytest.importorskip("rerun", reason="the extra 'rerun' is not installed")
    for name, make in BORROWED.items():
        if re.search(rf"(--model |=\"|\(\"){name}\b(?!-)", text):
            pytest.importorskip("transformers", reason="the extra 'dev' is not installed")
            Path(name).mkdir()
            make(Path(name))


@pytest.mark.parametrize("script", scripts())
def test_documented_scripts_run(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _samples(tmp_path, monkeypatch, wants_nano=True)
    _borrow(script)
    exec(compile(script, "documented", "exec", dont_inherit=True), {"__name__": "documented"})


@pytest.mark.parametrize("recipe", RECIPE.findall((ROOT / "docs" / "training.md").read_text()))
def test_documented_recipes_train(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    _samples(tmp_path, monkeypatch, wants_nano=True)
    Path("mine.yaml").write_text(recipe)
    assert command(["train", "mine.yaml", "steps=1", "batch=2"]) == 0


def _samples(folder: Path, monkeypatch: pytest.MonkeyPatch, *, wants_nano: bool) -> None:
    """Go to a folder with the sample media."""
    if wants_nano and not SHIPPED["nano"].is_dir():
        pytest.skip("nano is not part of this checkout")
    for sample in SAMPLES.iterdir():
        shutil.copy(sample, folder)
    monkeypatch.chdir(folder)


def _run(text: str) -> int:
    """A plain mmworld command here, where torch is loaded already; anything else in a shell."""
    if text.startswith("mmworld ") and not set("|<>&;$") & set(text):
        return command(shlex.split(text, comments=True)[1:])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(["bash", "-c", text], env={**os.environ, "PATH": path}, check=False).returncode
