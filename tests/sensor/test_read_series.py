"""Sensor series: what was written comes back on the right clock, whatever the format and the size of a block."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import tracemalloc

import numpy as np
import pytest
import torch
from clouds import write_npy
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import LimitError, MediaError
from mmworld.modalities.sensor.readers import read_series, series_file

BLOCKS = st.sampled_from([1, 3, 7, 4096])


def drain(data: bytes, name: str, rate=None, block_rows=4096):
    """Channel names, first start, last end, all rows; the pieces must tile time and hold at most a block."""
    series = series_file(io.BytesIO(data), name, rate, block_rows=block_rows)
    pieces = list(series)
    for (_, end, _), (start, _, _) in itertools.pairwise(pieces):
        assert start == end
    for start, end, values in pieces:
        assert values.dtype == torch.float32
        assert 0 < len(values) <= block_rows
        assert torch.isfinite(values).all()
        assert end >= start
    return series.names, pieces[0][0], pieces[-1][1], torch.cat([v for _, _, v in pieces]).numpy()


def table(seed: int, rows: int, channels: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 100, (rows, channels)).astype(np.float32)


def csv(names, values, delimiter=",", end="\n") -> bytes:
    lines = [delimiter.join(names)] if names else []
    lines += [delimiter.join("" if v is None else repr(float(v)) for v in row) for row in values]
    return "".join(line + end for line in lines).encode()


@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.integers(1, 5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    BLOCKS,
)
def test_csv(seed, rows, channels, delimiter, end, header, block_rows):
    values = table(seed, rows, channels)
    names = [f"a{i}" for i in range(channels)] if header else None
    got = drain(csv(names, values, delimiter, end), "a.csv", 50.0, block_rows)
    assert got[0] == tuple(names or [f"channel{i}" for i in range(channels)])
    assert got[1:3] == (0.0, pytest.approx(rows / 50))
    np.testing.assert_array_equal(got[3], values)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5), st.booleans(), BLOCKS)
def test_jsonl(seed, rows, channels, named, block_rows):
    values = table(seed, rows, channels)
    names = [f"a{i}" for i in range(channels)]
    lines = [json.dumps(dict(zip(names, row, strict=True)) if named else row) for row in values.astype(float).tolist()]
    got = drain("\n".join(lines).encode(), "a.jsonl", 10.0, block_rows)
    assert got[0] == tuple(names if named else [f"channel{i}" for i in range(channels)])
    np.testing.assert_array_equal(got[3], values)


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5), st.sampled_from("CF"), BLOCKS)
def test_npy(seed, rows, channels, order, block_rows):
    values = table(seed, rows, channels)
    got = drain(write_npy(np.asarray(values, order=order)), "a.npy", 10.0, block_rows)
    np.testing.assert_array_equal(got[3], values)
    one = drain(write_npy(values[:, 0].astype("f8")), "a.npy", 10.0, block_rows)
    np.testing.assert_array_equal(one[3], values[:, :1])
    record = np.zeros(rows, [("time", "f8"), ("ax", ">f4"), ("n", "i2")])
    record["time"], record["ax"] = np.arange(rows) / 7, values[:, 0]
    names, start, _end, got_values = drain(write_npy(record), "a.npy", None, block_rows)
    assert (names, start) == (("ax", "n"), 0.0)
    np.testing.assert_array_equal(got_values[:, 0], values[:, 0])


@given(st.integers(0, 2**32), st.integers(2, 60), st.sampled_from(["t", "Time", "timestamp"]), BLOCKS)
def test_a_clock_is_kept_without_a_rate(seed, rows, clock, block_rows):
    rng = np.random.default_rng(seed)
    t = 1000 + np.cumsum(rng.uniform(0.01, 0.5, rows))
    values = table(seed, rows, 2)
    data = csv(["ax", clock, "ay"], np.stack([values[:, 0], t, values[:, 1]], 1))
    names, start, end, got = drain(data, "a.csv", None, block_rows)
    assert names == ("ax", "ay")
    assert start == pytest.approx(t[0])
    assert end == pytest.approx(t[-1] + (t[-1] - t[-2]))
    np.testing.assert_array_equal(got, values)


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0.5, 200), BLOCKS)
def test_a_clock_and_a_rate_interpolate_the_same_in_any_blocks(seed, rows, rate, block_rows):
    rng = np.random.default_rng(seed)
    t = 1000 + np.cumsum(rng.uniform(0.01, 0.5, rows))
    values = table(seed, rows, 2)
    _, start, end, got = drain(csv(["t", "ax", "ay"], np.column_stack([t, values])), "a.csv", rate, block_rows)
    grid = t[0] + np.arange(len(got)) / rate
    assert start == pytest.approx(t[0])
    assert end == pytest.approx(grid[-1] + 1 / rate)
    assert grid[-1] <= t[-1] + 1e-5 < grid[-1] + 1 / rate + 1e-4
    np.testing.assert_allclose(got, np.stack([np.interp(grid, t, v) for v in values.T], 1), rtol=1e-4, atol=1e-2)


@given(st.integers(0, 2**32), st.integers(1, 40), BLOCKS)
def test_missing_values_repeat_the_last_good_one(seed, rows, block_rows):
    rng = np.random.default_rng(seed)
    values = table(seed, rows, 3).astype(float)
    bad = rng.uniform(size=values.shape) < 0.3
    want = np.zeros_like(values)
    for c in range(3):
        last = 0.0
        for i in range(rows):
            last = last if bad[i, c] else values[i, c]
            want[i, c] = last
    spoiled = np.where(bad, rng.choice([np.nan, np.inf, -np.inf, 1e300], values.shape), values)
    cells = [[None if bad[i, c] and c == 0 else v for c, v in enumerate(row)] for i, row in enumerate(spoiled)]
    got = drain(csv(["a", "b", "c"], cells), "a.csv", 10.0, block_rows)
    np.testing.assert_allclose(got[3], want, rtol=1e-6)
    lines = "\n".join(json.dumps({"a": r[0], "b": r[1], "c": r[2]}) for r in cells).encode()
    np.testing.assert_allclose(drain(lines, "a.jsonl", 10.0, block_rows)[3], want, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "name", "rate", "match"),
    [
        (b"", "a.csv", 1.0, "no rows"),
        (b"\n\n", "a.jsonl", 1.0, "no rows"),
        (b"a,b\n1,2\n3,four\n5\n", "a.csv", 1.0, "row 3: 'four'.*row 4: 1 columns, expected 2"),
        (b"a,b\n1,2\n", "a.csv", None, "no column t"),
        (b"t\n1\n", "a.csv", None, "0 channels"),
        (b"t,a\n1,2\n1,2\n", "a.csv", None, "row 2"),
        (b"t,a\n1,2\nnan,2\n", "a.csv", 5.0, "row 2"),
        (b"t,a\n1,2\n1e300,2\n", "a.csv", 5.0, "row 2"),
        (b"t,a\n1,2\n1e9,2\n", "a.csv", 50.0, "gap"),
        (b"1,2\n", "a.csv", 0.0, "rate of 0"),
        (b"1,2\n", "a.csv", math.nan, "rate of nan"),
        (b"1,2\n", "a.csv", 1e12, "rate of"),
        (b'{"a": 1}\n{"a": "x"}', "a.jsonl", 1.0, "row 2: 'x'"),
        (b'{"a": 1}\n{"b": 1}', "a.jsonl", 1.0, "row 2: a new channel 'b'"),
        (b"[1, 2]\n[1]", "a.jsonl", 1.0, "row 2"),
        (b"[1]\n" + b"[" * 60_000, "a.jsonl", 1.0, "row 2"),
        (b"[1]\n[[1]]", "a.jsonl", 1.0, "row 2"),
        (b'{"a": 1', "a.jsonl", 1.0, "row 1"),
        (write_npy(np.zeros((2, 3, 4))), "a.npy", 1.0, "shape"),
        (write_npy(np.zeros((100, 3)))[:-1], "a.npy", 1.0, "2400"),
        (write_npy(np.zeros((0, 5000))), "a.npy", 1.0, "channels"),
        (b"x,y\n1,2\n", "a.xls", 1.0, "not a sensor series"),
    ],
)
def test_bad_series(data, name, rate, match):
    with pytest.raises(MediaError, match=match) as caught:
        list(series_file(io.BytesIO(data), name, rate))
    assert caught.value.exit_code == 4


def test_limits():
    with pytest.raises(LimitError, match="65536"):
        list(series_file(io.BytesIO(b"1," * 100_000), "a.csv", 1.0))
    with pytest.raises(LimitError, match="5000 columns"):
        series_file(io.BytesIO(b",".join([b"1"] * 5000)), "a.csv", 1.0)
    assert next(iter(series_file(io.BytesIO(b"[1" + b"0" * 400 + b"]"), "a.jsonl", 1.0)))[2].item() == 0.0


def test_a_live_series_is_read_as_it_comes():
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", buffering=0) as out, os.fdopen(reader, "rb") as file:
        out.write(b"ax,ay\n")
        out.write(b"1,2\n3,4\n5,")
        pieces = iter(series_file(file, "a.csv", 10.0))
        assert next(pieces)[2].tolist() == [[1, 2], [3, 4]]
        out.write(b"6\n")
        assert next(pieces)[2].tolist() == [[5, 6]]
        out.close()
        assert list(pieces) == []


def test_a_long_series_costs_one_block(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,ax\n" + b"".join(b"%d,1.5\n" % i for i in range(500_000)))
    tracemalloc.start()
    rows = sum(len(v) for _, _, v in read_series(path, block_rows=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 500_000
    assert peak < 60e6  # all rows as float64 and their text would be 100 MB and more
