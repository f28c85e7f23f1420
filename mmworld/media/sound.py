"""From decoded audio frames to one seamless signal: float32, gaps filled, bad samples silenced, resampled without
joints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
import torch

from mmworld.errors import LimitError, UsageError
from mmworld.media.pictures import Hole

if TYPE_CHECKING:
    from collections import Counter

    from torch import Tensor

TOLERANCE = 0.02
"""Seconds by which timestamps may wander from the count of samples before it is a gap or an overlap."""
HOLE = 0.05
"""Seconds from which on a gap may be a `Hole`."""
DRIFT, SETTLE, STRETCH = 0.005, 10.0, 1000
"""Seconds by which they may wander lastingly, taken over so many, before frames are made longer or shorter, by one
sample in so many: a sound card's clock is off by some 50 millionths, and nobody hears it set right.
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
        holes: a gap in the timestamps is a `Hole`; else silence.
    """

    rate: int | None = None
    mono: bool = False
    holes: bool = False

    def __post_init__(self) -> None:
        if self.rate is not None and not 1_000 <= self.rate <= 384_000:
            raise UsageError(f"rate must be 1000 to 384000 samples/s, is {self.rate}")


class SoundTrack:
    """Takes decoded frames, gives `Samples` that tile the time from the first one on.

    Piece k starts at t0 + (samples before it) / rate. A gap in the timestamps becomes silence, or a `Hole` after which
    a new t0 is counted from, an overlap is cut; where the samples drift from the timestamps, they are stretched to
    follow them.
    """

    def __init__(self, spec: Sound, start: float, end: float, counts: Counter[str], max_seconds: float) -> None:
        self._spec, self._start, self._end = spec, start, end
        self._counts, self._max_seconds = counts, max_seconds
        self._origin: float | None = None  # time of the first sample kept
        self._n_in = 0
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
    def _out_rate(self) -> int:
        return self._spec.rate or self._in_rate

    def push(self, time: float | None, duration: float, frame: Any, damaged: bool = False) -> Iterator[Samples | Hole]:
        """The pieces that are complete once `frame` is known."""
        x = self._clean(waveform(frame))
        if self._resampler is None:
            self._in_rate, self._n_channels = frame.sample_rate, x.shape[1]
            self._resampler = Resampler(frame.sample_rate, self._out_rate)
        elif frame.sample_rate != self._in_rate:
            self._counts["rate change"] += 1
            x = _again(x, frame.sample_rate, self._in_rate)
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

    def _clean(self, x: np.ndarray) -> np.ndarray:
        if np.abs(x).max(initial=0) <= LOUDEST:  # false for NaN as well
            return x
        bad = ~np.isfinite(x)
        self._counts["corrupt samples"] += int(bad.sum())
        return np.clip(np.where(bad, np.float32(0), x), -LOUDEST, LOUDEST)

    def _first(self, x: np.ndarray, time: float | None) -> tuple[np.ndarray, float]:
        """What of the first frame lies at or after the start; that fixes the origin of all times."""
        time = 0.0 if time is None else time
        skip = max(0, math.ceil((self._start - time) * self._in_rate - 1e-3))
        if skip < len(x):
            self._origin = time + skip / self._in_rate
        return x[skip:], time + min(skip, len(x)) / self._in_rate

    def _continue(self, x: np.ndarray, time: float | None) -> Iterator[Samples | Hole]:
        assert self._origin is not None
        gap = 0 if time is None else round((time - self._origin) * self._in_rate) - self._n_in
        if abs(gap) <= TOLERANCE * self._in_rate:
            yield from self._feed(self._followed(x, gap))
            return
        self._drift = 0.0
        if gap > HOLE * self._in_rate and self._spec.holes and time is not None:
            yield from self._hole(time)
        elif gap > 0:
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

    def _hole(self, time: float) -> Iterator[Samples | Hole]:
        """Nothing until `time`, when a new stretch begins."""
        self._counts["audio gaps"] += 1
        yield from self.flush()
        end, self.done = self.clock, time >= self._end
        self._origin, self._n_in, self._n_out = time, 0, 0
        self._resampler = Resampler(self._in_rate, self._out_rate)
        yield Hole(end, min(time, self._end), "audio")

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
        self._n_in += len(x)
        if self._n_in > self._max_seconds * self._in_rate:
            raise LimitError("seconds", f"more than {self._max_seconds:.0f} s of sound")
        self._waiting.append(x)
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


class Resampler:
    """float32 [S, C] at one rate to another by libswresample; any cutting of the input gives the same output.

    S samples in make round(S * rate_out / rate_in) out, sample n standing at n / rate_out.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._rate_in, self._rate_out = rate_in, rate_out
        self._resampler = av.AudioResampler(format="flt", rate=rate_out)
        self._n_channels = 0
        self._n_in = self._n_out = 0

    def feed(self, x: np.ndarray) -> np.ndarray:
        """Samples that are settled once `x` [S, C] is known."""
        self._n_channels = x.shape[1]
        if self._rate_in == self._rate_out:
            return x
        layout = "mono" if self._n_channels == 1 else f"{self._n_channels} channels"
        flat = np.ascontiguousarray(x, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(flat, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate_in, self._n_in, Fraction(1, self._rate_in)
        self._n_in += len(x)
        parts = [f.to_ndarray().reshape(-1, self._n_channels) for f in self._resampler.resample(frame)]
        self._n_out += sum(map(len, parts))
        return np.concatenate(parts) if parts else np.zeros((0, self._n_channels), np.float32)

    def flush(self) -> np.ndarray:
        """The rest, as if silence followed; libswresample's own flush loses the end of very short sounds."""
        left = round(Fraction(self._n_in * self._rate_out, self._rate_in)) - self._n_out
        silence = np.zeros((64 + 64 * self._rate_in // self._rate_out, self._n_channels), np.float32)
        return self.feed(silence)[: max(left, 0)] if self._n_in else silence[:0]


def _again(x: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    resampler = Resampler(rate_in, rate_out)
    return np.concatenate([resampler.feed(x), resampler.flush()])


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
