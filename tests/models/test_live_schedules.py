"""Seeded schedules of what befalls a stream: losses, delays, floods, slow readers, kills. What holds always, holds."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from test_captioner import WORLD, captioner
from toy import TOYS, cut, stream

from mmworld.models.captioner import Captioner
from mmworld.models.live import Live
from mmworld.models.opening import Opened
from mmworld.models.segments import Segment, Segments
from mmworld.stream.intake import MOST
from mmworld.stream.policy import Every, OnChange, Policy
from mmworld.types import Caption, Chunk, Gap

SECONDS = 12.0
PATIENCE = 1.0


class Recording(Captioner):
    """Writes down what is perceived, and may take its time over it."""

    def __init__(self, policy: Policy, pause: float) -> None:
        super().__init__(WORLD, policy, stop=captioner(policy).stop)
        self.pause, self.given = pause, []  # type: ignore[var-annotated]

    def begin(self, modalities: Sequence[str], start: float = 0.0) -> Segments:
        segments = super().begin(modalities, start)
        take = segments.take

        def recorded(item: Chunk | Gap) -> Iterator[Segment]:
            self.given.append(item)
            if self.pause:
                time.sleep(self.pause)
            yield from take(item)

        segments.take = recorded  # type: ignore[method-assign]
        return segments


@dataclass(frozen=True)
class Weather:
    """What befalls one source: of its chunks so many are lost, so many come late, and it may end in a fault."""

    lost: float
    stalls: float
    fault: bool

    @classmethod
    def drawn(cls, rng: random.Random) -> Weather:
        return cls(rng.choice([0.0, 0.0, 0.1, 0.4]), rng.choice([0.0, 0.0, 0.05]), rng.random() < 0.15)


def source(name: str, rng: random.Random, weather: Weather) -> Opened:
    """A live source that marks what it loses as gaps."""
    pieces = cut(stream(name, SECONDS, seed=rng.randrange(99)), [rng.randint(1, 9) for _ in range(400)])
    pieces = [p for p in pieces if len(p.data)]

    def items() -> Iterator[Chunk | Gap]:
        for i, piece in enumerate(pieces):
            if rng.random() < weather.stalls:
                time.sleep(0.01)
            if weather.fault and i > len(pieces) // 2:
                raise OSError("unplugged")
            if rng.random() < weather.lost:
                yield Gap(piece.start, piece.end, name, "outage", name)
            else:
                yield replace(piece, last=False)

    return Opened(name, (name,), items(), live=True)  # type: ignore[arg-type]


def check(events: Sequence[object], given: Sequence[Chunk | Gap], live: Live, names: Sequence[str]) -> None:
    told = [e for e in events if isinstance(e, Caption)]
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(told)), "captions do not overlap"
    assert all(0 <= c.start <= c.end <= SECONDS + 1e-6 for c in told)
    for name in names:
        mine = [i for i in given if i.modality == name and i.end > i.start]
        assert all(abs(a.end - b.start) < 1e-6 for a, b in pairwise(mine)), f"{name}: every gap is marked"
    marked = [e for e in events if isinstance(e, Gap)]
    assert marked == [i for i in given if isinstance(i, Gap)], "and told"
    assert all(len(lane.items) <= MOST for lane in live.lanes)
    assert live.nbytes < 1 << 20


def run(seed: int) -> None:
    rng = random.Random(seed)
    names = rng.sample(sorted(TOYS), rng.randint(1, 3))
    policy: Policy = rng.choice([Every(0.5), Every(2.0), OnChange(0.6, 0.5, 2.0)])
    recording = Recording(policy, rng.choice([0.0, 0.0, 0.001]))
    sources = [source(n, random.Random(rng.random()), Weather.drawn(rng)) for n in names]
    events: list[object] = []
    slow = rng.random() < 0.2
    with Live(recording, sources, patience=PATIENCE, pressure=rng.choice(["drop", "block"])) as live:  # type: ignore[arg-type]
        futures = [live.ask("two dogs") for _ in range(rng.randint(0, 3))]
        for event in live:
            events.append(event)
            if slow:
                time.sleep(0.002)
        answers = [f.result(10) for f in futures]
    check(events, recording.given, live, names)
    assert all(a.time <= SECONDS for a in answers)


@pytest.mark.parametrize("seed", range(12))
def test_schedules(seed: int) -> None:
    run(seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_schedules() -> None:
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for seed in range(1000):
        run(seed)
    assert not files or len(os.listdir("/proc/self/fd")) <= files + 4
