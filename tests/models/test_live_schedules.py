"""Seeded schedules of what befalls streams on their way and whoever reads them: what holds always, holds.

`MMWORLD_SEED=123 pytest tests/models/test_live_schedules.py` runs those of one seed again.
"""

from __future__ import annotations

import faulthandler
import math
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from schedules import Source, Weather, drawn, key
from test_captioner import WORLD, captioner, same
from toy import TOYS

from mmworld.models.captioner import Captioner
from mmworld.models.events import Answer, Event, Failure
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.outbox import ROOM
from mmworld.models.provisional import Provisional
from mmworld.models.segments import Segment, Segments
from mmworld.stream.again import HOLE
from mmworld.stream.intake import MOST, Pressure
from mmworld.stream.policy import Every, OnChange, Policy
from mmworld.types import Caption, Chunk, Gap

PATIENCE = 1.0
LONG = 60.0
"""Seconds after which a run that has not ended hangs; it takes a fraction of one."""
POLICIES: list[Policy] = [Every(0.5), Every(2.0), OnChange(0.6, 0.5, 2.0)]
Item = Chunk | Gap


class Recording(Captioner):
    """Writes down what is perceived, looks whether the queues are bounded, and may take its time."""

    def __init__(self, policy: Policy, pause: float = 0.0) -> None:
        super().__init__(WORLD, policy, stop=captioner(policy).stop)
        self.pause = pause
        self.given: list[Item] = []
        self.live: Live | None = None

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Segments:
        segments = super().begin(modalities, start)
        take = segments.take

        def recorded(item: Item) -> Iterator[Segment]:
            self.given.append(item)
            time.sleep(self.pause)
            if self.live is not None:
                bounded(self.live)
            yield from take(item)

        segments.take = recorded  # type: ignore[method-assign]
        return segments


@contextmanager
def ending(live: Live, what: str) -> Iterator[None]:
    """Whatever has not ended after `LONG` is closed, and fails with the stacks of all threads."""
    hung = threading.Event()

    def stop() -> None:
        hung.set()
        faulthandler.dump_traceback()
        live.close()

    timer = threading.Timer(LONG, stop)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    assert not hung.is_set(), f"{what} hangs"


# What holds


def bounded(live: Live) -> None:
    assert all(len(lane.items) <= MOST for lane in live.lanes)
    assert len(live._jobs._items) <= live._teller.waiting + ROOM
    assert len(live._outbox._items) <= ROOM
    assert live.nbytes < 1 << 20


def whole(items: Sequence[Event | Item]) -> list[Gap]:
    """The gaps of each modality, those that go on as one: they are told in fewer pieces than they come in."""
    found: list[Gap] = []
    for gap in sorted((i for i in items if isinstance(i, Gap)), key=lambda g: (g.modality, g.start, g.end)):
        last = found[-1] if found else None
        if last is not None and replace(last, start=gap.start, end=gap.end) == gap and gap.start - last.end <= 1e-6:
            found[-1] = replace(last, end=gap.end)
        else:
            found.append(gap)
    return found


def told_in_order(events: Sequence[Event]) -> None:
    told = [e for e in events if isinstance(e, Caption)]
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(told)), "captions do not overlap"
    assert all(c.start <= c.end for c in told)
    for name in TOYS:
        gaps = [e for e in events if isinstance(e, Gap) and e.modality == name]
        assert all(a.end <= b.start + 1e-6 for a, b in pairwise(gaps)), "no gap twice"


def covered(source: Source, given: Sequence[Item], left_out: int) -> None:
    """Each second is perceived or marked, once; each row stands where it was true, and those missing are counted."""
    mine = [i for i in given if i.modality == source.name and i.end > i.start]
    assert mine[0].start <= HOLE
    assert mine[-1].end >= source.end - 1e-3
    assert all(-1e-6 < b.start - a.end <= HOLE + 1e-6 for a, b in pairwise(mine)), "every gap is marked, once"
    rate = TOYS[source.name].rate
    chunks = [i for i in mine if isinstance(i, Chunk)]
    rows = [(source.true[key(r)], c.end - (len(c.data) - i) / rate) for c in chunks for i, r in enumerate(c.data)]
    assert all(a < b for (a, _), (b, _) in pairwise(rows)), "nothing twice, nothing back"
    assert all(abs(source.due[n] - time) < 1e-3 for n, time in rows), "all where it was true"
    assert sum(len(i.data) for i in source.items if isinstance(i, Chunk)) - len(rows) == left_out, "all is counted"


def said_of(policy: Policy, given: Sequence[Item], names: Sequence[str]) -> list[Caption]:
    """The captions of items, one after the other in one thread."""
    teller = captioner(policy)
    segments = teller.begin(names)
    cut = [s for item in given for s in segments.take(item)]
    return list(teller.say([*cut, *segments.finish()], "toy"))


# Schedules


@dataclass(frozen=True)
class Schedule:
    """A run: its sources, how it is told of, and by whom it is read."""

    sources: list[Source]
    policy: Policy
    pressure: Pressure
    pause: float
    slow: bool
    together: bool
    questions: int

    @classmethod
    def drawn(cls, seed: int) -> Schedule:
        rng = random.Random(seed)
        names = rng.sample(sorted(TOYS), rng.randint(1, 3))
        sources = [drawn(n, Weather.drawn(rng), random.Random(rng.random())) for n in names]
        how = rng.choice(POLICIES), rng.choice(["drop", "block"]), rng.choice([0.0, 0.0, 0.001])
        return cls(sources, *how, rng.random() < 0.2, rng.random() < 0.2, rng.randint(0, 3))  # type: ignore[arg-type]


def lived(source: Source, live: bool = True) -> Opened:
    """The source as it comes: now and then the machine waits for it."""

    def items() -> Iterator[Item]:
        for i, item in enumerate(source):
            if i in source.stalls:
                time.sleep(0.01)
            yield item

    return Opened(source.name, (source.name,), items(), live)  # type: ignore[arg-type]


def run(seed: int) -> None:
    schedule = Schedule.drawn(seed)
    teller, names = Recording(schedule.policy, schedule.pause), [s.name for s in schedule.sources]
    events: list[Event] = []
    live = Live(teller, [lived(s) for s in schedule.sources], patience=PATIENCE, pressure=schedule.pressure)
    teller.live = live
    with live, ending(live, f"seed {seed}"):
        futures = [live.ask("two dogs") for _ in range(schedule.questions)]
        for event in live:
            events.append(event)
            time.sleep(0.002 * schedule.slow)
        answers = [f.result(10) for f in futures]
    assert len(answers) == schedule.questions
    told_in_order(events)
    assert whole(events) == whole(teller.given), "gaps are told"
    for source, lane in zip(schedule.sources, live.lanes, strict=True):
        covered(source, teller.given, lane.counts["slow"] + lane.counts["late"])
    told = [replace(e, source="toy") for e in events if isinstance(e, Caption)]
    in_order = sorted(teller.given, key=lambda i: (i.end, i.modality))
    want = said_of(schedule.policy, in_order, names)
    assert same(told, want) if not live.unsaid else len(want) - len(told) == live.unsaid, "whatever came first"


@dataclass(frozen=True)
class Kills:
    """A run that is killed several times, each time at some event; it saves its state at some of them."""

    sources: list[Source]
    policy: Policy
    live: bool
    provisional: float
    saves: list[int]
    kills: list[int]

    @classmethod
    def drawn(cls, seed: int) -> Kills:
        rng = random.Random(seed)
        names = rng.sample(sorted(TOYS), rng.randint(1, 3))
        live = rng.random() < 0.5
        fair = Weather()
        weather = [Weather.drawn(rng) for _ in names]
        if not live:  # a file has no holes but those that it marks
            weather = [replace(fair, outage=w.outage, stall=w.stall, fault=w.fault) for w in weather]
        sources = [drawn(n, w, random.Random(rng.random())) for n, w in zip(names, weather, strict=True)]
        saves, kills = ([rng.randint(1, 12) for _ in range(n)] for n in (200, 3))
        return cls(sources, rng.choice(POLICIES), live, rng.choice([math.inf, 0.3]), saves, kills)

    def start(self, resume: Path | None) -> Live:
        """The run, from its beginning or where a state was left; its sources send all anew."""
        sources = [lived(s, self.live) for s in self.sources]
        how = {"patience": math.inf, "pressure": "block", "provisional": self.provisional}
        return Live(captioner(self.policy), sources, resume=resume, **how)  # type: ignore[arg-type]


def run_killed(seed: int, folder: Path) -> None:
    """What a run that is killed and gone on with has told is what one has that was never stopped, each event once."""
    schedule, left = Kills.drawn(seed), None
    with schedule.start(None) as live, ending(live, f"seed {seed}, never stopped"):
        want = list(live)
    saves, told = iter(schedule.saves), list[Event]()
    with ExitStack() as killed:
        for i, kill in enumerate([*schedule.kills, None]):
            live, state = killed.enter_context(schedule.start(left)), folder / f"{seed}.{i}"
            assert live.before.events <= len(told), "a state knows of nothing that was not told"
            again, told = told[live.before.events :], told[: live.before.events]
            with ending(live, f"seed {seed}, killed at event {kill}"):
                due = next(saves)
                for n, event in enumerate(live):
                    told.append(event)
                    if n == kill:
                        break
                    if n == due:
                        saved, due = live.save(state), n + next(saves)
                        if due % 2:
                            saved.result(LONG)
            if kill is not None and state.exists():
                left = shutil.copy(state, folder / f"{seed}.{i}.left")  # a process that is dead writes no more
            assert alike(again, told[live.before.events :]), "what is told again is the same"
    assert alike(want, told, whole=True)


def alike(a: Sequence[Event], b: Sequence[Event], whole: bool = False) -> bool:
    """Whether events are the same, or those that both are long enough for."""
    pairs = zip(map(plainly, a), map(plainly, b), strict=whole)
    return all(x == y for x, y in pairs)


def plainly(event: Event) -> object:
    """An event, its times to a microsecond, as sums of them differ in their last bits, and no score, as it does too."""
    if isinstance(event, Failure):
        return event.source, str(event.error)
    if isinstance(event, Provisional):
        return plainly(event.caption), event.settled
    assert not isinstance(event, Answer)
    what = event.text if isinstance(event, Caption) else (event.modality, event.reason)
    return what, round(event.start, 6), round(event.end, 6), event.source


SEED = os.environ.get("MMWORLD_SEED")
SEEDS = range(10) if SEED is None else [int(SEED)]


@pytest.mark.parametrize("seed", SEEDS)
def test_schedules(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_and_gone_on_with(seed: int, tmp_path: Path) -> None:
    run_killed(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_schedules(tmp_path: Path) -> None:
    """None grows: neither threads nor files nor memory, after the first hundred."""
    held: list[tuple[int, int, int]] = []
    for seed in range(500):
        for one in (run, lambda seed: run_killed(seed, tmp_path)):
            try:
                one(seed)
            except BaseException:
                print(f"MMWORLD_SEED={seed}")
                raise
        if seed in (100, 499):
            process = psutil.Process()
            held.append((process.num_threads(), process.num_fds(), process.memory_info().rss))
    (threads, files, early), (threads_late, files_late, late) = held
    assert threads_late <= threads + 2
    assert files_late <= files + 2
    assert late - early < 32 << 20
