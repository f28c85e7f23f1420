"""Readings as a sensor sends them: cut, repeated, out of order; from a file or through a pipe."""

from __future__ import annotations

import io
import json
import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import LimitError
from mmworld.media.gate import open_media
from mmworld.modalities.sensor.readers import read_series


def line(time: object, *values: object) -> bytes:
    return json.dumps({"time": time, "values": list(values)}).encode() + b"\n"


def read(data: bytes, rate: float = 10.0) -> tuple[np.ndarray, float, dict[str, int]]:
    """All rows, the time of the first, and what was counted; through a pipe."""
    source, sink = os.pipe()
    with open(source, "rb") as pipe:
        os.write(sink, data)
        os.close(sink)
        media = open_media(pipe)
        pieces = list(read_series(media, rate))
    return np.concatenate([p[2].numpy() for p in pieces]), pieces[0][0], dict(media.counts)


@given(st.integers(0, 10_000))
def test_within_the_window_order_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    at = [i / 10 for i in range(50)]
    sent = sorted(at[1:], key=lambda t: t + rng.uniform(0, 0.9))
    data = b"".join(line(t, 2 * t, -t) for t in [at[0], *sent])
    rows, begin, counts = read(data)
    assert begin == 0.0
    assert np.allclose(rows, [[2 * t, -t] for t in at], atol=1e-5)
    assert not counts


BAD = [
    b"{",
    b"nonsense",
    b'{"time": 1}',
    b'{"time": NaN, "values": [1]}',
    b'{"time": "1", "values": [1]}',
    b'{"time": true, "values": [1]}',
    b'{"time": 1, "values": ["a"]}',
    b'{"time": 1, "values": [[1]]}',
    b'{"time": 1, "values": [1, 2]}',
    b'{"time": 1, "values": []}',
    b'{"time": 1e300, "values": [1]}',
    b"[" * 5000,
]


def test_bad_lines_are_counted_and_left_out() -> None:
    good = [line(i / 10, i) for i in range(20)]
    data = b"".join(g + b + b"\n" for g, b in zip(good, BAD, strict=False)) + b"".join(good[len(BAD) :])
    rows, _, counts = read(data)
    assert rows[:, 0] == pytest.approx(list(range(20)), abs=1e-4)
    assert counts == {"bad lines": len(BAD)}


def test_what_comes_too_late_or_twice_is_counted() -> None:
    data = line(0, 0) + line(1, 1) + line(3, 3) + line(0.5, 99) + line(3, 99) + line(5, 5)
    rows, _, counts = read(data, rate=1.0)
    assert rows[:, 0] == pytest.approx([0, 1, 2, 3, 4, 5])
    assert counts == {"late": 2}


def test_a_value_that_is_missing_repeats_the_one_before() -> None:
    rows, _, counts = read(line(0, 1, 2) + line(1, None, 3) + line(2, 4, float("nan")), rate=1.0)
    assert rows.tolist() == [[1, 2], [1, 3], [4, 3]]
    assert not counts


def test_it_is_given_before_the_stream_ends() -> None:
    source, sink = os.pipe()
    with open(source, "rb") as pipe:
        os.write(sink, b"".join(line(i / 10, i) for i in range(30)))
        pieces = iter(read_series(open_media(pipe), 10.0))
        heard = 0
        while heard < 19:  # all but the last second
            heard += len(next(pieces)[2])
        os.close(sink)
        assert heard + sum(len(p[2]) for p in pieces) == 30


def test_too_many_channels() -> None:
    with pytest.raises(LimitError, match="channels"):
        read_series(io.BytesIO(line(0, *range(2000))), 1.0)
