"""The wheel has everything in it, the lock names no index, and set-up is done once."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def tracked(folder: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    return set(listed.stdout.split())


def test_the_wheel_ships_all_that_is_tracked(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    links = {"mmworld/modalities", "mmworld/configs"}
    assert tracked("mmworld") - links <= inside
    assert {f"mmworld/{name}" for name in tracked("modalities") | tracked("configs")} <= inside
    assert {f"mmworld/samples/{name}" for name in ("scene.mp4", "sounds.wav", "captions.json")} <= inside
    assert not any(name.startswith(("tests/", "modalities/", "configs/", "runs/")) for name in inside)


def test_the_wheel_is_small_and_has_the_command(wheel: Path) -> None:
    assert wheel.stat().st_size < 40e6
    archive = zipfile.ZipFile(wheel)
    entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
    text = archive.read(entry).decode()
    assert "mmworld = mmworld.cli:main" in text
    assert "audio = mmworld.modalities.audio:Audio" in text


def test_an_unpacked_wheel_runs_anywhere(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mmworld.cli import main; main()"
    command = [sys.executable, "-c", code, str(tmp_path / "site"), "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("mmworld ")


def test_the_lock_has_hashes_and_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*-", re.sub(r"^\s+--hash=sha256:[0-9a-f]{64}( \\)?$", "", text, flags=re.MULTILINE), re.MULTILINE
    )
    entries = re.findall(r"^([a-z0-9][a-z0-9._-]*)==.*\\$", text, re.MULTILINE)
    pinned = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE)
    assert entries == pinned


def test_the_lock_covers_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *project["optional-dependencies"]["train"],
    ]
    names = {re.match(r"[A-Za-z0-9-]+", requirement)[0].lower() for requirement in wanted} - {"mmworld"}  # type: ignore[index]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert names <= locked
    pins = re.findall(r"^(\S+)==(\S+)$", (ROOT / "scripts" / "pins.txt").read_text(), re.MULTILINE)
    assert all(f"{name}=={pin} " in (ROOT / "requirements.lock").read_text() for name, pin in pins)


def test_make_sets_up_once() -> None:
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("the environment was not made by make")
    done = subprocess.run(["make", "--question", "setup"], cwd=ROOT, check=False)
    assert done.returncode == 0
