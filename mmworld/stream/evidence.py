"""What is kept of what was perceived: few tokens of each sense, as bytes that are read back strictly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDEST, MOST = 65_536, 4096
"""Numbers in a token, and tokens of one sense."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What is kept of one sense.

    Attributes:
        x: float16 [N, D], tokens as the backbone takes them.
        time: float32 [N], seconds after the evidence's start at which they end, in the mean of what each stands for.
    """

    modality: str
    x: NDArray[np.float16]
    time: NDArray[np.float32]

    def __post_init__(self) -> None:
        n, width = self.x.shape
        if not (0 < n <= MOST and 0 < width <= WIDEST and self.time.shape == (n,)):
            raise ValueError(f"{self.modality}: tokens {self.x.shape} with times {self.time.shape}")

    @classmethod
    def of(cls, modality: str, width: int, x: bytes, time: bytes) -> Trace:
        """The trace whose bytes these are, of tokens as wide as that.

        Raises:
            ValueError: the lengths do not fit together, or a number is infinite or none.
        """
        n, rest = divmod(len(time), 4)
        if rest or not 0 < width <= WIDEST or len(x) != 2 * n * width:
            raise ValueError(f"{modality}: {len(x)} bytes for {len(time) / 4:g} tokens of {width} numbers")
        made = cls(modality, np.frombuffer(x, "<f2").reshape(n, width), np.frombuffer(time, "<f4"))
        if not (np.isfinite(made.x).all() and np.isfinite(made.time).all()):
            raise ValueError(f"{modality}: a token that is not finite")
        return made

    @property
    def nbytes(self) -> int:
        return self.x.nbytes + self.time.nbytes


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is kept of [start, end) seconds of a stream.

    Attributes:
        meaning: where it lies among the meanings of texts, a vector [E]; None if the model does not tell.
    """

    start: float
    end: float
    traces: tuple[Trace, ...]
    source: str = ""
    meaning: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and self.end >= self.start):
            raise ValueError(f"times must be finite and end >= start, got [{self.start}, {self.end})")

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(t.nbytes for t in self.traces)
