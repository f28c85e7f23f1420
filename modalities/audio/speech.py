"""Where somebody speaks: from probabilities to stretches of time, with hysteresis."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from torch import Tensor

from mmworld.media.audio import samples
from mmworld.media.gate import Media, open_media
from mmworld.modalities.audio.vad import SileroVAD, VADState
from mmworld.types import Source

Span = tuple[float, float]
HELD = 64
"""Stretches kept of a sound that passes by; those before are behind whoever asks."""


@dataclass(frozen=True)
class Hysteresis:
    """When speech begins and ends.

    Attributes:
        begin, end: probabilities at which it does.
        silence: seconds without any before it is over.
        least: seconds of what is speech at all.
        margin: seconds added on either side; neighbours meet in the middle.
    """

    begin: float = 0.5
    end: float = 0.35
    silence: float = 0.1
    least: float = 0.25
    margin: float = 0.03


@dataclass
class Spans:
    """Speech in a stream, from the probability of each chunk of `step` seconds, without margins.

    Attributes:
        over: the last stretches that have ended.
        begun: start of the one that goes on, or None.
    """

    rule: Hysteresis
    step: float
    over: deque[Span] = field(default_factory=lambda: deque(maxlen=HELD))
    begun: float | None = None
    _n: int = 0
    _low: float | None = None

    @property
    def now(self) -> float:
        """Seconds so far."""
        return self._n * self.step

    def add(self, p: float) -> None:
        """The next chunk is speech with probability p."""
        now = self.now
        self._n += 1
        if p >= self.rule.begin:
            self.begun, self._low = now if self.begun is None else self.begun, None
        elif self.begun is not None and self._low is None and p < self.rule.end:
            self._low = now
        if self._low is not None and self.now - self._low >= self.rule.silence:
            self._end(self._low)

    def close(self) -> None:
        """The stream is over."""
        self._end(self.now)

    def _end(self, now: float) -> None:
        if self.begun is not None and now - self.begun >= self.rule.least:
            self.over.append((self.begun, now))
        self.begun = self._low = None


def speech_segments(
    source: Source | Media,
    vad: SileroVAD,
    rule: Hysteresis = Hysteresis(),
    *,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[Span]:
    """Seconds from and to which somebody speaks in a sound or a film, as it is read.

    Raises:
        MediaError: the source is refused, or has no sound.
    """
    pieces = samples(open_media(source), rate=vad.rate, start=start, end=end, mono=True)
    if (first := next(pieces, None)) is None:
        return
    spans = Spans(rule, vad.chunk / vad.rate)
    found = _through((piece.data[:, 0] for piece in chain([first], pieces)), vad, spans)
    for begin, over in _widened(found, rule.margin):
        yield first.time + max(begin, 0.0), first.time + min(over, spans.now)


def _through(pieces: Iterable[Tensor], vad: SileroVAD, spans: Spans) -> Iterator[Span]:
    state = VADState()
    for piece in pieces:
        for p in vad(piece, state).tolist():
            spans.add(p)
        while spans.over:
            yield spans.over.popleft()
    spans.close()
    yield from spans.over


def _widened(spans: Iterable[Span], margin: float) -> Iterator[Span]:
    before, held = -math.inf, None
    for span in chain(spans, [None]):
        if held is not None:
            middle = math.inf if span is None else (held[1] + span[0]) / 2
            yield max(held[0] - margin, before), min(held[1] + margin, middle)
            before = middle
        held = span


class Heard:
    """Samples [S] that pass by, and where in them nobody speaks.

    Args:
        pieces: at the rate of the detector.
    """

    def __init__(self, pieces: Iterable[Tensor], vad: SileroVAD, rule: Hysteresis) -> None:
        self._pieces, self._vad, self._state = pieces, vad, VADState()
        self._spans = Spans(rule, vad.chunk / vad.rate)

    def __iter__(self) -> Iterator[Tensor]:
        for piece in self._pieces:
            for p in self._vad(piece, self._state).tolist():
                self._spans.add(p)
            yield piece

    def quiet(self, start: float, end: float) -> float:
        """Seconds from `start` on, at most until `end`, in which nobody speaks of what has passed by."""
        spans = [*self._spans.over, *([] if self._spans.begun is None else [(self._spans.begun, math.inf)])]
        begins = (max(start, a - self._spans.rule.margin) for a, b in spans if b + self._spans.rule.margin > start)
        return min(next(begins, end), end) - start
