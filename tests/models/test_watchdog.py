"""A part that hangs is named, with where it hangs, told of again when it goes on, and never part of what is resumed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_captioner import WORLD, captioner
from toy import cut, stream

from mmworld.errors import UsageError
from mmworld.generate.decode import Generation
from mmworld.models.captioner import Captioner
from mmworld.models.events import Count, Stall, plain, repeats
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.outbox import ROOM, Outbox
from mmworld.models.segments import Segment, Segments
from mmworld.models.watchdog import LOOKS, Watchdog
from mmworld.stream.ops import paced
from mmworld.stream.policy import Every, OnDemand
from mmworld.stream.pulse import Pulse
from mmworld.types import Caption, Chunk, Gap

LIMIT = 0.05
PIECES = cut(stream("video", 3.0), [4] * 5)
PATIENCE = 20.0
"""Seconds after which a test that waits in vain goes on, and fails."""


class Hook:
    """Whoever comes by hangs until the watchdog has told of it: as a user's own code, a driver or a disk may."""

    def __init__(self, part: str) -> None:
        self.part, self.hung = part, False
        self.told: list[Stall] = []
        self.seen, self.over = threading.Event(), threading.Event()

    def hang(self) -> None:
        if not self.hung:  # what was told before was late by chance
            self.hung = True
            self.told.clear()
            self.seen.clear()
        self.seen.wait(PATIENCE)

    def alarm(self, stall: Stall) -> None:
        if stall.part == self.part:  # on a busy machine others may be late by chance
            self.told.append(stall)
            (self.over if stall.over else self.seen).set()

    def check(self, of: str) -> None:
        """What hung was told of once, and that it goes on after that."""
        assert self.over.wait(PATIENCE)
        assert [(s.of, s.over) for s in self.told[:2]] == [(of, False), (of, True)]
        assert self.told[1].seconds >= self.told[0].seconds >= LIMIT
        assert self.told[0].where.startswith("threading.py:")
        assert self.told[0].where.endswith(" wait")
        assert self.told[1].where == ""


class Hanging(Captioner):
    """Hangs once in a part of its work."""

    def __init__(self, hook: Hook) -> None:
        super().__init__(WORLD, Every(1.0), stop=captioner(Every(1.0)).stop)
        self.hook, self.part = hook, hook.part

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Segments:
        segments = super().begin(modalities, start)
        take = segments.take

        def taken(item: Chunk | Gap) -> Iterator[Segment]:
            if self.part == "perceiving" and item.start == 0.5:
                self.hook.hang()
            yield from take(item)

        segments.take = taken  # type: ignore[method-assign]
        return segments

    def say(self, segments: Sequence[Segment], source: str) -> Iterator[Caption]:
        if self.part == "speaking":
            self.hook.hang()
        yield from super().say(segments, source)

    def answer(self, segment: Segment, question: str) -> Generation:
        self.hook.hang()
        return super().answer(segment, question)


def opened(live: bool = False, hang: Callable[[], None] = lambda: None) -> Opened:
    def items() -> Iterator[Chunk]:
        yield PIECES[0]
        hang()
        yield from PIECES[1:]

    return Opened("cam", ("video",), items(), live)


def watched(teller: Captioner, source: Opened, hook: Hook, **options: Any) -> Live:
    return Live(teller, [source], stall=LIMIT, alarm=hook.alarm, **options)


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_gives_nothing_is_named(live: bool) -> None:
    hook = Hook("source" if live else "reading")
    with watched(captioner(Every(1.0)), opened(live, hook.hang), hook) as stream_:
        events = list(stream_)
        hook.check("cam")
    assert hook.told[0] in events, "who reads the events has it, too"
    assert [e.end for e in events if isinstance(e, Caption)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("part", "of"), [("perceiving", "video [0.500, 1.000)"), ("speaking", "[0.000, 1.000)")])
def test_who_perceives_and_who_speaks_are_named_with_their_work(part: str, of: str) -> None:
    hook = Hook(part)

    def items() -> Iterator[Chunk]:
        yield from PIECES[:2]
        hook.hang()  # one segment alone is there until then
        yield from PIECES[2:]

    with watched(Hanging(hook), Opened("cam", ("video",), items(), live=True), hook) as live:
        ends = [e.end for e in live if isinstance(e, Caption)]
        hook.check(of)
    assert ends == [1.0, 2.0, 3.0]


def test_a_question_and_a_save_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, path = Hook("answering"), tmp_path / "a"
    with watched(Hanging(hook), opened(), hook) as live:
        assert len([e for e in live if isinstance(e, Caption)]) == 3
        live.ask("why?").result(PATIENCE)
        hook.check("why?")
        saving = Hook("saving")
        live._alarm = saving.alarm
        monkeypatch.setattr("mmworld.models.snapshot.write", lambda *_: saving.hang())
        live.save(path).result(PATIENCE)
        saving.check(str(path))


def test_a_reader_who_does_not_come_is_named_and_who_waits_for_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmworld.models.outbox.ROOM", 1)
    hook, teller = Hook("consumer"), captioner(Every(0.5))
    teller.waiting = 1
    with watched(teller, opened(), hook) as live:
        for n, _ in enumerate(e for e in live if isinstance(e, Caption)):
            if n == 0:
                hook.hang()
                assert soon(lambda: len(live._outbox._items) == len(live._jobs._items) == 1)
                assert soon(lambda: live._voice.pulse.mark.about is live._perceiver.pulse.mark.about is None)
        hook.check("Caption")


def soon(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    return holds()


def test_what_waits_for_another_or_for_its_time_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in real time, a speaker with nothing to say, sources that have ended: nothing is to be done."""
    waited: list[object] = []

    def slept(seconds: float) -> None:
        waited.append(live.lanes[0].pulse.mark.about)

    monkeypatch.setattr("mmworld.stream.intake.paced", lambda items: paced(begun(items), sleep=slept))
    made = threading.Event()

    def begun(items: Iterator[Chunk]) -> Iterator[Chunk]:
        made.wait(PATIENCE)
        yield from items

    with Live(captioner(OnDemand()), [opened()], real_time=True) as live:
        made.set()
        assert list(live) == []
        pulses = [live.lanes[0].pulse, live._perceiver.pulse, live._voice.pulse, live._outbox.pulse]
        assert soon(lambda: all(p.mark.about is None for p in pulses))
    assert waited == [None] * len(PIECES)


def test_a_limit_that_is_none_names_nothing_and_one_below_is_refused() -> None:
    with Live(captioner(Every(1.0)), [opened()], stall=float("inf")) as live:
        assert "watchdog" not in {t.name for t in threading.enumerate()}
        assert len(list(live)) == 3
    with pytest.raises(UsageError, match="stalled after 0 s: must be more than 0"):
        Live(captioner(Every(1.0)), [opened()], stall=0.0)


steps = st.lists(st.tuples(st.sampled_from(["work", "rest", "look"]), st.floats(0.0, 3.0)), max_size=40)


@given(steps)
def test_each_hang_is_told_of_once_and_its_end_once(taken: list[tuple[str, float]]) -> None:
    """Against what is counted from the marks alone: at a look, what was begun at least a limit ago, once."""
    pulse, told, now, n = Pulse("perceiving"), [], 0.0, 0
    dog = Watchdog([pulse], float("inf"), told.append)  # looked with by hand
    dog._limit = 1.0
    want: list[tuple[str, bool]] = []
    at: tuple[str, float] | None = None
    hung = ""
    for what, seconds in taken:
        now += seconds
        if what == "look":
            here = at[0] if at is not None and now - at[1] >= 1.0 else ""
            if hung and here != hung:
                want.append((hung, True))
            if here and here != hung:
                want.append((here, False))
            hung = here
            dog.look(now)
            assert [s.of for s in dog.stalls] == [hung] * bool(hung)
        elif what == "work":
            n += 1
            at = f"item {n}", now
            pulse.mark = pulse.mark._replace(about=at[0], since=now)
        else:
            at = None
            pulse.mark = pulse.mark._replace(about=None, since=now)
    assert [(s.of, s.over) for s in told] == want
    assert all(s.seconds >= 1.0 - 1e-9 for s in told)


def test_an_alarm_that_fails_ends_nothing() -> None:
    hook = Hook("source")

    def broken(stall: Stall) -> None:
        hook.alarm(stall)
        raise BrokenPipeError

    with Live(captioner(Every(1.0)), [opened(True, hook.hang)], stall=LIMIT, alarm=broken) as live:
        assert len([e for e in live if isinstance(e, Caption)]) == 3
        hook.check("cam")


def test_it_is_no_part_of_what_is_resumed_and_never_waits_for_room() -> None:
    stall = Stall("source", "cam", 30.5, "devices.py:7 read")
    assert json.loads(json.dumps(plain(stall))) == {"event": "Stall", **vars(stall)}
    box = Outbox(Count(3, 2))
    box.put(Gap(0.0, 1.0, "video", "outage", "cam"))
    for _ in range(2 * ROOM):
        box.offer(stall)
    with closing(iter(box)) as reader:  # type: ignore[type-var]
        for _ in range(ROOM):
            next(reader)
    left = box.leaves()
    assert (left["events"], left["captions"], left["untold"]) == (4, 2, [])
    assert not repeats(stall)
    assert Count(3, 2).with_(stall) == Count(3, 2)


def test_what_it_says() -> None:
    silent = Stall("source", "cam", 30.2, "devices.py:7 read")
    assert str(silent) == "cam: nothing came for 30 s (devices.py:7 read)"
    assert str(replace(silent, where="", seconds=45.0, over=True)) == "cam: goes on after 45 s"
    assert str(Stall("saving", "a.state", 31.0)) == "saving a.state: no progress for 31 s"
    assert LOOKS > 1
