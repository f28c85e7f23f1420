"""A live stream at a lower rate, evenly, for as long as the model is slower than it is."""

from __future__ import annotations

import math

from mmworld.stream.policy import TICK

LEVELS = tuple(1 / 2 + i / 16 for i in range(8))
"""Shares of the room for what waits: each that is reached halves the rate once more, and less than half of it doubles
the rate again."""


class Thin:
    """Lets every unit of a stream through, every second one, every fourth and so on, by how much waits. It goes by what
    came, and what waited then, alone.

    Args:
        unit: seconds that are let through or left out together, as an encoder makes one block of them and begins anew
            after what is left out; a chunk is never parted, so that 0 makes each a unit.
    """

    def __init__(self, unit: float) -> None:
        self._unit = unit
        self._halved = 0
        self._begun = -math.inf
        self._since: float = math.inf

    @property
    def step(self) -> int:
        """One unit in so many is let through."""
        return 1 << self._halved

    def passes(self, start: float, filled: float) -> bool:
        """Whether what starts at `start` seconds is let through.

        Args:
            filled: the share of the room that is taken by what waits.
        """
        if not self._begun <= start < self._begun + self._unit - TICK:
            self._begun = start
            self._settle(filled)
            self._since = self._since + 1 if self._since + 1 < self.step else 0
        return self._since == 0

    def _settle(self, filled: float) -> None:
        while self._halved < len(LEVELS) and filled >= LEVELS[self._halved]:
            self._halved += 1
        while self._halved and filled < LEVELS[self._halved - 1] / 2:
            self._halved -= 1
