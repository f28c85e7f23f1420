"""A rate that is lowered: evenly, of frames alone, each left-out one counted, its time marked, and never for long."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.stream.intake import MOST, End, Feed, Intake, Lane
from mmworld.stream.thin import Thin
from mmworld.types import Chunk, Gap

shares = st.floats(0.0, 1.0)


def steps(filled: float) -> int:
    """Halved once at half of the room, and once more at each further sixteenth of it."""
    return 2 ** sum(filled >= share / 16 for share in range(8, 16))


@given(shares, st.lists(shares, max_size=20), st.sampled_from([0.0, 0.5]), st.integers(1, 4))
def test_at_one_fill_what_passes_is_evenly_spaced(filled: float, before: list[float], unit: float, parts: int) -> None:
    """Whatever came before; of units of several chunks whole ones pass."""
    thin, times = Thin(unit), (i * (unit or 1.0) / (parts if unit else 1) for i in range(10**6))
    size = parts if unit else 1
    for share in before:
        for _ in range(size):
            thin.passes(next(times), share)
    passed = [[thin.passes(next(times), filled) for _ in range(size)] for _ in range(1100)]
    assert all(len(set(one)) == 1 for one in passed)
    at = [i for i, one in enumerate(passed) if one[0]]
    assert {b - a for a, b in pairwise(at)} == {thin.step}
    assert thin.step >= steps(filled)
    assert thin.step <= max(steps(min(1.0, 2 * filled + 1e-9)), 1), "and no longer than half of what lowered it"


@given(st.lists(shares, max_size=50))
def test_once_nothing_waits_every_frame_passes(fills: list[float]) -> None:
    thin = Thin(0.0)
    for i, filled in enumerate(fills):
        thin.passes(float(i), filled)
    assert all(thin.passes(float(len(fills) + i), 0.0) for i in range(20))
    assert thin.step == 1


def test_no_rate_is_taken_from_what_is_near_a_level() -> None:
    """Between a level and half of it the rate stays, whichever way it came there."""
    thin = Thin(0.0)
    told = []
    for i, filled in enumerate([0.49, 0.5, 0.49, 0.26, 0.51, 0.24, 0.49]):
        thin.passes(float(i), filled)
        told.append(thin.step)
    assert told == [1, 2, 2, 2, 2, 1, 1]


def film(n: int, start: int = 0) -> Iterator[Chunk]:
    """A frame of an eighth of a second and the sound with it, n times."""
    for i in range(start, start + n):
        yield Chunk(torch.full((1, 3), i), i / 8, (i + 1) / 8, "video")
        yield Chunk(torch.full((4, 1), float(i)), i / 8, (i + 1) / 8, "audio")


def run(unit: float, flood: int = 600, calm: int = 40) -> tuple[list[Chunk | Gap], Lane]:
    """A flood that nobody takes anything of, then what is taken as it comes."""
    flooded, taken = threading.Event(), threading.Semaphore(0)

    def camera() -> Iterator[Chunk]:
        yield from film(flood)
        flooded.set()
        for chunk in film(calm, flood):
            assert taken.acquire(timeout=20)
            yield chunk

    feed = Feed("cam", ("video", "audio"), camera(), live=True)
    intake = Intake([feed], pressure="thin", unit=lambda modality: unit)
    (lane,) = intake.lanes
    given: list[Chunk | Gap] = []
    while not flooded.is_set() and not lane.full:
        flooded.wait(0.001)
    held = len(lane.items)
    for n, (_, item) in enumerate(intake, 1):
        if not isinstance(item, End):
            given.append(item)
        if n >= held:
            taken.release()
    intake.close()
    return given, lane


@pytest.mark.parametrize("unit", [0.0, 0.25])
def test_sound_is_never_left_out_and_frames_are_counted_and_their_time_is_marked(unit: float) -> None:
    given, lane = run(unit, flood=200)
    total = 240
    heard = torch.cat([c.data for c in given if isinstance(c, Chunk) and c.modality == "audio"])
    assert heard[:, 0].tolist() == [float(i) for i in range(total) for _ in range(4)]
    seen = [c for c in given if c.modality == "video"]
    assert all(abs(a.end - b.start) < 1e-9 for a, b in pairwise(seen)), "frames and gaps tile the time"
    assert (seen[0].start, seen[-1].end) == (0.0, total / 8)
    frames = [int(c.data[0, 0]) for c in seen if isinstance(c, Chunk)]
    gaps = [g for g in seen if isinstance(g, Gap)]
    assert gaps
    assert {(g.reason, g.source) for g in gaps} == {("slow", "cam")}
    assert lane.counts == {"slow": total - len(frames)}
    assert sum(g.end - g.start for g in gaps) == pytest.approx(lane.counts["slow"] / 8)
    assert lane.step == 1, "it has come back to its full rate"
    assert frames[-20:] == list(range(total - 20, total))


@pytest.mark.parametrize("unit", [0.0, 0.25])
def test_what_passes_of_a_flood_is_ever_more_seldom_and_the_same_each_time(unit: float) -> None:
    """Every frame, then every second, every fourth…, of whole units; in no other order."""
    n = round(8 * unit) or 1
    runs = []
    for _ in range(2):
        given, _ = run(unit, flood=150)
        runs.append([int(c.data[0, 0]) for c in given if isinstance(c, Chunk) and c.modality == "video"])
    assert runs[0] == runs[1]
    units = sorted({f // n for f in runs[0] if f < 150})
    assert [f for f in runs[0] if f < 150] == [u * n + i for u in units for i in range(n)], "units pass whole"
    apart = [b - a for a, b in pairwise(units)]
    assert apart == sorted(apart)
    assert {1, 2, 4} <= set(apart) <= {2**i for i in range(9)}


def test_the_room_is_bounded_and_a_file_waits() -> None:
    """Sound alone fills it; a file that is read as fast as it can be is never thinned."""
    given, lane = run(0.0, flood=600)
    assert len([c for c in given if isinstance(c, Chunk) and c.modality == "audio"]) == 640
    assert lane.counts["slow"] > 0
    intake = Intake([Feed("file", ("video", "audio"), film(400))], pressure="thin")
    most, taken = 0, defaultdict(int)
    for lane_, item in intake:
        assert lane_ is not None
        most = max(most, len(lane_.items))
        taken[type(item).__name__] += 1
    assert most <= MOST
    assert dict(taken) == {"Chunk": 800, "End": 1}
