"""What a timeline picture needs, kept while the media stream by: a bounded summary of each stream."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmworld.stream.spread import Spread
from mmworld.types import Chunk

Array = NDArray[np.floating[Any]]
WINDOW, CELL = 512, 64
"""Samples of one spectrum, and of one stroke of the wave."""


class Bins:
    """Lowest and highest of `width` values in `n` (even) bins of time; past the last one they join in pairs."""

    def __init__(self, width: int, *, n: int = 2048, step: float = 0.01) -> None:
        self.n = n
        self.step = step
        self.start: float | None = None
        self.low = np.full((n, width), np.inf)
        self.high = np.full((n, width), -np.inf)

    def add(self, times: Array, low: Array, high: Array) -> None:
        """Values [K, width] at times [K]."""
        if not len(times):
            return
        self.start = float(times[0]) if self.start is None else self.start
        while times[-1] >= self.start + self.n * self.step:
            self._join()
        edge = 1e-6  # a time on an edge is in the bin after it, whatever sum it came from
        index = ((times - self.start) / self.step + edge).astype(int).clip(0, self.n - 1)
        np.minimum.at(self.low, index, low)
        np.maximum.at(self.high, index, high)

    def series(self) -> tuple[Array, Array, Array]:
        """Times [M] of the middles of the bins that hold something, and their low and high [M, width]."""
        used = np.flatnonzero(np.isfinite(self.high[:, 0]))
        return (self.start or 0.0) + (used + 0.5) * self.step, self.low[used], self.high[used]

    def _join(self) -> None:
        low, high = (x.reshape(self.n // 2, 2, -1) for x in (self.low, self.high))
        self.low = np.concatenate([low.min(1), np.full_like(low[:, 0], np.inf)])
        self.high = np.concatenate([high.max(1), np.full_like(high[:, 0], -np.inf)])
        self.step *= 2


class Timeline:
    """Thumbnails, wave, spectrum, clouds and traces of one input.

    Args:
        thumbnail: pixels of the longer side of a kept frame.
        bands: of the spectrum, spaced as the ear does.
    """

    def __init__(self, *, thumbnail: int = 160, bands: int = 48) -> None:
        self.frames: Spread[NDArray] = Spread(48)
        self.clouds: Spread[NDArray] = Spread(12)
        self.wave = Bins(1)
        self.spectrum = Bins(bands)
        self.traces: Bins | None = None
        self.rate = 0
        self.end = 0.0
        self._thumbnail = thumbnail
        self._bands = bands
        self._rest = np.zeros(0)

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk as it goes to the model."""
        self.end = max(self.end, chunk.end)
        data = chunk.data.detach().cpu().numpy()
        if data.shape[0]:
            kind = {"image": self._picture, "video": self._picture, "audio": self._sound}
            kind.get(chunk.modality, self._cloud if chunk.modality == "points" else self._trace)(chunk, data)

    def _picture(self, chunk: Chunk, data: NDArray) -> None:
        stride = max(1, max(data.shape[2:]) // self._thumbnail)
        for time, picture in zip(_times(chunk, len(data)), data, strict=True):
            small = picture[:, ::stride, ::stride].transpose(1, 2, 0)
            self.frames.add(float(time), small.copy)

    def _sound(self, chunk: Chunk, data: NDArray) -> None:
        """Whole windows; what is left over begins the next chunk's."""
        self.rate = self.rate or round(len(data) / max(chunk.end - chunk.start, 1e-9))
        start = chunk.start - len(self._rest) / self.rate
        samples = np.concatenate([self._rest, data.mean(1)])
        n = len(samples) // WINDOW
        self._rest = samples[n * WINDOW :]
        windows = samples[: n * WINDOW].reshape(n, WINDOW)
        power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)) ** 2 @ self._filters()
        self.spectrum.add(start + (np.arange(n) + 0.5) * WINDOW / self.rate, power, power)
        cells = windows.reshape(-1, CELL)
        times = start + (np.arange(len(cells)) + 0.5) * CELL / self.rate
        self.wave.add(times, cells.min(1, keepdims=True), cells.max(1, keepdims=True))

    def _filters(self) -> Array:
        """[WINDOW // 2 + 1, bands]: triangles spaced evenly in mels (O'Shaughnessy 1987)."""
        mel = 2595 * np.log10(1 + np.linspace(0, self.rate / 2, WINDOW // 2 + 1) / 700)
        centres = np.linspace(0, mel[-1], self._bands + 2)[1:-1]
        width = max(centres[0], mel[1])
        return np.maximum(0, 1 - np.abs(mel[:, None] - centres) / width)

    def _cloud(self, chunk: Chunk, data: NDArray) -> None:
        stride = max(1, len(data) // 1500)
        self.clouds.add(chunk.start, data[::stride].copy)

    def _trace(self, chunk: Chunk, data: NDArray) -> None:
        width = min(data.shape[1], 6)
        self.traces = self.traces or Bins(width)
        values = np.nan_to_num(data[:, :width])
        self.traces.add(_times(chunk, len(data)), values, values)


def _times(chunk: Chunk, n: int) -> Array:
    return chunk.start + np.arange(n) * (chunk.end - chunk.start) / n
