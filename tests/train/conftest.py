"""A recipe that trains in seconds, on rendered media alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe file whose run lies in tmp_path / "run"."""
    small = {"dim": 16, "depth": 1, "n_heads": 2, "hidden": 16}
    adapters = {"audio": {**small, "width": 4, "n_mels": 16}, "sensor": {**small, "width": 8}}
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "world": {"backbone": {**small, "dropout": 0.1}, "adapters": adapters, "vocab": 400},
                "sources": {"sounds": 1.0, "series": 1.0},
                "out": str(tmp_path / "run"),
                "steps": 12,
                "batch": 3,
                "warmup": 2,
                "save_every": 4,
                "log_every": 3,
                "threads": 1,
            }
        )
    )
    return path
