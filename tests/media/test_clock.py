"""Laws of the media clock: one monotone time for all streams, whatever the container's counters did."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmworld.media.clock import WRAP, Clock

BASE = Fraction(1, 90_000)
STEP = 3000


def run(clock: Clock, ticks: list[int], step: int = STEP) -> list[float]:
    return [clock.seconds(t + clock.place(0, t, BASE, step), BASE) for t in ticks]


@given(st.integers(1, 20), st.integers(1, 20))
def test_a_wrap_is_undone_wherever_it_falls(before, n):
    truth = [WRAP - before * STEP + i * STEP + 7 for i in range(before + n)]
    clock = Clock(truth[0] * BASE, 10.0, counts := Counter())
    assert run(clock, [t % WRAP for t in truth]) == [float((t - truth[0]) * BASE) for t in truth]
    assert not counts


def test_wraps_add_up():
    """Every lap of 26.5 hours goes on where the last one ended."""
    truth = list(range(0, 5 * WRAP // 2, 9 * 90_000))
    clock = Clock(Fraction(0), 10.0, counts := Counter())
    assert run(clock, [t % WRAP for t in truth], 9 * 90_000) == [float(t * BASE) for t in truth]
    assert not counts


@given(st.lists(st.integers(0, WRAP - 1), min_size=1, max_size=5), st.integers(3, 30))
def test_jumps_are_closed_up(starts, n):
    """Segments stamped at random places follow one another without gap or overlap."""
    ticks = [(start + i * STEP) % WRAP for start in starts for i in range(n)]
    counts: Counter[str] = Counter()
    times = run(Clock(ticks[0] * BASE, 10.0, counts), ticks)
    steps = [b - a for a, b in pairwise(times)]
    assert all(-0.1 <= step <= 10.04 for step in steps)
    assert counts["discontinuity"] <= len(starts) - 1


@given(st.integers(-100_000, 100_000), st.integers(1, 20))
def test_streams_share_one_jump(lag, late):
    """Two streams jump together; whichever comes first, both keep their distance and it counts once."""
    shift = 50_000_000
    counts: Counter[str] = Counter()
    clock = Clock(Fraction(0), 10.0, counts)
    video = [i * STEP for i in range(40)] + [shift + i * STEP for i in range(40, 80)]
    sound = [t + lag for t in video]
    order = [(i + (late if s else 0), s, t) for s, ticks in enumerate((video, sound)) for i, t in enumerate(ticks)]
    found: tuple[list[float], list[float]] = ([], [])
    for _, stream, t in sorted(order):
        found[stream].append(clock.seconds(t + clock.place(stream, t, BASE, STEP), BASE))
    assert counts["discontinuity"] == 1
    for a, b in zip(*found, strict=True):
        assert abs(b - a - float(lag * BASE)) < 1e-9


@given(st.integers(-(10**9), 10**9), st.fractions(min_value=-100, max_value=100, max_denominator=10**6))
def test_seconds_are_rounded_once(ticks, origin):
    assert Clock(origin, 10.0, Counter()).seconds(ticks, BASE) == float(ticks * BASE - origin)


@given(st.integers(0, 10**9), st.fractions(min_value=-100, max_value=100, max_denominator=90_000))
def test_ticks_undo_seconds(ticks, origin):
    clock = Clock(origin, 10.0, Counter())
    assert abs(clock.ticks(clock.seconds(ticks, BASE), BASE) - ticks) <= 1


def test_gaps_add_up_to_an_hour_at_most():
    """A file of 10,000 packets, each stamped nine minutes after the last, does not become two months of silence."""
    counts: Counter[str] = Counter()
    times = run(Clock(Fraction(0), 600.0, counts), [i * 540 * 90_000 for i in range(10_000)])
    assert times[-1] < 3700 + 10_000 * 2
    assert counts["discontinuity"] > 9000


def test_unknown_times_change_nothing():
    clock = Clock(Fraction(0), 10.0, counts := Counter())
    run(clock, [0, STEP])
    assert clock.place(0, None, BASE, STEP) == 0
    assert run(clock, [2 * STEP]) == [2 * STEP / 90_000]
    assert not counts


@pytest.mark.parametrize("live", [True, False])
def test_gaps_of_what_is_live_are_never_closed_up(live):
    """Three hours of a packet every five seconds: of a file, an hour of gaps is believed."""
    counts: Counter[str] = Counter()
    clock = Clock(Fraction(0), 10.0, counts, *((1e9,) if live else ()))
    times = run(clock, [i * 5 * 90_000 for i in range(2160)])
    assert (times[-1] == 2159 * 5.0) == live
    assert bool(counts) != live
