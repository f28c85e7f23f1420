"""docs/adding-a-modality.md does what it says, in a package outside the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-modality.md"


def install(folder: Path) -> dict[str, str]:
    """The page's files in `folder`, with the metadata that installing them would leave; returns them by name."""
    files = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S))
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    return files


def test_the_page_runs(tmp_path: Path) -> None:
    files = install(tmp_path)
    assert len(files["mmworld_depth/__init__.py"].splitlines()) < 60
    root = str(PAGE.parents[1])
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), root)), "OMP_NUM_THREADS": "1"}
    program = "import runpy; [runpy.run_path(p) for p in ('check.py', 'model.py')]"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the laws hold" in done.stdout
    assert re.search(r"one packed batch: [1-9]\d* text tokens predicted", done.stdout)
