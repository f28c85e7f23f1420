"""Integer ticks become seconds here and nowhere else.

The media clock starts at the earliest timestamp that the container declares: a file whose first picture is stamped 10
s (or −0.5 s) starts at 0, as in every player, and its sound keeps its distance from its pictures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

WRAP = 1 << 33
"""MPEG timestamps count 90 kHz in 33 bits: they start again every 26.5 hours."""
BACK = Fraction(1, 10)
"""Seconds that decoding time may step back before it counts as a jump; it never does in a sound stream."""

MAX_GAPS = 3600
"""Seconds of gaps, added up, that a file's stream may have; a small file must not stand for days of silence."""
MAX_DURATION = 60
"""Seconds that a packet is believed to last; what it claims beyond is a gap."""


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

    def plausible(self, step: int) -> bool:
        return -self.back <= step <= min(self.jump, self.gaps_left)


class Clock:
    """One clock for all streams of a container: wraps are undone, jumps are closed up and counted as "discontinuity".

    Args:
        origin: seconds on the container's scale that become 0.
        jump: seconds that time may leap forward before it counts as a jump; 10 s in broadcast streams, as FFmpeg has
            it.
        counts: where jumps are counted.
        gaps: seconds of gaps, added up, beyond which each counts as a jump.
    """

    def __init__(self, origin: Fraction, jump: float, counts: Counter[str], gaps: float = MAX_GAPS) -> None:
        self.origin = origin
        self._gaps = gaps
        self._jump = jump
        self._counts = counts
        self._offset = Fraction(0)
        self._tracks: dict[int, _Track] = {}

    def place(self, stream: int, ticks: int | None, base: Fraction, duration: int) -> int:
        """What to add to the timestamps of a packet, in ticks, so that `stream` goes on without a jump.

        Packets must come in decoding order; `ticks` is the decoding time (None: unknown), `duration` the packet's, both
        in units of `base` seconds.
        """
        track = self._tracks.get(stream) or self._new(stream, base)
        if ticks is None:
            return track.shift
        if track.expected is not None:
            if not track.plausible(ticks + track.shift - track.expected):
                self._repair(track, ticks)
            track.gaps_left -= max(ticks + track.shift - track.expected - track.second, 0)
        track.expected = ticks + track.shift + min(duration, MAX_DURATION * track.second)
        return track.shift

    def _new(self, stream: int, base: Fraction) -> _Track:
        back, jump, gaps, second = (int(Fraction(seconds) / base) for seconds in (BACK, self._jump, self._gaps, 1))
        self._tracks[stream] = _Track(base, round(self._offset / base), back, jump, gaps, second)
        return self._tracks[stream]

    def _repair(self, track: _Track, ticks: int) -> None:
        """Undo a wrap; else follow the jump that another stream met first; else this is a new jump: close it up."""
        assert track.expected is not None
        wrapped = track.base == Fraction(1, 90_000) and track.plausible(ticks + track.shift + WRAP - track.expected)
        if wrapped:
            track.shift += WRAP
            return
        shared = round(self._offset / track.base)
        if not track.plausible(ticks + shared - track.expected):
            shared = track.expected - ticks
            self._offset = shared * track.base
            self._counts["discontinuity"] += 1
        track.shift = shared

    def seconds(self, ticks: int, base: Fraction) -> float:
        """Seconds on the media clock, exact until one last rounding."""
        a, b = base.numerator, base.denominator
        c, d = self.origin.numerator, self.origin.denominator
        return (ticks * a * d - c * b) / (b * d)

    def ticks(self, seconds: float, base: Fraction) -> int:
        """The last tick of the container's scale that is not after `seconds` on the media clock."""
        return int((Fraction(seconds) + self.origin) // base)
