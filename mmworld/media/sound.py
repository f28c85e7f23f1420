"""From decoded audio frames to one seamless signal: float32, gaps filled, bad samples silenced, resampled without
joints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
import torch

from mmworld.errors import LimitError, UsageError
from mmworld.media.resample import Resampler, again

if TYPE_CHECKING:
    from collections import Counter

    from torch import Tensor

TOLERANCE = 0.02
"""Seconds by which timestamps may wander from the count of samples before it is a gap or an overlap."""
DRIFT, SETTLE, STRETCH = 0.005, 10.0, 1000
"""Seconds by which they may wander lastingly, taken over so many, before frames are made longer or shorter, by one
sample in so many: a sound card's clock is off by some 50 millionths, and nobody hears it set right.
"""
WARM = 2.0
"""Seconds of sound before the first that was asked for: a resampler begins at a sample that stands on one of its own,
and hears zeros before it.
"""
LOUDEST = 1e4
"""Floating-point samples beyond are cut to it."""
PIECE = 0.2
"""Seconds of sound in a piece, about; the last may be shorter."""


class Samples(NamedTuple):
    """Sound from `time` seconds on the media clock: float32 [S, C], full scale ±1."""

    time: float
    data: Tensor


@dataclass(frozen=True, slots=True)
class Sound:
    """How the sound of a file is wanted.

    Attributes:
        rate: samples a second; None: as stored.
        mono: the mean of all channels, [S, 1]; else the channels as stored.
    """

    rate: int | None = None
    mono: bool = False

    def __post_init__(self) -> None:
        if self.rate is not None and not 1_000 <= self.rate <= 384_000:
            raise UsageError(f"rate must be 1000 to 384000 samples/s, is {self.rate}")


class SoundTrack:
    """Takes decoded frames, gives `Samples` that tile the time from the first one on.

    Piece k starts at t0 + (samples before it) / rate. A gap in the timestamps becomes silence, an overlap is cut; where
    the samples drift from the timestamps, they are stretched to follow them.

    Args:
        since: seconds; samples before it may be left out, and those after it are what they would be with them.

    Attributes:
        sought: whether what comes first lies in the middle of a file whose times count samples.
    """

    def __init__(
        self, spec: Sound, start: float, end: float, counts: Counter[str], max_seconds: float, since: float = 0.0
    ) -> None:
        self._spec, self._start, self._end = spec, start, end
        self._counts, self._max_seconds, self._since, self.sought = counts, max_seconds, since, False
        self._origin: float | None = None  # time of the first sample kept
        self._n_in = self._skip = 0  # samples so far, and up to where nobody asked for them
        self._drift = 0.0  # samples by which the timestamps are ahead of their count, over the last seconds
        self._in_rate = 0
        self._n_channels = 0
        self._resampler: Resampler | None = None
        self._waiting: list[np.ndarray] = []  # too little yet for a piece
        self._n_out = 0
        self.done = False

    @property
    def clock(self) -> float:
        """No sample from before this time is still to come."""
        return -math.inf if self._origin is None else self._origin + self._n_out / self._out_rate

    @property
    def end(self) -> float:
        """Of the last sample that came."""
        return self._start if self._origin is None else self._origin + self._n_in / self._in_rate

    @property
    def _out_rate(self) -> int:
        return self._spec.rate or self._in_rate

    def push(self, time: float | None, duration: float, frame: Any) -> Iterator[Samples]:
        """The pieces that are complete once `frame` is known."""
        x = self._clean(waveform(frame)) if self._asked(time, frame) else _nothing(frame)
        if self._resampler is None:
            self._in_rate, self._n_channels = frame.sample_rate, x.shape[1]
            self._resampler = Resampler(frame.sample_rate, self._out_rate)
        elif frame.sample_rate != self._in_rate:
            self._counts["rate change"] += 1
            x = again(x, frame.sample_rate, self._in_rate)
        if x.shape[1] != self._n_channels:
            self._counts["channel change"] += 1
            x = np.repeat(x.mean(1, keepdims=True), self._n_channels, 1)
        if self._origin is None:
            x, time = self._first(x, time)
        if self._origin is not None:
            yield from self._continue(x, time)

    def flush(self) -> Iterator[Samples]:
        """The rest, once the last frame has come."""
        if self._resampler is not None and not self.done:
            yield from self._deliver()
            yield from self._piece(self._resampler.flush())
        self.done = True

    def restart(self) -> Iterator[Samples]:
        """The rest before a gap; what follows begins at its own time, and no sound is heard across."""
        if self._origin is not None and not self.done:
            yield from self.flush()
            self._start, self._origin, self.done = max(self._start, self.clock), None, False
            self._n_in = self._n_out = self._skip = 0
            self._drift = 0.0
            self._resampler = Resampler(self._in_rate, self._out_rate)

    def _asked(self, time: float | None, frame: Any) -> bool:
        """Whether a frame may have samples that were asked for, be it by its time or by the count of those before."""
        if self._origin is None or self._n_in >= self._skip or frame.sample_rate != self._in_rate:
            return True
        stamped = 0.0 if time is None else (time - self._origin) * self._in_rate
        return max(stamped, self._n_in) + 2 * frame.samples > self._skip

    def _clean(self, x: np.ndarray) -> np.ndarray:
        if np.abs(x).max(initial=0) <= LOUDEST:  # false for NaN as well
            return x
        bad = ~np.isfinite(x)
        self._counts["corrupt samples"] += int(bad.sum())
        return np.clip(np.where(bad, np.float32(0), x), -LOUDEST, LOUDEST)

    def _first(self, x: np.ndarray, time: float | None) -> tuple[np.ndarray, float]:
        """What of the first frame lies at or after the start; that fixes the origin of all times."""
        time = 0.0 if time is None else time
        skip = math.ceil((self._start - time) * self._in_rate - 1e-3)
        before, skip = (-skip if self.sought and skip < 0 else 0), max(0, skip)
        if skip < len(x):
            self._origin = time + (skip - before) / self._in_rate
            self._n_in = before
            self._skip_to(max(before, math.floor((self._since - WARM - self._origin) * self._in_rate)))
        return x[skip:], time + min(skip, len(x)) / self._in_rate

    def _skip_to(self, n: int) -> None:
        """Leave out the first n samples, and more, until the next stands where one that comes out does."""
        period = self._in_rate // math.gcd(self._in_rate, self._out_rate)
        self._skip = -(-n // period) * period
        self._n_out = self._skip * self._out_rate // self._in_rate

    def _continue(self, x: np.ndarray, time: float | None) -> Iterator[Samples]:
        assert self._origin is not None
        gap = 0 if time is None else round((time - self._origin) * self._in_rate) - self._n_in
        if abs(gap) <= TOLERANCE * self._in_rate:
            yield from self._feed(self._followed(x, gap))
            return
        self._drift = 0.0
        if gap > 0:
            yield from self._silence(gap)
        else:
            self._counts["audio overlaps"] += 1
            x = x[-gap:]
        yield from self._feed(x)

    def _followed(self, x: np.ndarray, gap: int) -> np.ndarray:
        """`x` with some samples more or less, where the timestamps have been ahead of their count or behind it."""
        self._drift += (gap - self._drift) * min(len(x) / (SETTLE * self._in_rate), 1.0)
        if abs(self._drift) <= DRIFT * self._in_rate or len(x) < 2:
            return x
        most = max(len(x) // STRETCH, 1)
        more = max(-most, min(most, round(self._drift)))
        self._drift -= more
        at = np.linspace(0, len(x) - 1, len(x) + more)
        return np.stack([np.interp(at, np.arange(len(x)), c) for c in x.T], 1).astype(np.float32)

    def _silence(self, n: int) -> Iterator[Samples]:
        self._counts["audio gaps"] += 1
        while n > 0 and not self.done:
            step = min(n, self._in_rate)
            yield from self._feed(np.zeros((step, self._n_channels), np.float32))
            n -= step

    def _feed(self, x: np.ndarray) -> Iterator[Samples]:
        assert self._origin is not None
        if self.done or not len(x):
            return
        end = (self._end - self._origin) * self._in_rate
        if end < math.inf:
            x = x[: max(math.ceil(end - 1e-3) - self._n_in, 0)]
        early = max(self._skip - self._n_in, 0)
        self._n_in += len(x)
        if self._n_in > self._max_seconds * self._in_rate:
            raise LimitError("seconds", f"more than {self._max_seconds:.0f} s of sound")
        if early < len(x):
            self._waiting.append(x[early:])
        if sum(map(len, self._waiting)) >= PIECE * self._in_rate:
            yield from self._deliver()
        if self._n_in >= end - 1e-3:
            yield from self.flush()

    def _deliver(self) -> Iterator[Samples]:
        """Push what waits through the resampler."""
        x = np.concatenate([*self._waiting, np.zeros((0, self._n_channels), np.float32)])
        self._waiting.clear()
        if len(x) and self._resampler is not None:
            yield from self._piece(self._resampler.feed(x.mean(1, keepdims=True) if self._spec.mono else x))

    def _piece(self, y: np.ndarray) -> Iterator[Samples]:
        if len(y):
            time = self.clock
            self._n_out += len(y)
            yield Samples(time, torch.from_numpy(y))


def _nothing(frame: Any) -> np.ndarray:
    """As many zeros as a frame has samples."""
    return np.broadcast_to(np.float32(0), (frame.samples, frame.layout.nb_channels))


def waveform(frame: Any) -> np.ndarray:
    """An av audio frame as float32 [S, C], full scale ±1."""
    n_channels = frame.layout.nb_channels
    if frame.format.is_planar and n_channels > 8:
        frame = av.AudioResampler(format="flt").resample(frame)[0]
    x = frame.to_ndarray()
    x = x.T if frame.format.is_planar else x.reshape(-1, n_channels)
    if x.dtype == np.uint8:
        return ((x.astype(np.float32) - 128) / 128).astype(np.float32)
    if x.dtype.kind == "i":
        return (x / np.float32(-float(np.iinfo(x.dtype).min))).astype(np.float32)
    return np.asarray(x, np.float32)
