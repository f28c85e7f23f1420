"""Few values a second of many: the extremes of each cell of time, and the first of each, whatever the chunks were."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.stream.envelope import Envelope, Thinning, times
from mmworld.types import Chunk

STEPS = st.lists(st.integers(0, 40), min_size=1, max_size=200)
"""Distances between samples, in units of 10 ms: some cells hold many, others none."""


@given(STEPS, st.integers(1, 20), st.sampled_from([1.0, 4.0, 50.0]))
def test_an_envelope_holds_the_extremes_of_each_cell(steps: list[int], size: int, rate: float) -> None:
    ticks = np.cumsum(steps)
    values = np.random.default_rng(len(steps)).normal(size=len(ticks))
    cells: dict[int, list[float]] = {}
    for tick, value in zip(ticks, values, strict=True):
        cells.setdefault(int(tick) * int(rate) // 100, []).append(float(value))
    envelope = Envelope(rate)
    parts = [envelope.add(ticks[i : i + size] / 100, values[i : i + size]) for i in range(0, len(ticks), size)]
    at, low, high = (np.concatenate(x) for x in zip(*parts, envelope.rest(), strict=True))
    assert at == pytest.approx([c / rate for c in cells])
    assert low.tolist() == [min(x) for x in cells.values()]
    assert high.tolist() == [max(x) for x in cells.values()]


@given(STEPS, st.integers(1, 20), st.sampled_from([1.0, 4.0, 50.0]))
def test_thinning_keeps_the_first_of_each_cell(steps: list[int], size: int, rate: float) -> None:
    ticks = np.cumsum(steps)
    thinning = Thinning(rate)
    kept = [i + k for i in range(0, len(ticks), size) for k in thinning.kept(ticks[i : i + size] / 100)]
    cells = [int(t) * int(rate) // 100 for t in ticks]
    assert kept == [i for i, c in enumerate(cells) if c not in cells[:i]]


def test_rows_lie_evenly_in_their_chunk() -> None:
    assert times(Chunk(torch.zeros(4, 1), 2.0, 3.0, "sensor")).tolist() == [2.0, 2.25, 2.5, 2.75]
    assert times(Chunk(torch.zeros(1, 3, 2, 2), 5.0, 5.0, "image")).tolist() == [5.0]
    assert not math.prod(times(Chunk(torch.zeros(0, 1), 2.0, 3.0, "audio")).shape)
