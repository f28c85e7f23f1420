"""Streams merged, joined and read ahead are the same streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy import TOYS, cut, stream

from mmworld.errors import MediaError
from mmworld.stream.ops import batched, join, merge, prefetch
from mmworld.types import Chunk, Gap


def by_modality(chunks: list[Chunk]) -> dict[str, list[Chunk]]:
    return {n: [c for c in chunks if c.modality == n] for n in TOYS if any(c.modality == n for c in chunks)}


sizes = st.lists(st.integers(0, 12), max_size=8)


@given(st.dictionaries(st.sampled_from(sorted(TOYS)), sizes, min_size=1))
def test_merge_keeps_each_stream_and_orders_by_end(cuts: dict[str, list[int]]) -> None:
    streams = {n: cut(stream(n, 2.0), s) for n, s in cuts.items()}
    merged = list(merge(*streams.values()))
    assert by_modality(merged) == streams
    assert [c.end for c in merged] == sorted(c.end for c in merged)


@given(st.dictionaries(st.sampled_from(sorted(TOYS)), sizes, min_size=1), st.floats(0.05, 3))
def test_join_is_the_same_stream_in_long_chunks(cuts: dict[str, list[int]], seconds: float) -> None:
    wholes = {n: stream(n, 2.0) for n in cuts}
    merged = list(merge(*(cut(wholes[n], s) for n, s in cuts.items())))
    joined = list(join(merged, seconds, {"video", "audio"}))
    for name, chunks in by_modality(joined).items():
        assert torch.equal(torch.cat([c.data for c in chunks]), wholes[name].data)
        assert all(a.end == b.start for a, b in pairwise(chunks))
        assert [c.last for c in chunks] == [False] * (len(chunks) - 1) + [True]
        if name != "points":
            assert all(c.end - c.start >= seconds - 1e-6 for c in chunks[:-1])
    assert [c for c in joined if c.modality == "points"] == [c for c in merged if c.modality == "points"]


def test_prefetch_gives_all_in_order_and_is_bounded() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = prefetch(source(), depth=4)
    got = []
    for i in ahead:
        got.append(i)
        assert len(made) <= len(got) + 4 + 1
    assert got == list(range(100))


def test_prefetch_delivers_what_came_before_an_error() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("cut")

    ahead = prefetch(source())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="cut"):
        next(ahead)


def test_closing_closes_the_source_and_ends_the_thread() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = prefetch(endless(), depth=2)
    next(ahead)
    ahead.close()
    assert closed.is_set()
    assert not any(t.name == "prefetch" for t in threading.enumerate())


@given(st.integers(0, 40), st.integers(1, 9))
def test_batches_double_up_to_the_most(n: int, most: int) -> None:
    got = list(batched(iter(range(n)), most))
    assert [i for some in got for i in some] == list(range(n))
    assert [len(some) for some in got[:-1]] == [min(2**i, most) for i in range(len(got) - 1)]
    assert not got or 1 <= len(got[-1]) <= min(2 ** (len(got) - 1), most)


def test_the_first_batch_waits_for_nothing_and_an_error_for_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("unplugged")

    got = batched(items(), 4)
    assert [next(got), next(got), next(got)] == [[0], [1, 2], [3, 4]]
    with pytest.raises(OSError, match="unplugged"):
        next(got)


def test_none_is_joined_across_a_gap_and_what_came_before_a_fault_comes_before_it() -> None:
    before, gap, after = stream("video", 0.5), Gap(0.5, 1.0, "video", "outage"), stream("video", 0.5, start=1.0)

    def items() -> Iterator[Chunk | Gap]:
        yield from (replace(before, last=False), gap, replace(after, last=False))
        raise MediaError("cut", "the file is cut")

    joined, out = join(items(), 60.0, {"video"}), []
    with pytest.raises(MediaError):
        out += joined
    assert [(i.start, i.end, type(i)) for i in out] == [(0.0, 0.5, Chunk), (0.5, 1.0, Gap), (1.0, 1.5, Chunk)]
