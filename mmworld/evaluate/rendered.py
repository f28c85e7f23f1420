"""Suites on rendered media, which need no data: unseen scenes, and scenes that sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mmworld.evaluate.score import Score, share
from mmworld.render import Rendered, facts, mixed, scenes
from mmworld.render.words import join, split
from mmworld.types import Chunk

Say = Callable[[Sequence[Sequence[Chunk]]], list[str]]
"""A caption for each item's streams."""
SEED = 7_000_000_001
"""Item i is rendered from (SEED, i); training renders from (recipe seed, step), and its seeds are small."""
HELD = 200
"""Items rendered at a time."""


def unseen_scenes(say: Say, n: int = 1000) -> list[Score]:
    """Silent videos of moving shapes: what the caption claims is exactly what was rendered, or it is wrong."""
    rows = []
    for clips in _drawn(scenes.clip, n):
        for clip, said in zip(clips, say([c.chunks for c in clips]), strict=True):
            told, true = facts(said), facts(clip.caption)
            right = told.objects == true.objects, told.colours == true.colours, told.order == true.order
            rows.append((*right, all(right), said == clip.caption))
    parts = ("objects", "colours", "order", "all three")
    columns = list(zip(*rows, strict=True))
    scores = [share("scenes", part, column, 0.9) for part, column in zip(parts, columns, strict=False)]
    return [*scores, share("scenes", "caption word for word", columns[-1])]


def two_at_once(say: Say, n: int = 500) -> list[Score]:
    """Videos with sound: each half of the joint caption against what is said of the same stream alone."""
    seen: list[tuple[bool, bool]] = []
    heard: list[tuple[bool, bool]] = []
    for clips in _drawn(mixed.clip, n):
        both = [_halves(s) for s in say([c.chunks for c in clips])]
        for part, rows in ((0, seen), (1, heard)):
            true = [_halves(c.caption)[part] for c in clips]
            alone = say([c.chunks[part : part + 1] for c in clips])
            joint = [b[part] for b in both]
            rows += [(facts(j) == facts(t), facts(a) == facts(t)) for j, a, t in zip(joint, alone, true, strict=True)]
    return [_no_worse("seen", seen), _no_worse("heard", heard)]


def _halves(caption: str) -> tuple[str, str]:
    seen, *heard = split(caption)
    return seen, join(heard)


def _no_worse(name: str, rows: Sequence[tuple[bool, bool]]) -> Score:
    """The share right of both at once; no worse means less than two standard errors of the paired difference below
    that of one alone."""
    joint, alone = np.array(rows, float).T
    difference, error = (joint - alone).mean(), (joint - alone).std() / len(rows) ** 0.5
    note = f"difference {difference:+.3f} ± {error:.3f}"
    bar = float(alone.mean() - 2 * error)
    return share("mixed", f"{name}, both at once", list(joint), bar, {"alone": float(alone.mean())}, note)


def _drawn(draw: Callable[[np.random.Generator], Rendered], n: int) -> Iterator[list[Rendered]]:
    for first in range(0, n, HELD):
        yield [draw(np.random.default_rng((SEED, i))) for i in range(first, min(first + HELD, n))]
