"""Integer ticks become seconds here and nowhere else.

The media clock starts at the earliest timestamp that the container declares: a file whose first picture is stamped 10
s (or −0.5 s) starts at 0, as in every player, and its sound keeps its distance from its pictures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

WRAP = 1 << 33
"""MPEG timestamps count 90 kHz in 33 bits: they start again every 26.5 hours."""
BACK = Fraction(1, 10)
"""Seconds that decoding time may step back before it counts as a jump; it never does in a sound stream."""

MAX_GAPS = 3600
"""Seconds of gaps, added up, that a file's stream may have; a small file must not stand for days of silence."""
MAX_DURATION = 60
"""Seconds that a packet is believed to last; what it claims beyond is a gap."""

SLACK = 1.0
"""Seconds by which a packet of what is live may come sooner after its time than any before it, and in which those of
one moment come."""
DRIFT = 1e-4
"""Of a second, by which two clocks part in a second, at most."""
RECENT = 60.0
"""Seconds, and as many before them, in which the latest packet is looked for."""


@dataclass(slots=True)
class _Arrivals:
    """How long after their times, on a scale of its own, the packets of a live stream came, in seconds.

    What came right before a gap's end tells nothing: often only the next packet shows that those before it were whole.

    Attributes:
        soonest: of all, but for what the clocks may have parted since.
    """

    soonest: float = math.inf
    _now: float = 0.0
    _second: tuple[float, float] = math.inf, -math.inf  # since when, and the latest
    _minute: tuple[float, float, float] = -math.inf, -math.inf, -math.inf  # and the latest of the minute before

    def latest(self, now: float) -> float:
        """Of the last minute or two, but for the last second; -inf where nothing came."""
        self._settle(now)
        return max(self._minute[1:])

    def add(self, now: float, late: float, *, gap: bool) -> None:
        """A packet came so long after its time, with a gap before it or not."""
        self._settle(now)
        begun = gap or self._second[0] == math.inf
        self._second = (now, late) if begun else (self._second[0], max(self._second[1], late))
        self.soonest = min(self.soonest + DRIFT * (now - self._now), late)
        self._now = now

    def _settle(self, now: float) -> None:
        if now < self._second[0] + SLACK:
            return
        since, latest, before = self._minute
        if now >= since + RECENT:
            since, latest, before = now, -math.inf, latest
        self._minute = since, max(latest, self._second[1]), before
        self._second = math.inf, -math.inf


@dataclass(slots=True)
class _Track:
    """All in ticks of the stream's own base."""

    base: Fraction
    shift: int
    back: int
    jump: int
    gaps_left: int
    second: int
    expected: int | None = None
    arrivals: _Arrivals = field(default_factory=_Arrivals)

    def plausible(self, ticks: int) -> bool:
        """Whether a packet may be stamped so, whenever it comes."""
        assert self.expected is not None
        return -self.back <= ticks - self.expected <= min(self.jump, self.gaps_left)

    def passed(self, ticks: int, now: float) -> bool:
        """Whether so much time has passed that a packet may be stamped so."""
        assert self.expected is not None
        return ticks > self.expected and now - float(ticks * self.base) >= self.arrivals.soonest - SLACK


class Clock:
    """One clock for all streams of a container: wraps are undone, jumps are closed up and counted as "discontinuity".

    Of what is live no gap is closed up, for the machine's clock tells one from a counter that began anew. A leap
    forward is a gap, a "jump", if no more time leapt than has passed: if the packet comes no sooner after its time than
    those before it did. Any other leap, and a step back, is a "reset": nobody knows how long the gap is, and what
    follows stands where it does if it came as late as the latest of the last minutes, but never before what came.

    Args:
        origin: seconds on the container's scale that become 0.
        jump: seconds that time may leap forward before it counts as a jump; 10 s in broadcast streams, as FFmpeg has
            it.
        counts: where jumps are counted.
        gaps: seconds of gaps, added up, beyond which each counts as a jump.
        now: the machine's clock, of what is live.

    Attributes:
        breaks: of each stream whose last packet came after a gap that is to be marked, why: "jump" or "reset".
    """

    def __init__(
        self,
        origin: Fraction,
        jump: float,
        counts: Counter[str],
        gaps: float = MAX_GAPS,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.origin = origin
        self.breaks: dict[int, str] = {}
        self._gaps = gaps
        self._jump = jump
        self._counts = counts
        self._now = now
        self._offset = Fraction(0)
        self._tracks: dict[int, _Track] = {}

    def place(self, stream: int, ticks: int | None, base: Fraction, duration: int) -> int:
        """What to add to the timestamps of a packet, in ticks, so that `stream` goes on without a jump.

        Packets must come in decoding order, those of what is live when they arrive; `ticks` is the decoding time (None:
        unknown), `duration` the packet's, both in units of `base` seconds.
        """
        track = self._tracks.get(stream) or self._new(stream, base)
        self.breaks.pop(stream, None)
        if ticks is None:
            return track.shift
        now = None if self._now is None else self._now()
        if track.expected is not None:
            if not track.plausible(ticks + track.shift):
                self._repair(stream, track, ticks, now)
            track.gaps_left -= max(ticks + track.shift - track.expected - track.second, 0)
        track.expected = ticks + track.shift + min(duration, MAX_DURATION * track.second)
        if now is not None:
            track.arrivals.add(now, now - float((ticks + track.shift) * base), gap=stream in self.breaks)
        return track.shift

    def _new(self, stream: int, base: Fraction) -> _Track:
        back, jump, gaps, second = (int(Fraction(seconds) / base) for seconds in (BACK, self._jump, self._gaps, 1))
        self._tracks[stream] = _Track(base, round(self._offset / base), back, jump, gaps, second)
        return self._tracks[stream]

    def _repair(self, stream: int, track: _Track, ticks: int, now: float | None) -> None:
        """Leave a gap that has passed, or undo a wrap; else follow the jump that another stream met first; else this is
        a new jump: close it up, or begin anew.
        """
        own = (track.shift, track.shift + WRAP) if track.base == Fraction(1, 90_000) else (track.shift,)
        for shift in (*own, round(self._offset / track.base)):
            if track.plausible(ticks + shift) or (now is not None and track.passed(ticks + shift, now)):
                break
        else:
            shift = self._anew(track, now) - ticks
            self._offset = shift * track.base
            self._counts["discontinuity"] += 1
        if now is not None and (shift not in own or not track.plausible(ticks + shift)):
            self.breaks[stream] = "jump" if shift in own else "reset"
        track.shift = shift

    def _anew(self, track: _Track, now: float | None) -> int:
        """Where what follows a jump begins, in ticks of the stream's base."""
        assert track.expected is not None
        if now is None:
            return track.expected
        ends = [t.expected * t.base for t in self._tracks.values() if t.expected is not None]
        latest = track.arrivals.latest(now)
        came = Fraction(now - latest) if latest > -math.inf else track.expected * track.base
        return math.ceil(max(*ends, came) / track.base)

    def seconds(self, ticks: int, base: Fraction) -> float:
        """Seconds on the media clock, exact until one last rounding."""
        a, b = base.numerator, base.denominator
        c, d = self.origin.numerator, self.origin.denominator
        return (ticks * a * d - c * b) / (b * d)

    def ticks(self, seconds: float, base: Fraction) -> int:
        """The last tick of the container's scale that is not after `seconds` on the media clock."""
        return int((Fraction(seconds) + self.origin) // base)
