"""Laws of the media clock: one monotone time for all streams, whatever the container's counters did."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import accumulate, pairwise

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


Packet = tuple[float, float]
"""When it comes, and how it is stamped, in seconds."""


def live(packets: list[Packet], step: float = 0.1) -> tuple[list[float], dict[int, str], Counter[str]]:
    """Where packets of one stream are placed, and at which of them its clock breaks."""
    now, counts, breaks = [0.0], Counter[str](), dict[int, str]()
    clock = Clock(Fraction(round(packets[0][1] * 90_000), 90_000), 10.0, counts, 1e9, now=lambda: now[0])
    times = []
    for i, (now[0], stamp) in enumerate(packets):
        ticks = round(stamp * 90_000) % WRAP
        times.append(clock.seconds(ticks + clock.place(0, ticks, BASE, round(step * 90_000)), BASE))
        if reason := clock.breaks.get(0):
            breaks[i] = reason
    return times, breaks, counts


def arriving(stamps: list[float], bursts: float, seed: int, gap: float = 0.0) -> list[Packet]:
    """Packets that are sent once `bursts` seconds of them are there, up to 0.3 s late, and all `gap` seconds later."""
    rng, ages = random.Random(seed), [s - stamps[0] for s in stamps]
    sent = [(a // bursts + 1) * bursts if bursts else a for a in ages]
    return list(zip(accumulate((gap + t + 0.3 * rng.random() for t in sent), max), stamps, strict=True))


def run_of(start: float, seconds: float) -> list[float]:
    return [start + i / 10 for i in range(round(seconds * 10))]


@given(st.floats(11, 50_000), st.sampled_from([0.0, 2.0, 6.0]), st.floats(0, 95_443), st.integers(0, 99))
def test_a_leap_that_has_passed_keeps_its_time(leap, bursts, begin, seed):
    """Wherever the counter stands, also where it wraps within the gap: nothing is closed up, and it is marked."""
    before, after = run_of(begin, 30), run_of(begin + 30 + leap, 30)
    packets = arriving(before, bursts, seed) + arriving(after, bursts, seed + 100, gap=30 + leap)
    times, breaks, counts = live(packets)
    assert times == pytest.approx([s - begin for s in before + after], abs=1e-4)
    assert breaks == {300: "jump"}
    assert not counts


@given(
    st.one_of(st.floats(-50_000, -1), st.floats(100, 50_000)),
    st.sampled_from([0.0, 2.0, 6.0]),
    st.floats(0, 80),
    st.integers(0, 99),
)
def test_a_counter_that_began_anew_goes_on_where_it_came(leap, bursts, outage, seed):
    """What follows stands where it came, within the lateness of arrivals; without an outage it goes on at once."""
    before = run_of(60_000, 40)
    after = run_of(60_040 + leap, 30)
    packets = arriving(before, bursts, seed) + arriving(after, bursts, seed + 100, gap=40 + outage)
    times, breaks, counts = live(packets)
    assert times[:400] == pytest.approx([i / 10 for i in range(400)], abs=1e-4)
    assert breaks == {400: "reset"}
    assert counts == {"discontinuity": 1}
    assert times[400] >= 40 - 1e-4
    assert times[400] == pytest.approx(40 + outage, abs=0.31)
    assert times[400:] == pytest.approx([times[400] + i / 10 for i in range(300)], abs=1e-4)


def test_two_streams_share_one_reset_whichever_meets_it_first():
    """They keep their distance, and neither goes back."""
    for ahead in (0.0, 0.5):
        now, counts = [0.0], Counter[str]()
        clock = Clock(Fraction(0), 10.0, counts, 1e9, now=lambda now=now: now[0])
        found: dict[int, list[float]] = {0: [], 1: []}
        for i in range(200):
            now[0] = i / 10 + (20 if i >= 100 else 0)
            for stream, lag in ((0, 0.0), (1, ahead)):  # the sound runs ahead of the pictures, or not, until the reset
                stamp = (i / 10 + 500 + lag) if i < 100 else (i - 100) / 10
                ticks = round(stamp * 90_000)
                found[stream].append(clock.seconds(ticks + clock.place(stream, ticks, BASE, 9000), BASE))
        assert counts == {"discontinuity": 1}
        for times in found.values():
            assert all(a < b for a, b in pairwise(times))
        assert found[0][100:] == found[1][100:]
        assert found[0][100] == pytest.approx(530, abs=0.6)


def test_two_clocks_that_part_are_no_leap():
    """A sender whose day is nine seconds longer, or shorter: a minute's outage in the evening is a minute's."""
    for rate in (1 + 1e-4, 1 - 1e-4):
        stamps = [i * 5.0 for i in range(17_280)]
        packets = [(s * rate, s) for s in stamps] + [(s * rate + 60, s + 60) for s in (s + 86_400 for s in stamps[:20])]
        times, breaks, _ = live(packets, 5.0)
        assert breaks == {17_280: "jump"}
        assert times[-1] == pytest.approx(packets[-1][1])
