"""Sound at another rate, without joints."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np


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


def again(x: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """A whole sound [S, C] at another rate."""
    resampler = Resampler(rate_in, rate_out)
    return np.concatenate([resampler.feed(x), resampler.flush()])
