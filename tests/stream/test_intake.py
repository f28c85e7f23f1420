"""Lanes that wait for one another and for room: nobody waits for what cannot come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from mmworld.stream.intake import MOST, End, Feed, Intake, Pressure
from mmworld.types import Chunk, Gap

WAIT = 20.0
"""Seconds after which a test that waits in vain goes on, and fails."""


def sound(first: int, after: int, hop: float, name: str = "audio") -> Iterator[Chunk]:
    for i in range(first, after):
        yield Chunk(torch.full((1, 1), float(i)), i * hop, (i + 1) * hop, name)


@pytest.mark.parametrize("pressure", ["block", "drop", "thin"])
def test_a_full_lane_waits_for_no_other(pressure: Pressure) -> None:
    """The room of one ends before the patience with a silent other one does: it goes on, the other's gap is marked."""
    taken = threading.Event()

    def silent() -> Iterator[Chunk]:
        assert taken.wait(WAIT)
        yield Chunk(torch.zeros(1, 1), 0.0, 0.9, "sensor")
        yield Chunk(torch.zeros(1, 1), 0.9, 0.95, "sensor")

    n, hop = 3 * MOST, 0.001
    feeds = [Feed("mic", ("audio",), sound(0, n, hop), live=True), Feed("log", ("sensor",), silent(), live=True)]
    intake = Intake(feeds, pressure=pressure, patience=2.0, trim=lambda chunk, at: replace(chunk, start=at))
    heard, other = [], []
    with closing(intake):
        for lane, item in intake:
            if lane is intake.lanes[0] and isinstance(item, Chunk):
                heard.append(int(item.data))
                if len(heard) == MOST:
                    taken.set()
            elif not isinstance(item, End):
                other.append(item)
    assert heard == list(range(n))
    assert isinstance(other[0], Gap)
    assert (other[0].start, other[0].reason) == (0.0, "late")
    assert all(abs(a.end - b.start) < 1e-9 for a, b in pairwise(other)), "its time is covered"
    assert other[-1].end == 0.95


def test_who_waits_for_room_is_woken_by_what_is_left_out_as_too_late() -> None:
    marked, flooding, quiet = threading.Event(), threading.Event(), threading.Event()
    hop, late = 0.01, 2 * MOST

    def microphone() -> Iterator[Chunk]:
        assert marked.wait(WAIT)
        flooding.set()
        yield from sound(0, late + 1000, hop)
        quiet.set()

    def camera() -> Iterator[Chunk]:
        yield from sound(0, 100, 1.0, "sensor")
        assert quiet.wait(WAIT)
        yield from sound(100, 101, 1.0, "sensor")

    feeds = [Feed("mic", ("audio",), microphone(), live=True), Feed("cam", ("sensor",), camera(), live=True)]
    with closing(Intake(feeds, patience=2.0)) as intake:
        lane, heard = intake.lanes[0], 0
        for _, item in intake:
            if isinstance(item, Gap) and item.end > late * hop and not marked.is_set():
                marked.set()
                deadline = time.monotonic() + WAIT
                while not lane.full and time.monotonic() < deadline:
                    time.sleep(0.001)
            heard += isinstance(item, Chunk) and item.modality == "audio"
        assert lane.counts["late"] > MOST
        assert lane.counts["late"] + heard == late + 1000
        assert quiet.is_set()


def test_a_source_whose_last_came_too_late_ends() -> None:
    """All has come before any is taken, so that nothing that comes later can wake who takes it."""
    items = [*sound(0, 3, 1.0), *sound(1, 2, 1.0)]
    intake = Intake([Feed("mic", ("audio",), items, live=True)])
    waker = threading.Timer(WAIT / 4, intake.close)
    with closing(intake):
        until = time.monotonic() + WAIT
        while not intake.lanes[0].ended and time.monotonic() < until:
            time.sleep(0.01)
        waker.start()
        taken = [item for _, item in intake]
        assert waker.is_alive(), "it hung, and was woken"
        waker.cancel()
    assert [type(item) for item in taken] == [Chunk, Chunk, Chunk, End]
    assert intake.lanes[0].counts["late"] == 1
