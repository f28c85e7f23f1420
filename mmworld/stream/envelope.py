"""A sound or a series at a few values a second, made as it streams: the same whatever the chunks were."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmworld.types import Chunk

Array = NDArray[np.floating[Any]]
EDGE = 1e-6
"""Of a cell: a time on an edge is in the cell after it, whatever sum it came from."""


def times(chunk: Chunk) -> Array:
    """Seconds [T] at which the rows of a chunk begin, evenly spread over it."""
    n = len(chunk.data)
    return chunk.start + np.arange(n) * (chunk.end - chunk.start) / max(n, 1)


def cells(at: Array, rate: float) -> Array:
    """In which cell each time [T] lies; cells begin at multiples of 1 / rate seconds of the clock."""
    return np.floor(np.asarray(at, np.float64) * rate + EDGE)


class Envelope:
    """Lowest and highest sample of each cell of time.

    Args:
        rate: cells a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._last: Array = np.zeros(0)  # the cell [1] that has begun, and its lowest and highest sample so far
        self._low = self._high = np.zeros(0)

    def add(self, at: Array, values: Array) -> tuple[Array, Array, Array]:
        """When the cells begin that are over [M], in seconds, and the lowest and highest value [M] of each.

        Args:
            at: seconds [T], T > 0, in order, none before those of an earlier call.
            values: [T].
        """
        there = np.concatenate([self._last, cells(at, self._rate)])
        firsts = np.flatnonzero(np.diff(there, prepend=-np.inf))
        low = np.minimum.reduceat(np.concatenate([self._low, values]), firsts)
        high = np.maximum.reduceat(np.concatenate([self._high, values]), firsts)
        begun = there[firsts]
        self._last, self._low, self._high = begun[-1:], low[-1:], high[-1:]
        return begun[:-1] / self._rate, low[:-1], high[:-1]

    def rest(self) -> tuple[Array, Array, Array]:
        """The same of the cell that has begun, if one has."""
        return self._last / self._rate, self._low, self._high


class Thinning:
    """Which of many come first in their cells of time: at most `rate` a second."""

    def __init__(self, rate: float) -> None:
        self._rate, self._last = rate, -np.inf

    def kept(self, at: Array) -> NDArray[np.intp]:
        """Indices into times [T], T > 0, in order, none before those of an earlier call."""
        there = cells(at, self._rate)
        found = np.flatnonzero(np.diff(there, prepend=self._last))
        self._last = there[-1]
        return found
