"""Training: strict shards, real and rendered sources, exact resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmworld.config import read


def run(path: Path | str, overrides: Sequence[str] = ()) -> Path:
    """See `mmworld.train.fit.run`, or `mmworld.train.speak.run` where the recipe has a `model`; torch is imported only
    now."""
    if "model" in read(path):
        from mmworld.train.speak import run as speak

        return speak(path, overrides)
    from mmworld.train.fit import run as start

    return start(path, overrides)
