"""Training: strict shards, real and rendered sources, exact resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def run(path: Path | str, overrides: Sequence[str] = ()) -> Path:
    """See `mmworld.train.fit.run`; torch is imported only now."""
    from mmworld.train.fit import run as start

    return start(path, overrides)
