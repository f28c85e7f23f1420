"""Gaps as they are told of: what is told tiles what came, soon at first and seldom later."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.stream.gaps import LONGEST, Gaps
from mmworld.types import Chunk, Gap

STEPS = st.lists(st.tuples(st.sampled_from(["late", "slow", "frame", "empty"]), st.floats(0.01, 30)), max_size=60)


def items(steps: list[tuple[str, float]], modality: str = "video") -> list[Chunk | Gap]:
    made: list[Chunk | Gap] = []
    at = 0.0
    for kind, lasts in steps:
        rows = torch.zeros(int(kind == "frame"), 1)
        one = Gap(at, at + lasts, modality, kind, "cam") if kind in ("late", "slow") else None
        made.append(one or Chunk(rows, at, at if kind == "empty" else at + lasts, modality))
        at = made[-1].end
    return made


def told(coming: list[Chunk | Gap], gaps: Gaps | None = None) -> list[Gap]:
    gaps = gaps or Gaps()
    return [gap for item in coming for gap in gaps.take(item)] + list(gaps.end("video"))


def joined(gaps: list[Gap]) -> list[Gap]:
    """Those that follow one another as one."""
    out: list[Gap] = []
    for gap in gaps:
        if out and out[-1].reason == gap.reason and math.isclose(out[-1].end, gap.start, abs_tol=1e-6):
            out[-1] = replace(out[-1], end=gap.end)
        else:
            out.append(gap)
    return out


@given(STEPS)
def test_what_is_told_tiles_what_came(steps: list[tuple[str, float]]) -> None:
    coming = items(steps)
    assert joined(told(coming)) == joined([item for item in coming if isinstance(item, Gap)])


@given(STEPS)
def test_the_first_of_a_gap_is_told_at_once_and_the_last_when_it_has_ended(steps: list[tuple[str, float]]) -> None:
    gaps, before = Gaps(), None
    for item in items(steps):
        now = list(gaps.take(item))
        if isinstance(item, Gap) and (before is None or before.reason != item.reason):
            assert now[-1] == item
        if isinstance(item, Chunk) and len(item.data):
            assert list(gaps.end("video")) == []
            before = None
        elif isinstance(item, Gap):
            before = item


def test_a_day_of_silence_is_told_of_once_a_minute() -> None:
    coming = items([("late", 0.25)] * (4 * 3600 * 24))
    found = told(coming)
    assert len(found) <= 24 * 60 + 10
    assert all(b.end - b.start <= LONGEST + 0.25 for b in found)
    lengths = [gap.end - gap.start for gap in found]
    assert all(b <= 2 * sum(lengths[: i + 1]) for i, (_, b) in enumerate(pairwise(lengths)))


@given(STEPS, st.data())
def test_saved_anywhere_it_goes_on_as_if_never_stopped(steps: list[tuple[str, float]], data: st.DataObject) -> None:
    coming = items(steps)
    at, gaps = data.draw(st.integers(0, len(coming))), Gaps()
    first = [gap for item in coming[:at] for gap in gaps.take(item)]
    assert first + told(coming[at:], Gaps.restored(json.loads(json.dumps(gaps.leaves())))) == told(coming)
