"""A live source's items: what is missing is marked, and a clock that was set back goes on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.stream.again import HOLE
from mmworld.stream.unbroken import BACK, unbroken
from mmworld.types import Chunk, Gap

RATE = 50


def chunk(start: int, rows: int) -> Chunk:
    """Rows that hold their numbers."""
    data = torch.arange(start, start + rows, dtype=torch.float32)[:, None]
    return Chunk(data, start / RATE, (start + rows) / RATE, "audio")


def sent(sizes: list[int]) -> list[Chunk]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [chunk(start, n) for start, n in zip(starts, sizes, strict=True)]


sizes = st.lists(st.integers(1, 20), min_size=2, max_size=60)


@given(sizes, st.data())
def test_what_is_missing_is_marked(sizes: list[int], data: st.DataObject) -> None:
    whole = sent(sizes)
    came = [whole[0], *(c for c in whole[1:] if data.draw(st.booleans()))]
    out = list(unbroken(came, "mic"))
    assert [c for c in out if isinstance(c, Chunk)] == came
    holes = [b.start - a.end for a, b in pairwise(out)]
    assert all(-1e-9 < hole <= HOLE for hole in holes)
    gaps = [i for i, g in enumerate(out) if isinstance(g, Gap)]
    assert all((out[i].reason, out[i].source) == ("missing", "mic") for i in gaps)  # type: ignore[union-attr]
    for first, after in pairwise([0, *gaps, len(out)]):
        assert sum(holes[first : after - 1]) <= HOLE + 1e-9, "small ones add up to no more than one that is marked"


@given(sizes, st.floats(2 * BACK, 1e6), st.integers(0, 59))
def test_a_clock_that_was_set_back_goes_on_where_it_was(sizes: list[int], back: float, at: int) -> None:
    """What is sent after is late at first, and then stands as if the clock had gone on; what was late is marked."""
    whole = [replace(c, start=c.start + back, end=c.end + back) for c in sent([*sizes, *[20] * 20])]
    at = min(at, len(sizes) - 1)
    out = list(unbroken([*whole[:at], *(replace(c, start=c.start - back, end=c.end - back) for c in whole[at:])], "a"))
    if at == 0:
        assert len(out) == len(whole)
        return
    now = whole[at - 1].end
    late = [c for c in out if c.end < now - BACK / 2 and c not in whole[:at]]
    right = [c for c in out if isinstance(c, Chunk) and c not in late]
    assert sum(len(c.data) for c in late if isinstance(c, Chunk)) / RATE <= BACK + 1e-6
    assert all(abs(c.start - float(c.data[0]) / RATE - back) < 1e-6 for c in right)
    assert all(b.start - a.end <= HOLE for a, b in pairwise(i for i in out if i not in late))


def test_one_that_is_late_or_comes_twice_moves_nothing() -> None:
    whole = sent([100] * 5)
    for extra in (whole[0], whole[3]):
        assert list(unbroken([*whole[:4], extra, whole[4]], "a")) == [*whole[:4], extra, whole[4]]
