"""From a seed to what befalls sources on their way, and to what must then come of them, reckoned by other means.

A source sends packets of rows that know when they were true. On the way packets are lost, come late, come twice or out
of order; the sender's clock leaps, is set back, or starts again after 33 bits; the source marks an outage, or ends in a
fault.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from toy import TOYS, cut, stream

from mmworld.media.clock import WRAP, Clock
from mmworld.stream.reorder import reorder
from mmworld.types import Chunk, Gap

SECONDS = 12.0
WINDOW = 1.0
"""Seconds within which what came out of order is put right."""
LONGEST = 0.4
"""Seconds of a packet."""
BASE = Fraction(1, 90_000)
LEAPS = (40_000.0, -3_000.0, 11.0, 4.0)
"""Seconds; what is over 10 is a jump of the clock, what is under a stretch in which nothing came."""


@dataclass(frozen=True)
class Weather:
    """What befalls one source.

    Attributes:
        lost, outage, stall, twice: shares of its packets that never come, that the source itself marks as a gap, before
            which the machine has to wait, and that are sent two times.
        late: seconds by which a packet may come after its turn.
        leaps: by how much its clock leaps, at which second; with those its stamps are ticks of 33 bits that wrap.
        reset: second at which its clock starts from 0 again.
        fault: it ends in one, half way.
    """

    lost: float = 0.0
    outage: float = 0.0
    stall: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    leaps: tuple[tuple[float, float], ...] = ()
    reset: float | None = None
    fault: bool = False

    @classmethod
    def drawn(cls, rng: random.Random) -> Weather:
        """Any mixture that a source can meet: stamps of 33 bits are in order, those that are out of order have no 33
        bits."""
        lost, outage = (rng.choice([0.0, 0.0, 0.1, 0.4]) for _ in range(2))
        common = cls(lost, outage, rng.choice([0.0, 0.0, 0.03]), fault=rng.random() < 0.15)
        kind = rng.choice(["fair", "leaps", "late", "reset"])
        if kind == "leaps":
            seconds = sorted(rng.sample(range(1, int(SECONDS)), rng.randint(0, 2)))
            return replace(common, leaps=tuple((float(s), rng.choice(LEAPS)) for s in seconds), outage=0.0)
        if kind == "late":
            return replace(common, late=rng.choice([0.5, 3.0]), twice=rng.choice([0.0, 0.1]))
        if kind == "reset":
            return replace(common, reset=rng.uniform(3, 4), outage=0.0, lost=min(lost, 0.1))
        return common


@dataclass
class Source:
    """What one source gives, in order, and what is true of it.

    Attributes:
        items: as they are handed on; `stalls` are the numbers of those before which the machine waits.
        true: when each row that comes out was true, by its bytes: an index at the modality's rate.
        due: seconds at which each of those rows must stand.
    """

    name: str
    items: list[Chunk | Gap]
    stalls: frozenset[int]
    fault: bool
    true: dict[bytes, int] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """Seconds at which the last row that was sent ends."""
        return max(self.due.values()) + 1 / TOYS[self.name].rate

    def __iter__(self) -> Iterator[Chunk | Gap]:
        yield from self.items
        if self.fault:
            raise OSError("unplugged")


def drawn(name: str, weather: Weather, rng: random.Random) -> Source:
    """A source of 12 s in that weather; its first packet always comes."""
    whole = stream(name, SECONDS, seed=rng.randrange(99))
    most = round(LONGEST * TOYS[name].rate)
    pieces = [p for p in cut(whole, [rng.randint(1, most) for _ in range(400)]) if len(p.data)]
    if weather.fault:
        pieces = [p for p in pieces if p.end <= SECONDS / 2]
    come = [pieces[0], *(p for p in pieces[1:] if rng.random() >= weather.lost)]
    come = [replace(p, last=False) for p in come for _ in range(1 + (rng.random() < weather.twice))]
    stamped = list(_stamped(come, weather, rng))
    items = [_marked(p, weather, rng) if i else p for i, p in enumerate(stamped)]
    stalls = frozenset(i for i in range(len(items)) if rng.random() < weather.stall)
    true = {key(row): i for i, row in enumerate(whole.data)}
    return Source(name, items, stalls, weather.fault, true, dict(_due(come, weather)))


def key(row: object) -> bytes:
    """A row's bytes."""
    return bytes(row.numpy().tobytes())  # type: ignore[attr-defined]


def _stamped(pieces: Sequence[Chunk], weather: Weather, rng: random.Random) -> Iterator[Chunk]:
    """The packets with the times that come of their stamps, in the order in which they are received."""
    if weather.leaps:
        begin = WRAP * BASE - rng.randint(4, 9)
        clock = Clock(begin, 10.0, Counter(), 1e9)
        for p in pieces:
            ticks = round((begin + Fraction(p.start) + _leapt(p.start, weather)) / BASE) % WRAP
            shift = clock.place(0, ticks, BASE, round((p.end - p.start) / BASE))
            yield _at(p, clock.seconds(ticks + shift, BASE))
    elif weather.reset is not None:
        yield from (_at(p, p.start - _back(p.start, weather)) for p in pieces)
    else:
        came = [pieces[0], *sorted(pieces[1:], key=lambda p: p.start + rng.uniform(0, weather.late))]
        yield from reorder(came, lambda p: p.start, WINDOW, Counter())


def _due(pieces: Sequence[Chunk], weather: Weather) -> Iterator[tuple[int, float]]:
    """Rows, as indices, and when they must stand: a leap is closed up, so that the clock goes on where it was."""
    time = end = last = 0.0
    for p in pieces:
        step = p.start - end
        if weather.leaps:
            step += float(_leapt(p.start, weather) - _leapt(last, weather))
            step = step if -0.1 <= step <= 10 else 0.0
        elif _back(p.start, weather) != _back(last, weather):
            step = 0.0
        time, end, last = time + step, p.end, p.start
        rate = TOYS[p.modality].rate
        yield from ((round(p.start * rate) + i, time + i / rate) for i in range(len(p.data)))
        time += p.end - p.start


def _leapt(time: float, weather: Weather) -> Fraction:
    return sum((Fraction(by) for at, by in weather.leaps if time >= at), Fraction(0))


def _back(time: float, weather: Weather) -> float:
    return weather.reset if weather.reset is not None and time >= weather.reset else 0.0


def _at(piece: Chunk, time: float) -> Chunk:
    return replace(piece, start=time, end=time + (piece.end - piece.start))


def _marked(piece: Chunk, weather: Weather, rng: random.Random) -> Chunk | Gap:
    if rng.random() < weather.outage:
        return Gap(piece.start, piece.end, piece.modality, "outage", piece.modality)
    return piece
