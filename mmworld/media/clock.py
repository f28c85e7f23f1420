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
"""Seconds of gaps, added up, that a stream may have; a small file must not stand for days of silence."""
MAX_DURATION = 60
"""Seconds that a packet is believed to last; what it claims beyond is a gap."""


@dataclass(slots=True)
class _Track:
    offset: Fraction
    expected: Fraction | None = None
    wraps: int = 0
    gaps: Fraction = Fraction(0)


class Clock:
    """One clock for all streams of a container: wraps are undone, jumps are closed up and counted as "discontinuity".

    Args:
        origin: seconds on the container's scale that become 0.
        jump: seconds that time may leap forward before it counts as a jump; 10 s in broadcast streams, as FFmpeg has
            it.
        counts: where jumps are counted.
    """

    def __init__(self, origin: Fraction, jump: float, counts: Counter[str]) -> None:
        self.origin = origin
        self._jump = Fraction(jump)
        self._counts = counts
        self._offset = Fraction(0)
        self._tracks: dict[int, _Track] = {}

    def place(self, stream: int, ticks: int | None, base: Fraction, duration: int) -> int:
        """What to add to the timestamps of a packet, in ticks, so that `stream` goes on without a jump.

        Packets must come in decoding order; `ticks` is the decoding time (None: unknown), `duration` the packet's, both
        in units of `base` seconds.
        """
        track = self._tracks.setdefault(stream, _Track(self._offset))
        if ticks is None:
            return track.wraps * WRAP + round(track.offset / base)
        time = (ticks + track.wraps * WRAP) * base + track.offset
        if track.expected is not None:
            if not self._plausible(track, time - track.expected):
                time = self._repair(track, ticks, base)
            track.gaps += max(time - track.expected - 1, Fraction(0))
        track.expected = time + min(duration * base, Fraction(MAX_DURATION))
        return track.wraps * WRAP + round(track.offset / base)

    def _plausible(self, track: _Track, step: Fraction) -> bool:
        return -BACK <= step <= min(self._jump, 1 + MAX_GAPS - track.gaps)

    def _repair(self, track: _Track, ticks: int, base: Fraction) -> Fraction:
        assert track.expected is not None
        raw = (ticks + track.wraps * WRAP) * base
        if base == Fraction(1, 90000) and self._plausible(track, raw + WRAP * base + track.offset - track.expected):
            track.wraps += 1
            return raw + WRAP * base + track.offset
        if not self._plausible(
            track, raw + self._offset - track.expected
        ):  # else: another stream met the same jump first
            self._offset = track.expected - raw
            self._counts["discontinuity"] += 1
        track.offset = self._offset
        return raw + track.offset

    def seconds(self, ticks: int, base: Fraction) -> float:
        """Seconds on the media clock, rounded once."""
        return float(ticks * base - self.origin)

    def ticks(self, seconds: float, base: Fraction) -> int:
        """The last tick of the container's scale that is not after `seconds` on the media clock."""
        return int((Fraction(seconds) + self.origin) // base)
