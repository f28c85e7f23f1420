"""A source that is lost comes back on one clock, its outages marked, however often it goes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmworld.errors import SourceError
from mmworld.stream.again import Backoff, again
from mmworld.types import Chunk, Gap

RATE = 10.0


class World:
    """A machine's clock, and a camera at 10 frames a second that is lost now and then."""

    def __init__(self, spells: list[tuple[int, float]], connecting: float = 0.2) -> None:
        self.now, self.spells, self.connecting = 1000.0, spells, connecting
        self.pauses: list[float] = []
        self.shown: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def connect(self) -> Iterator[Chunk]:
        """The next spell: so many frames, stamped from any time, then an error, or a plain end."""
        if not self.spells:
            raise SourceError("network", "no route")
        n, origin = self.spells.pop(0)
        self.now += self.connecting
        if n < 0:
            raise SourceError("network", "refused")
        for i in range(n):
            self.now += 1 / RATE
            data = torch.full((1, 3, 2, 2), i, dtype=torch.uint8)
            self.shown.append(self.now)
            yield Chunk(data, origin + i / RATE, origin + (i + 1) / RATE, "video", last=i == n - 1)
        if n % 2:
            raise SourceError("network", "timed out")


def watched(world: World, tries: int = 3) -> list[Chunk | Gap]:
    out: list[Chunk | Gap] = []
    backoff = Backoff(1.0, 30.0, tries)
    items = again(world.connect, "cam", ("video",), backoff=backoff, clock=world.clock, sleep=world.sleep, seed=1)
    with pytest.raises(SourceError, match=f"cam: gone, {tries} connections in a row gave nothing: no route"):
        out.extend(items)
    return out


@given(st.lists(st.tuples(st.integers(-1, 30), st.floats(0, 1e5)), max_size=30))
def test_chunks_and_gaps_tile_the_time_of_the_machine(spells: list[tuple[int, float]]) -> None:
    frames = sum(max(n, 0) for n, _ in spells)
    world = World(list(spells))
    begun = world.now
    items = watched(world, tries=40)
    assert sum(isinstance(i, Chunk) for i in items) == frames
    assert not any(i.last for i in items if isinstance(i, Chunk))
    for a, b in pairwise(items):
        assert b.start == pytest.approx(a.end, abs=0.051), "each begins where the one before it ended"
    assert all(g.reason == "outage" and g.source == "cam" for g in items if isinstance(g, Gap))
    seen = [i for i in items if isinstance(i, Chunk)]
    assert [c.end for c in seen] == pytest.approx([t - begun for t in world.shown], abs=1e-6)


def test_the_clock_of_a_later_connection_is_the_machines() -> None:
    """Two seconds of frames, half a minute without, two seconds more: the second ones are half a minute later."""
    world = World([(20, 5.0), *[(-1, 0.0)] * 4, (20, 7777.0)])
    items = watched(world, tries=9)
    (gap,) = [i for i in items if isinstance(i, Gap)]
    assert gap.start == pytest.approx(2.0 + world.connecting)
    assert gap.end - gap.start == pytest.approx(sum(world.pauses[:5]) + 5 * world.connecting)


def test_a_thousand_losses() -> None:
    world = World([(3, float(i)) for i in range(1000)])
    items = watched(world)
    assert sum(isinstance(i, Gap) for i in items) == 999
    assert max(world.pauses[:1000]) <= 1.0, "each connection that gave something ends the growing of the pauses"


@given(st.integers(1, 200), st.integers(0, 99))
def test_pauses_grow_to_a_cap_and_differ(failures: int, seed: int) -> None:
    pause = Backoff(1.0, 30.0).pause(failures, random.Random(seed))
    whole = min(30.0, 2.0 ** (failures - 1))
    assert whole / 2 <= pause <= whole
    assert len({Backoff().pause(5, random.Random(s)) for s in range(20)}) > 10


def test_what_was_left_goes_on_behind_a_gap_as_long_as_it_was_away() -> None:
    world = World([(20, 5.0)])
    options = {"backoff": Backoff(1.0, 30.0, 1), "clock": world.clock, "sleep": world.sleep}
    items = again(world.connect, "cam", ("video",), left=3600.0, away=90.0, **options)  # type: ignore[arg-type]
    gap, *seen = (next(items) for _ in range(21))
    assert isinstance(gap, Gap)
    assert (gap.start, gap.end, gap.reason) == (3600.0, pytest.approx(3690.0 + world.connecting), "outage")
    assert [c.end for c in seen] == pytest.approx([t - 1000.0 + 3690.0 for t in world.shown], abs=1e-6)
