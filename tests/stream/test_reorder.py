"""What comes a little out of order comes out in order; what comes too late is counted, not given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mmworld.stream.reorder import reorder

times = st.lists(st.integers(0, 60).map(float), max_size=60)


def put_right(at: list[float], window: float, most: int = 4096) -> tuple[list[tuple[int, float]], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(reorder(enumerate(at), lambda item: item[1], window, counts, most)), counts


@given(times, st.integers(0, 20), st.integers(0, 8))
def test_what_comes_out_is_in_order_and_the_rest_is_counted(at: list[float], window: int, most: int) -> None:
    out, counts = put_right(at, float(window), most)
    assert out == sorted(out, key=lambda item: (item[1], item[0]))
    assert len(set(out)) == len(out)
    assert set(out) <= set(enumerate(at))
    assert len(out) + counts["late"] == len(at)


@given(times, st.integers(0, 20))
def test_nothing_within_the_window_is_left_out(at: list[float], window: int) -> None:
    behind = [max(at[: i + 1]) - t for i, t in enumerate(at)]
    out, counts = put_right(at, float(window))
    kept = {i for i, _ in out}
    assert all(i in kept for i, late in enumerate(behind) if late < window)
    if all(late < window for late in behind):
        assert [t for _, t in out] == sorted(at)
        assert not counts


@given(times, st.integers(0, 20), st.integers(0, 8))
def test_no_more_is_held_than_may_be(at: list[float], window: int, most: int) -> None:
    taken = 0

    def items() -> Iterator[float]:
        nonlocal taken
        for t in at:
            taken += 1
            yield t

    counts: Counter[str] = Counter()
    for n, _ in enumerate(reorder(items(), float, float(window), counts, most), 1):
        assert taken - counts["late"] - n <= most


@given(st.lists(st.integers(0, 50), min_size=1, max_size=50), st.integers(1, 10))
def test_one_wild_time_does_not_end_the_stream(steps: list[int], window: int) -> None:
    """A clock that leaps for one reading holds up nobody: what follows it is given as it comes."""
    at = [float(sum(steps[: i + 1])) for i in range(len(steps))]
    out, counts = put_right([1e9, *at], float(window))
    assert [t for _, t in out] == [*at, 1e9]
    assert not counts
