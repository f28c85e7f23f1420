"""Rows into blocks against slices of the whole padded stream; one skeleton, packed or streamed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import MediaError
from mmworld.nn.blocks import Rows
from mmworld.nn.segment import segment_max, segment_mean
from mmworld.types import Chunk


@given(
    data=st.data(),
    n=st.integers(0, 40),
    size=st.integers(1, 7),
    context=st.integers(0, 9),
    edge=st.booleans(),
    t0=st.floats(-1e4, 1e6),
)
def test_blocks_are_slices_of_the_whole(
    data: st.DataObject, n: int, size: int, context: int, edge: bool, t0: float
) -> None:
    cutter, rate = Rows(size, context, rate=8.0, edge=edge), 8.0
    rows = torch.arange(1.0, n + 1)[:, None].expand(n, 2)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, n), max_size=5))), n]
    state, got = cutter.init_state(), []
    for i, (a, b) in enumerate(pairwise(cuts)):
        chunk = Chunk(rows[a:b], t0 + a / rate, t0 + b / rate, "x", last=i == len(cuts) - 2)
        got.append(cutter.cut(chunk, state))
        assert state.rows is None or len(state.rows) < context + size
    k = math.ceil(n / size)
    first, last = (float(rows[0, 0]), float(rows[-1, 0])) if edge and n else (0.0, 0.0)
    padded = [first] * context + rows[:, 0].tolist() + [last] * (k * size - n)
    expected = [padded[i * size : i * size + context + size] for i in range(k)]
    assert [b.tolist() for part in got if len(part) for b in part.data[..., 0]] == expected
    starts = [s for part in got for s in part.start.tolist()]
    ends = [e for part in got for e in part.end.tolist()]
    assert starts == [t0 + i * cutter.hop for i in range(k)]
    assert ends == pytest.approx([*[t0 + i * cutter.hop for i in range(1, k)], t0 + n / rate][:k], abs=1e-9)


def test_a_long_stream_keeps_its_clock() -> None:
    cutter = Rows(5, 0, rate=50.0)
    state = cutter.init_state()
    state.t0, state.index, state.rows = 0.3, 10_000_000, torch.zeros(0, 1)
    blocks = cutter.cut(Chunk(torch.zeros(5, 1), 1_000_000.3, 1_000_000.4, "x"), state)
    assert blocks.start.tolist() == [0.3 + 10_000_000 * 0.1]


def test_another_rate_is_refused() -> None:
    cutter = Rows(4, 0, rate=16_000.0)
    with pytest.raises(MediaError, match=r"not 16000 a second.*resample"):
        cutter.cut(Chunk(torch.zeros(44_100, 1), 0.0, 1.0, "audio"), cutter.init_state())


def test_another_shape_within_a_stream_is_refused() -> None:
    cutter = Rows(4, 0, rate=4.0)
    state = cutter.init_state()
    cutter.cut(Chunk(torch.zeros(2, 3), 0.0, 0.5, "sensor"), state)
    with pytest.raises(MediaError, match=r"rows of shape \[2\] after \[3\]"):
        cutter.cut(Chunk(torch.zeros(2, 2), 0.5, 1.0, "sensor"), state)


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 2**16))
def test_segments_are_reduced_one_by_one(index: list[int], seed: int) -> None:
    x = torch.randn(len(index), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    owner = torch.tensor(index, dtype=torch.long)
    mean, most = segment_mean(x, owner, 6), segment_max(x, owner, 6)
    for i in range(6):
        mine = x[owner == i]
        torch.testing.assert_close(mean[i], mine.mean(0) if len(mine) else torch.zeros(3, dtype=torch.float64))
        torch.testing.assert_close(most[i], mine.amax(0) if len(mine) else torch.zeros(3, dtype=torch.float64))
